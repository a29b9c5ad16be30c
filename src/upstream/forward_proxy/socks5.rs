//! SOCKS5 (RFC 1928), optionally with username and password (RFC 1929).

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_socks::tcp::Socks5Stream;
use tokio_socks::{IntoTargetAddr, TargetAddr};

use super::TunnelError;
use crate::support::secret::Secret;
use crate::upstream::race;
use crate::upstream::resolver::Resolver;

/// The largest number of addresses of a target that are requested one after another.
const MOST_TARGETS: usize = 4;

/// The options of a SOCKS5 proxy.
#[derive(Debug)]
pub struct Socks5 {
    /// Resolve the target's name here and send an address; otherwise the proxy gets the name.
    pub resolve_here: bool,
    /// Username and password, each of 1 to 255 bytes.
    pub credentials: Option<(String, Secret)>,
}

impl Socks5 {
    /// Requests a tunnel to one of [`Socks5::targets`].
    pub(super) async fn open<S>(&self, stream: S, target: TargetAddr<'_>) -> Result<S, TunnelError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let opened = match &self.credentials {
            Some((name, password)) => {
                Socks5Stream::connect_with_password_and_socket(stream, target, name, password.expose()).await
            }
            None => Socks5Stream::connect_with_socket(stream, target).await,
        };
        match opened {
            Ok(stream) => Ok(stream.into_inner()),
            Err(tokio_socks::Error::Io(error)) => Err(TunnelError::Io(error)),
            Err(error) => Err(TunnelError::Socks5(error)),
        }
    }

    /// The targets to request, in order: the name, or its addresses; at least one.
    pub(super) async fn targets<'a>(
        &self,
        host: &'a str,
        port: u16,
    ) -> Result<Vec<TargetAddr<'a>>, TunnelError> {
        if !self.resolve_here {
            let target = (host, port).into_target_addr().map_err(TunnelError::Target)?;
            return Ok(vec![target]);
        }
        let found = Resolver::system().lookup(host, port).await.map_err(TunnelError::Lookup)?;
        let addresses = race::ordered(found, None).into_iter().take(MOST_TARGETS);
        Ok(addresses.map(TargetAddr::Ip).collect())
    }
}
