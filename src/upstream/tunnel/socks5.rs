//! SOCKS5 (RFC 1928), with a name and a password (RFC 1929) where there are some.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_socks::tcp::Socks5Stream;
use tokio_socks::{IntoTargetAddr, TargetAddr};

use super::Refusal;
use crate::resolver::Resolver;
use crate::secret::Secret;
use crate::upstream::origin::in_words;
use crate::upstream::race;

/// The most addresses of a target that a proxy is asked for, one after the other.
const MOST_TARGETS: usize = 4;

/// What a SOCKS5 proxy is told.
#[derive(Debug)]
pub struct Socks5 {
    /// Whether names are looked up here and the proxy gets an address; else it gets the name.
    pub resolve_here: bool,
    /// A name and a password, each of 1 to 255 bytes.
    pub credentials: Option<(String, Secret)>,
}

impl Socks5 {
    /// Asks for a tunnel to one of [`Socks5::targets`].
    pub(super) async fn open<S>(&self, stream: S, target: TargetAddr<'_>) -> Result<S, Refusal>
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
            Err(tokio_socks::Error::Io(error)) => Err(Refusal::Failed(in_words(&error))),
            Err(error) => Err(Refusal::Failed(format!("SOCKS5: {error}"))),
        }
    }

    /// What to ask for, in this order: the name, or addresses of it; at least one.
    pub(super) async fn targets<'a>(&self, host: &'a str, port: u16) -> Result<Vec<TargetAddr<'a>>, String> {
        if !self.resolve_here {
            let target = (host, port).into_target_addr().map_err(|error| error.to_string())?;
            return Ok(vec![target]);
        }
        let unknown = |reason: String| format!("the target's name cannot be looked up here: {reason}");
        let found =
            Resolver::system().lookup(host, port).await.map_err(|error| unknown(error.to_string()))?;
        let addresses = race::ordered(found, None).into_iter().take(MOST_TARGETS);
        Ok(addresses.map(TargetAddr::Ip).collect())
    }
}
