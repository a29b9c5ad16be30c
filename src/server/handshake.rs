//! The TLS of a client's connection, before its first byte of HTTP.

use std::sync::Arc;

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::conn_state::ConnState;
use super::connection::{ConnInfo, before_http};
use super::disconnect::Socket;
use crate::support::Live;
use crate::support::memory::TLS_CONNECTION;
use crate::tls::{ClientCertificate, HTTP_1_1, HTTP_2, ServerTls};

/// The largest number of bytes that wait in a session for the socket if memory is limited: one
/// record.
const UNSENT: usize = 16 * 1024;

/// Performs the handshake, which counts toward the time of the first head. `None` if it failed, or
/// if a command ended the connection; TLS alerts have been sent.
pub(super) async fn handshake<S>(
    io: S,
    tls: &Arc<Live<ServerTls>>,
    state: &ConnState,
) -> Option<(Box<TlsStream<S>>, ConnInfo)>
where
    S: AsyncRead + AsyncWrite + Socket + Unpin,
{
    // Read before the configuration, so that after a change in between the certificate is verified
    // again.
    let generation = tls.generation();
    let config = Arc::clone(&tls.load().config);
    state.grow(TLS_CONNECTION);
    let accept = TlsAcceptor::from(config).accept(io);
    match before_http(accept, |accept| accept.get_ref().map(Socket::tcp), state).await? {
        Ok(mut stream) => {
            if state.has_memory_limit() {
                stream.get_mut().1.set_buffer_limit(Some(UNSENT));
            }
            let session = stream.get_ref().1;
            let certificate = ClientCertificate::of(session, tls, generation);
            let info = ConnInfo { http2: is_http2(session), certificate };
            // Boxed, since it has 1.2 KB and is moved several times.
            Some((Box::new(stream), info))
        }
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake with a client failed");
            None
        }
    }
}

fn is_http2(session: &ServerConnection) -> Option<bool> {
    session.alpn_protocol().and_then(|protocol| match protocol {
        HTTP_2 => Some(true),
        HTTP_1_1 => Some(false),
        _ => None,
    })
}
