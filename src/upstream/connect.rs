//! A new connection: name resolution, TCP, TLS.

use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::{Instant as TokioInstant, timeout_at};
use tokio_rustls::TlsConnector;

use super::origin::{Origin, in_words};
use super::stream::Stream;
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
    let Some(tls) = &origin.tls else { return Ok(Stream::Tcp(tcp)) };
    let tls = TlsConnector::from(tls.config())
        .connect(tls.name().clone(), tcp)
        .await
        .map_err(|error| Error::Tls { upstream: origin.name.to_string(), reason: in_words(&error) })?;
    Ok(Stream::Tls(Box::new(tls)))
}
