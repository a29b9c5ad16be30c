//! The TLS of a client's connection, before its first byte of HTTP.

use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ClientCertificate;
use super::conn_state::ConnState;
use super::connection::{ConnInfo, wait_for_command};
use crate::tls::{HTTP_1_1, HTTP_2, client_name};

/// The name of a client whose certificate has no readable name.
const NAMELESS: &str = "certificate";

/// Performs the handshake, which counts toward the time of the first head. `None`: it failed, or a
/// command ended the connection; TLS alerts have been sent.
pub(super) async fn handshake<S>(
    io: S,
    config: Arc<ServerConfig>,
    state: &ConnState,
) -> Option<(Box<TlsStream<S>>, ConnInfo)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let accepted = tokio::select! {
        accepted = TlsAcceptor::from(config).accept(io) => accepted,
        () = wait_for_command(state) => return None,
    };
    match accepted {
        Ok(stream) => {
            let info = info(stream.get_ref().1);
            // Boxed, as it has 1.2 KB and is moved several times.
            Some((Box::new(stream), info))
        }
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake with a client failed");
            None
        }
    }
}

fn info(session: &ServerConnection) -> ConnInfo {
    let http2 = session.alpn_protocol().and_then(|protocol| match protocol {
        HTTP_2 => Some(true),
        HTTP_1_1 => Some(false),
        _ => None,
    });
    ConnInfo { http2, certificate: ClientCertificate::of(session) }
}

impl ClientCertificate {
    /// The verified certificate of a connection.
    pub fn of(session: &ServerConnection) -> Option<Self> {
        let certificate = session.peer_certificates()?.first()?;
        Some(Self(client_name(certificate).map_or_else(|| NAMELESS.into(), Arc::from)))
    }
}
