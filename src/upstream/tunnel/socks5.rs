//! SOCKS5 (RFC 1928), with a name and a password (RFC 1929) where there are some.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_socks::tcp::Socks5Stream;
use tokio_socks::{IntoTargetAddr, TargetAddr};

use super::Refusal;
use crate::resolver::Resolver;
use crate::secret::Secret;
use crate::upstream::origin::in_words;

/// What a SOCKS5 proxy is told.
#[derive(Debug)]
pub struct Socks5 {
    /// Whether names are looked up here and the proxy gets an address; else it gets the name.
    pub resolve_here: bool,
    /// A name and a password, each of 1 to 255 bytes.
    pub credentials: Option<(String, Secret)>,
}

impl Socks5 {
    pub(super) async fn open<S>(&self, stream: S, host: &str, port: u16) -> Result<S, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let target = self.target(host, port).await.map_err(Refusal::Failed)?;
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

    async fn target<'a>(&self, host: &'a str, port: u16) -> Result<TargetAddr<'a>, String> {
        if !self.resolve_here {
            return (host, port).into_target_addr().map_err(|error| error.to_string());
        }
        let unknown = |reason: String| format!("the target's name cannot be looked up here: {reason}");
        let found =
            Resolver::system().lookup(host, port).await.map_err(|error| unknown(error.to_string()))?;
        let address = found.first().ok_or_else(|| unknown("it has no address".to_owned()))?;
        Ok(TargetAddr::Ip(*address))
    }
}
