//! A new connection: direct or through a forward proxy, then TLS.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant as TokioInstant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect_spec::ConnectSpec;
use super::error::{SendError, SendPhase, Violation, alert};
use super::forward_proxy::{ForwardProxyConnector, Tunnel};
use super::http2::Ending;
use super::race;
use super::stream::{Stream, Wire};
use crate::config::HttpVersion;
use crate::record::error::Kind;
use crate::tls::{HTTP_1_1, HTTP_2};
use crate::upstream::resolver::Resolver;

/// Connects within `timeouts.connect` and before `total`. `http` decides the ALPN offer.
pub(super) async fn connect(
    spec: &ConnectSpec,
    total: Option<Instant>,
    http: HttpVersion,
) -> Result<Stream, SendError> {
    let limit = Instant::now() + spec.timeouts.connect;
    let deadline = total.map_or(limit, |total| total.min(limit));
    let waiting_for = Cell::new(None);
    match timeout_at(TokioInstant::from_std(deadline), dial(spec, http, &waiting_for)).await {
        Ok(result) => result,
        Err(_) if deadline < limit => Err(SendError::new(SendPhase::Connect, spec.total_timeout(false))),
        Err(_) => {
            let limit = spec.timeouts.connect;
            let kind = match waiting_for.get() {
                Some(proxy) => Kind::ProxySilent { proxy: proxy.url.to_string(), limit },
                None => Kind::ConnectTimeout { limit },
            };
            Err(SendError::new(SendPhase::Connect, kind))
        }
    }
}

/// `waiting_for` holds the forward proxy until its tunnel is open, so that a timeout names it.
async fn dial<'a>(
    spec: &'a ConnectSpec,
    http: HttpVersion,
    waiting_for: &Cell<Option<&'a ForwardProxyConnector>>,
) -> Result<Stream, SendError> {
    // Read before the certificates: a change in between expires the connection too early, never
    // too late.
    let generation = spec.generation();
    let (tunnel, connect) = match &spec.proxy {
        None if let Some(socket) = &spec.socket => {
            let begun = Instant::now();
            let connected = unix(socket).await;
            let stream = connected.map_err(|error| SendError::new(SendPhase::Connect, error))?;
            (Tunnel::Tcp(stream), begun.elapsed())
        }
        None => {
            let connected = tcp(&spec.host, spec.port, spec).await;
            let (tcp, took) = connected.map_err(|error| SendError::new(SendPhase::Connect, error))?;
            (Tunnel::Tcp(tcp), took)
        }
        Some(proxy) => {
            waiting_for.set(Some(proxy));
            let begun = Instant::now();
            // Boxed because most upstreams have no forward proxy: 9 KB.
            let tunnel = Box::pin(proxy.open(spec, http)).await?;
            waiting_for.set(None);
            (tunnel, begun.elapsed())
        }
    };
    let (wire, is_http2) = match tunnel {
        Tunnel::Tcp(tcp) => {
            let secured = secure(spec, http, tcp).await?;
            let is_http2 = secured.is_http2(http);
            (secured.either(Wire::Tcp, Wire::Tls), is_http2)
        }
        Tunnel::Tls(outer) => {
            let secured = secure(spec, http, outer).await?;
            let is_http2 = secured.is_http2(http);
            (secured.either(Wire::Tls, Wire::TlsInTls), is_http2)
        }
    };
    if let Some(observer) = &spec.observer {
        observer.on_http_version(is_http2);
    }
    let expires = spec.max_connection_age.map(|age| Instant::now() + jittered(age));
    Ok(Stream::new(wire, is_http2, generation).connected_in(connect).expiring(expires))
}

/// Up to a fifth less, so that connections that were opened together are not replaced together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(1.0 - fastrand::f64() / 5.0)
}

/// A TCP connection to the upstream's or the forward proxy's host, and the connect time to the
/// address that accepted it.
pub(super) async fn tcp(host: &str, port: u16, spec: &ConnectSpec) -> io::Result<(TcpStream, Duration)> {
    let addresses = Resolver::system().lookup(host, port).await?;
    if let Some(observer) = &spec.observer {
        observer.on_resolved(&addresses);
    }
    let (tcp, took) = race::connect(addresses, &spec.winner).await?;
    if let Some(observer) = &spec.observer {
        observer.on_connected(tcp.peer_addr().ok());
    }
    // Otherwise (Nagle) the second write of a request waits for the acknowledgement of the first.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    Ok((tcp, took))
}

/// A connection to a Unix socket. Streams of both kinds have the same system calls, so that one type
/// holds both.
async fn unix(socket: &Path) -> io::Result<TcpStream> {
    let stream = UnixStream::connect(socket).await?.into_std()?;
    TcpStream::from_std(OwnedFd::from(stream).into())
}

/// A connection to the upstream, inside the upstream's TLS if it has one.
enum Secured<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

impl<S> Secured<S> {
    /// HTTP/2 is chosen by ALPN with the upstream, or known in advance without TLS (RFC 9113
    /// sections 3.2 and 3.3).
    fn is_http2(&self, http: HttpVersion) -> bool {
        match self {
            Self::Plain(_) => http == HttpVersion::Http2,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(HTTP_2),
        }
    }

    fn either<T>(self, plain: impl FnOnce(S) -> T, tls: impl FnOnce(Box<TlsStream<S>>) -> T) -> T {
        match self {
            Self::Plain(stream) => plain(stream),
            Self::Tls(stream) => tls(stream),
        }
    }
}

async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    spec: &ConnectSpec,
    http: HttpVersion,
    stream: S,
) -> Result<Secured<S>, SendError> {
    let Some(tls) = &spec.tls else { return Ok(Secured::Plain(stream)) };
    let connector = TlsConnector::from(tls.config());
    let connecting = connector.with_alpn(protocols(http)).connect(tls.name().clone(), stream);
    // Boxed, so that the future of a plain connection has no room for it.
    let tls = Box::pin(connecting).await.map_err(|error| match alert(&error) {
        // The peer speaks none of the offered protocols.
        Some(AlertDescription::NoApplicationProtocol) if http == HttpVersion::Http2 => {
            SendError::new(SendPhase::Connect, Ending::Refused)
        }
        // Only a WebSocket overrides the configured HTTP version.
        Some(AlertDescription::NoApplicationProtocol) if http != spec.http => {
            SendError::new(SendPhase::Connect, Violation::NoHttp1ForUpgrade)
        }
        _ => SendError::tls(SendPhase::Connect, error),
    })?;
    if let Some(observer) = &spec.observer {
        observer.on_tls(tls.get_ref().1);
    }
    Ok(Secured::Tls(Box::new(tls)))
}

/// The ALPN offer (RFC 7301), in order of preference.
fn protocols(http: HttpVersion) -> Vec<Vec<u8>> {
    let offered: &[&[u8]] = match http {
        HttpVersion::Auto => &[HTTP_2, HTTP_1_1],
        HttpVersion::Http1 => &[HTTP_1_1],
        HttpVersion::Http2 => &[HTTP_2],
    };
    offered.iter().map(|protocol| protocol.to_vec()).collect()
}
