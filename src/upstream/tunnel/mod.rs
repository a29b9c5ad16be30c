//! The way through a proxy: a connection to it, made into one to the target.
//!
//! The proxy learns the target's host and port and its own credentials and headers, and nothing of
//! the requests; they go through it as bytes, also to `http` targets. The target learns nothing of
//! the proxy.

mod connect;
mod socks5;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_socks::TargetAddr;

use super::connect::tcp;
use super::origin::{Origin, in_words};
use crate::config::HttpVersion;
use crate::error::{Error, Result};
use crate::tls::Connector;

pub use connect::Connect;
pub use socks5::Socks5;

/// A proxy on the way to one target.
#[derive(Debug)]
pub struct Proxy {
    /// Its URL without credentials, for messages.
    pub url: Arc<str>,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The TLS client for the proxy itself and the name that its certificate must bear; none for
    /// `http` and SOCKS5.
    pub tls: Option<Connector>,
    /// What is said to it.
    pub opening: Opening,
}

/// How a proxy is asked for a tunnel.
#[derive(Debug)]
pub enum Opening {
    /// HTTP/1.1's CONNECT.
    Connect(Connect),
    /// SOCKS5.
    Socks5(Socks5),
}

/// A tunnel that stands: what is written into it reaches the target.
pub(super) enum Tunnel {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Proxy {
    /// Connects to the proxy and has it connect to the target, to speak `http` with it. Where
    /// SOCKS5 is given addresses, each that it cannot reach costs a connection. Cancel safe:
    /// dropped, it closes the connection.
    pub(super) async fn open(&self, origin: &Origin, http: HttpVersion) -> Result<Tunnel> {
        let asks: Vec<_> = match &self.opening {
            Opening::Connect(connect) => vec![Ask::Connect(connect, origin.may_begin(http))],
            Opening::Socks5(socks5) => {
                let targets = socks5.targets(&origin.host, origin.port).await;
                let targets = targets.map_err(|reason| self.failed(origin, reason))?;
                targets.into_iter().map(|target| Ask::Socks5(socks5, target)).collect()
            }
        };
        let mut refused = self.failed(origin, "the target has no address");
        for ask in asks {
            let asked = match self.connect(origin).await? {
                Tunnel::Tcp(tcp) => ask.on(tcp).await.map(Tunnel::Tcp),
                Tunnel::Tls(tls) => ask.on(tls).await.map(Tunnel::Tls),
            };
            refused = match asked {
                Ok(tunnel) => return Ok(tunnel),
                Err(Refusal::Status(status)) => Error::ProxyRefused {
                    upstream: origin.name.to_string(),
                    proxy: self.url.to_string(),
                    status: status.as_u16(),
                },
                Err(Refusal::Failed(reason)) => self.failed(origin, reason),
            };
        }
        Err(refused)
    }

    /// Connects to the proxy itself.
    async fn connect(&self, origin: &Origin) -> Result<Tunnel> {
        let (tcp, _) = tcp(&self.host, self.port, origin)
            .await
            .map_err(|error| self.failed(origin, in_words(&error)))?;
        let Some(tls) = &self.tls else { return Ok(Tunnel::Tcp(tcp)) };
        let tls =
            TlsConnector::from(tls.config()).connect(tls.name().clone(), tcp).await.map_err(|error| {
                self.failed(
                    origin,
                    format_args!("no TLS session with the proxy itself: {}", in_words(&error)),
                )
            })?;
        if let Some(observer) = &origin.observer {
            observer.secured_with_proxy(tls.get_ref().1);
        }
        Ok(Tunnel::Tls(Box::new(tls)))
    }

    fn failed(&self, origin: &Origin, reason: impl ToString) -> Error {
        Error::ProxyFailed {
            upstream: origin.name.to_string(),
            proxy: self.url.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// What a proxy is asked for.
enum Ask<'a> {
    /// The target; and whether that may send something before it is asked.
    Connect(&'a Connect, bool),
    Socks5(&'a Socks5, TargetAddr<'a>),
}

impl Ask<'_> {
    async fn on<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> std::result::Result<S, Refusal> {
        match self {
            Self::Connect(connect, target_may_begin) => connect.open(stream, target_may_begin).await,
            Self::Socks5(socks5, target) => socks5.open(stream, target).await,
        }
    }
}

/// Why there is no tunnel.
#[derive(Debug)]
enum Refusal {
    /// The proxy said no.
    Status(http::StatusCode),
    /// It said nothing that can be understood.
    Failed(String),
}
