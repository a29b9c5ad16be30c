//! Reaches an upstream through a forward proxy: connects to the proxy and opens a tunnel.
//!
//! The forward proxy gets the target's host and port, its own credentials and its own headers.
//! Requests pass through the tunnel as bytes, also for `http` targets. The target sees no header of
//! the forward proxy.

mod connect;
mod socks5;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_socks::TargetAddr;

use super::connect::tcp;
use super::origin::{Origin, describe_error};
use crate::config::HttpVersion;
use crate::error::{Error, Result};
use crate::tls::Connector;

pub use connect::Connect;
pub use socks5::Socks5;

/// The forward proxy of one upstream.
#[derive(Debug)]
pub struct ForwardProxyConnector {
    /// Its URL without credentials, for messages.
    pub url: Arc<str>,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The TLS client for the forward proxy and the name in its certificate; `None` for `http` and
    /// SOCKS5.
    pub tls: Option<Connector>,
    /// How a tunnel is requested.
    pub protocol: ProxyProtocol,
}

/// How a tunnel is requested from a forward proxy.
#[derive(Debug)]
pub enum ProxyProtocol {
    /// HTTP/1.1's CONNECT.
    Connect(Connect),
    /// SOCKS5.
    Socks5(Socks5),
}

/// An open connection to the forward proxy; after [`ForwardProxyConnector::open`], to the target.
pub(super) enum Tunnel {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ForwardProxyConnector {
    /// Connects to the forward proxy and opens a tunnel to the upstream. With SOCKS5 and addresses,
    /// each address that cannot be reached costs a connection. Cancel safe: dropping the future
    /// closes the connection.
    pub(super) async fn open(&self, origin: &Origin, http: HttpVersion) -> Result<Tunnel> {
        let requests: Vec<_> = match &self.protocol {
            ProxyProtocol::Connect(connect) => vec![TunnelRequest::Connect(connect, origin.may_begin(http))],
            ProxyProtocol::Socks5(socks5) => {
                let targets = socks5.targets(&origin.host, origin.port).await;
                let targets = targets.map_err(|reason| self.failed(origin, reason))?;
                targets.into_iter().map(|target| TunnelRequest::Socks5(socks5, target)).collect()
            }
        };
        let mut refused = self.failed(origin, "the target has no address");
        for request in requests {
            let opened = match self.connect(origin).await? {
                Tunnel::Tcp(tcp) => request.send(tcp).await.map(Tunnel::Tcp),
                Tunnel::Tls(tls) => request.send(tls).await.map(Tunnel::Tls),
            };
            refused = match opened {
                Ok(tunnel) => return Ok(tunnel),
                Err(TunnelError::Status(status)) => Error::ProxyRefused {
                    upstream: origin.name.to_string(),
                    proxy: self.url.to_string(),
                    status: status.as_u16(),
                },
                Err(TunnelError::Failed(reason)) => self.failed(origin, reason),
            };
        }
        Err(refused)
    }

    /// Connects to the forward proxy.
    async fn connect(&self, origin: &Origin) -> Result<Tunnel> {
        let (tcp, _) = tcp(&self.host, self.port, origin)
            .await
            .map_err(|error| self.failed(origin, describe_error(&error)))?;
        let Some(tls) = &self.tls else { return Ok(Tunnel::Tcp(tcp)) };
        let tls =
            TlsConnector::from(tls.config()).connect(tls.name().clone(), tcp).await.map_err(|error| {
                self.failed(
                    origin,
                    format_args!("no TLS session with the proxy itself: {}", describe_error(&error)),
                )
            })?;
        if let Some(observer) = &origin.observer {
            observer.on_proxy_tls(tls.get_ref().1);
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

/// The request for one tunnel.
enum TunnelRequest<'a> {
    /// The flag: the target may speak first.
    Connect(&'a Connect, bool),
    Socks5(&'a Socks5, TargetAddr<'a>),
}

impl TunnelRequest<'_> {
    async fn send<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> std::result::Result<S, TunnelError> {
        match self {
            Self::Connect(connect, target_may_begin) => connect.open(stream, target_may_begin).await,
            Self::Socks5(socks5, target) => socks5.open(stream, target).await,
        }
    }
}

/// Why there is no tunnel.
#[derive(Debug)]
enum TunnelError {
    /// The forward proxy responded with this status.
    Status(http::StatusCode),
    /// There was no valid response.
    Failed(String),
}
