//! A new connection: name resolution, TCP, TLS.

use std::io;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::{Instant as TokioInstant, timeout_at};
use tokio_rustls::TlsConnector;

use super::origin::{Origin, in_words};
use super::stream::Stream;
use crate::config::HttpVersion;
use crate::error::{Error, Result};

/// Connects within `timeouts.connect`, and before `total`.
pub(super) async fn connect(origin: &Origin, total: Option<Instant>) -> Result<Stream> {
    let limit = Instant::now() + origin.timeouts.connect;
    let deadline = total.map_or(limit, |total| total.min(limit));
    match timeout_at(TokioInstant::from_std(deadline), dial(origin)).await {
        Ok(result) => result,
        Err(_) if deadline < limit => Err(origin.total_timeout()),
        Err(_) => {
            Err(Error::ConnectTimeout { upstream: origin.name.to_string(), limit: origin.timeouts.connect })
        }
    }
}

async fn dial(origin: &Origin) -> Result<Stream> {
    let tcp = TcpStream::connect((origin.host.as_str(), origin.port))
        .await
        .map_err(|error| origin.unreachable(in_words(&error)))?;
    // Without it a request in two writes waits for the upstream's acknowledgement of the first.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let Some((config, name)) = &origin.tls else { return Ok(Stream::Tcp(tcp)) };
    let tls = TlsConnector::from(config.clone())
        .with_alpn(protocols(origin.http))
        .connect(name.clone(), tcp)
        .await
        .map_err(|error| match has_no_common_protocol(&error) {
            true if origin.http == HttpVersion::Http2 => {
                origin.not_http2("it refused it in the TLS handshake (ALPN)")
            }
            _ => Error::Tls { upstream: origin.name.to_string(), reason: in_words(&error) },
        })?;
    Ok(Stream::Tls(Box::new(tls)))
}

/// What is offered by ALPN (RFC 7301), the preferred first.
fn protocols(http: HttpVersion) -> Vec<Vec<u8>> {
    let offered: &[&[u8]] = match http {
        HttpVersion::Auto => &[b"h2", b"http/1.1"],
        HttpVersion::Http1 => &[b"http/1.1"],
        HttpVersion::Http2 => &[b"h2"],
    };
    offered.iter().map(|protocol| protocol.to_vec()).collect()
}

/// Whether the peer ended the handshake for want of a protocol that both speak.
fn has_no_common_protocol(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)))
}
