//! A new connection: straight or through a proxy, then TLS.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant as TokioInstant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::origin::{Origin, in_words};
use super::race;
use super::stream::{Stream, Wire};
use super::tunnel::{Proxy, Tunnel};
use crate::config::HttpVersion;
use crate::error::{Error, Result};
use crate::resolver::Resolver;
use crate::tls::{HTTP_1_1, HTTP_2};

/// Connects within `timeouts.connect`, and before `total`, to speak `http`.
pub(super) async fn connect(origin: &Origin, total: Option<Instant>, http: HttpVersion) -> Result<Stream> {
    let limit = Instant::now() + origin.timeouts.connect;
    let deadline = total.map_or(limit, |total| total.min(limit));
    let waiting_for = Cell::new(None);
    match timeout_at(TokioInstant::from_std(deadline), dial(origin, http, &waiting_for)).await {
        Ok(result) => result,
        Err(_) if deadline < limit => Err(origin.total_timeout(false)),
        Err(_) => {
            let (upstream, limit) = (origin.name.to_string(), origin.timeouts.connect);
            Err(match waiting_for.get() {
                Some(proxy) => Error::ProxySilent { upstream, proxy: proxy.url.to_string(), limit },
                None => Error::ConnectTimeout { upstream, limit },
            })
        }
    }
}

/// `waiting_for` is the proxy as long as it is its turn.
async fn dial<'a>(
    origin: &'a Origin,
    http: HttpVersion,
    waiting_for: &Cell<Option<&'a Proxy>>,
) -> Result<Stream> {
    // Before the certificates themselves are looked at: what changes in between makes the
    // connection old too early, never too late.
    let generation = origin.generation();
    let (tunnel, connect) = match &origin.proxy {
        None => {
            let connected = tcp(&origin.host, origin.port, origin).await;
            let (tcp, took) = connected.map_err(|error| origin.unreachable(in_words(&error)))?;
            (Tunnel::Tcp(tcp), took)
        }
        Some(proxy) => {
            waiting_for.set(Some(proxy));
            let begun = Instant::now();
            // Boxed, as most connections take no such way: 9 KB.
            let tunnel = Box::pin(proxy.open(origin, http)).await?;
            waiting_for.set(None);
            (tunnel, begun.elapsed())
        }
    };
    let (wire, is_http2) = match tunnel {
        Tunnel::Tcp(tcp) => {
            let secured = secure(origin, http, tcp).await?;
            let is_http2 = secured.is_http2(http);
            (secured.either(Wire::Tcp, Wire::Tls), is_http2)
        }
        Tunnel::Tls(outer) => {
            let secured = secure(origin, http, outer).await?;
            let is_http2 = secured.is_http2(http);
            (secured.either(Wire::Tls, Wire::TlsInTls), is_http2)
        }
    };
    if let Some(observer) = &origin.observer {
        observer.speaks(is_http2);
    }
    let expires = origin.max_connection_age.map(|age| Instant::now() + jittered(age));
    Ok(Stream::new(wire, is_http2, generation).connected_in(connect).expiring(expires))
}

/// Up to a fifth less, so that connections that were opened together are not replaced together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(1.0 - fastrand::f64() / 5.0)
}

/// A TCP connection to the host, which is the origin's or its proxy's, and how long the address
/// that took it needed.
pub(super) async fn tcp(host: &str, port: u16, origin: &Origin) -> io::Result<(TcpStream, Duration)> {
    let addresses = Resolver::system().lookup(host, port).await?;
    if let Some(observer) = &origin.observer {
        observer.resolved(&addresses);
    }
    let (tcp, took) = race::connect(addresses, &origin.winner).await?;
    if let Some(observer) = &origin.observer {
        observer.connected(tcp.peer_addr().ok());
    }
    // Without it a request in two writes waits for the upstream's acknowledgement of the first.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    Ok((tcp, took))
}

/// A way to the target, with the target's TLS where it has one.
enum Secured<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

impl<S> Secured<S> {
    /// Whether HTTP/2 is spoken on it: chosen in the TLS handshake with the target itself, or known
    /// before (RFC 9113 sections 3.2 and 3.3).
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
    origin: &Origin,
    http: HttpVersion,
    stream: S,
) -> Result<Secured<S>> {
    let Some(tls) = &origin.tls else { return Ok(Secured::Plain(stream)) };
    let connector = TlsConnector::from(tls.config());
    let connecting = connector.with_alpn(protocols(http)).connect(tls.name().clone(), stream);
    // Boxed, so that plain connections have no room for it.
    let tls = Box::pin(connecting).await.map_err(|error| match has_no_common_protocol(&error) {
        true if http == HttpVersion::Http2 => origin.not_http2("it refused it in the TLS handshake (ALPN)"),
        // Only a WebSocket asks for another HTTP than the configuration.
        true if http != origin.http => {
            origin.protocol("a WebSocket needs HTTP/1.1, which it refused in the TLS handshake (ALPN)")
        }
        _ => origin.tls(&error),
    })?;
    if let Some(observer) = &origin.observer {
        observer.secured(tls.get_ref().1);
    }
    Ok(Secured::Tls(Box::new(tls)))
}

/// What is offered by ALPN (RFC 7301), the preferred first.
fn protocols(http: HttpVersion) -> Vec<Vec<u8>> {
    let offered: &[&[u8]] = match http {
        HttpVersion::Auto => &[HTTP_2, HTTP_1_1],
        HttpVersion::Http1 => &[HTTP_1_1],
        HttpVersion::Http2 => &[HTTP_2],
    };
    offered.iter().map(|protocol| protocol.to_vec()).collect()
}

/// Whether the peer ended the handshake for want of a protocol that both speak.
fn has_no_common_protocol(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)))
}
