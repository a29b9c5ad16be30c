//! Records the steps of a connection to an upstream, for `streamgauge check --live`. `serve` has no
//! observer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::{ClientConnection, ProtocolVersion};

use crate::record::error::Error;
use crate::tls;

/// Observes the connections to one upstream without changing them; keeps the last one.
#[derive(Debug, Default)]
pub struct ConnectObserver {
    /// TLS handshakes with the upstream.
    pub target: Arc<tls::HandshakeObserver>,
    /// TLS handshakes with the forward proxy.
    pub proxy: Arc<tls::HandshakeObserver>,
    trace: Mutex<ConnectTrace>,
}

/// The steps of a connection that were completed.
#[derive(Clone, Debug, Default)]
pub struct ConnectTrace {
    /// The path and query of the last request, as it was written for the upstream.
    pub requested: Option<String>,
    /// The addresses of the first host: the forward proxy's, or else the upstream's.
    pub addresses: Vec<SocketAddr>,
    /// The address that accepted the connection.
    pub connected: Option<SocketAddr>,
    /// TLS with the forward proxy.
    pub proxy: Option<TlsSession>,
    /// TLS with the upstream.
    pub target: Option<TlsSession>,
    /// The HTTP version, once it is known.
    pub is_http2: Option<bool>,
    /// The latest failure.
    pub error: Option<Error>,
}

/// The parameters of a TLS session.
#[derive(Clone, Debug)]
pub struct TlsSession {
    /// `TLS 1.3`.
    pub version: String,
    /// The IANA name.
    pub cipher: String,
}

impl ConnectObserver {
    pub fn trace(&self) -> ConnectTrace {
        self.lock().clone()
    }

    pub(super) fn on_request(&self, target: &str) {
        self.lock().requested = Some(target.to_owned());
    }

    pub(super) fn on_resolved(&self, addresses: &[SocketAddr]) {
        let mut trace = self.lock();
        *trace = ConnectTrace {
            addresses: addresses.to_vec(),
            requested: trace.requested.take(),
            ..ConnectTrace::default()
        };
    }

    pub(super) fn on_connected(&self, to: Option<SocketAddr>) {
        self.lock().connected = to;
    }

    pub(super) fn on_proxy_tls(&self, connection: &ClientConnection) {
        self.lock().proxy = Some(TlsSession::of(connection));
    }

    pub(super) fn on_tls(&self, connection: &ClientConnection) {
        self.lock().target = Some(TlsSession::of(connection));
    }

    pub(super) fn on_http_version(&self, is_http2: bool) {
        self.lock().is_http2 = Some(is_http2);
    }

    pub(super) fn on_error(&self, error: &Error) {
        self.lock().error = Some(error.clone());
    }

    fn lock(&self) -> MutexGuard<'_, ConnectTrace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsSession {
    fn of(connection: &ClientConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            other => format!("{other:?}"),
        };
        let cipher = connection.negotiated_cipher_suite();
        let cipher = cipher.and_then(|suite| suite.suite().as_str()).unwrap_or("an unnamed cipher");
        // rustls adds a prefix to the suites of TLS 1.3.
        Self { version, cipher: cipher.replace("TLS13_", "TLS_") }
    }
}
