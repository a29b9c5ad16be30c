//! Reaches an upstream through a forward proxy: connects to the proxy and opens a tunnel.
//!
//! The forward proxy gets the target's host and port, its own credentials and its own headers.
//! Requests pass through the tunnel as bytes, also for `http` targets. The target sees no header of
//! the forward proxy.

mod connect;
mod socks5;

use std::sync::Arc;
use std::{fmt, io};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_socks::TargetAddr;

use super::connect::tcp;
use super::connect_spec::ConnectSpec;
use super::error::{SendCause, SendError, SendPhase, describe_error};
use crate::codec::h1::ProtocolError;
use crate::config::HttpVersion;
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
    /// The protocol for requesting a tunnel.
    pub protocol: ProxyProtocol,
}

/// The protocol for requesting a tunnel from a forward proxy.
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
    pub(super) async fn open(&self, spec: &ConnectSpec, http: HttpVersion) -> Result<Tunnel, SendError> {
        let requests: Vec<_> = match &self.protocol {
            ProxyProtocol::Connect(connect) => vec![TunnelRequest::Connect(connect, spec.may_begin(http))],
            ProxyProtocol::Socks5(socks5) => {
                let targets = socks5.targets(&spec.host, spec.port).await;
                let targets = targets.map_err(|error| self.failed(error))?;
                targets.into_iter().map(|target| TunnelRequest::Socks5(socks5, target)).collect()
            }
        };
        let mut refused = self.failed(TunnelError::NoAddress);
        for request in requests {
            let opened = match self.connect(spec).await? {
                Tunnel::Tcp(tcp) => request.send(tcp).await.map(Tunnel::Tcp),
                Tunnel::Tls(tls) => request.send(tls).await.map(Tunnel::Tls),
            };
            refused = match opened {
                Ok(tunnel) => return Ok(tunnel),
                Err(error) => self.failed(error),
            };
        }
        Err(refused)
    }

    /// Connects to the forward proxy.
    async fn connect(&self, spec: &ConnectSpec) -> Result<Tunnel, SendError> {
        let (tcp, _) =
            tcp(&self.host, self.port, spec).await.map_err(|error| self.failed(TunnelError::Io(error)))?;
        let Some(tls) = &self.tls else { return Ok(Tunnel::Tcp(tcp)) };
        let connecting = TlsConnector::from(tls.config()).connect(tls.name().clone(), tcp);
        let tls = connecting.await.map_err(|error| self.failed(TunnelError::Tls(error)))?;
        if let Some(observer) = &spec.observer {
            observer.on_proxy_tls(tls.get_ref().1);
        }
        Ok(Tunnel::Tls(Box::new(tls)))
    }

    fn failed(&self, error: TunnelError) -> SendError {
        SendError::new(SendPhase::Connect, SendCause::ForwardProxy(Arc::clone(&self.url), Arc::new(error)))
    }
}

/// The request for one tunnel.
enum TunnelRequest<'a> {
    /// The flag: the target may speak first.
    Connect(&'a Connect, bool),
    Socks5(&'a Socks5, TargetAddr<'a>),
}

impl TunnelRequest<'_> {
    async fn send<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> Result<S, TunnelError> {
        match self {
            Self::Connect(connect, target_may_begin) => connect.open(stream, target_may_begin).await,
            Self::Socks5(socks5, target) => socks5.open(stream, target).await,
        }
    }
}

/// The reason for which there is no tunnel.
#[derive(Debug)]
pub enum TunnelError {
    /// The forward proxy responded with this status.
    Status(StatusCode),
    /// The connection to the forward proxy failed.
    Io(io::Error),
    /// The TLS session with the forward proxy failed.
    Tls(io::Error),
    /// The response to CONNECT breaks HTTP.
    Http1(ProtocolError),
    /// Bytes followed the response to CONNECT, though the target does not speak first.
    EarlyBytes,
    /// 101 was the response to CONNECT.
    Switched,
    /// The connection was closed without a response.
    Closed,
    /// SOCKS5 failed.
    Socks5(tokio_socks::Error),
    /// The target cannot be written in SOCKS5.
    Target(tokio_socks::Error),
    /// The target's name cannot be resolved.
    Lookup(io::Error),
    /// The target's name has no address.
    NoAddress,
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "it responded with {}", status.as_u16()),
            Self::Io(error) => f.write_str(&describe_error(error)),
            Self::Tls(error) => {
                write!(f, "no TLS session with the proxy itself: {}", describe_error(error))
            }
            Self::Http1(error) => write!(f, "it broke HTTP: {error}"),
            Self::EarlyBytes => f.write_str("it sent bytes into the tunnel before the request"),
            Self::Switched => f.write_str("it switched protocols without a request"),
            Self::Closed => f.write_str("it closed the connection without a response"),
            Self::Socks5(error) => write!(f, "SOCKS5: {error}"),
            Self::Target(error) => write!(f, "{error}"),
            Self::Lookup(error) => write!(f, "the target's name cannot be looked up here: {error}"),
            Self::NoAddress => f.write_str("the target has no address"),
        }
    }
}

impl std::error::Error for TunnelError {}
