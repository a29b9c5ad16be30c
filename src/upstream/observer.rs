//! Records the steps of a connection to an upstream for `streamgauge check --live`. `serve` has no
//! observer and records nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::{ClientConnection, ProtocolVersion};

use crate::tls;

/// Records the latest connection to one upstream, without changing it.
#[derive(Debug, Default)]
pub struct ConnectObserver {
    /// TLS handshakes with the upstream.
    pub target: Arc<tls::HandshakeObserver>,
    /// TLS handshakes with a forward proxy.
    pub proxy: Arc<tls::HandshakeObserver>,
    trace: Mutex<Trace>,
}

/// How far a connection came.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The path and query of the last request, as it was written for the upstream.
    pub asked: Option<String>,
    /// What the name of the first host on the way stands for: the proxy's, where there is one.
    pub addresses: Vec<SocketAddr>,
    /// The address that took the connection.
    pub connected: Option<SocketAddr>,
    /// TLS with the proxy.
    pub proxy: Option<Session>,
    /// TLS with the upstream.
    pub target: Option<Session>,
    /// Whether HTTP/2 is spoken, once that is known.
    pub is_http2: Option<bool>,
}

/// What was agreed on in a handshake.
#[derive(Clone, Debug)]
pub struct Session {
    /// `TLS 1.3`.
    pub version: String,
    /// As IANA names it.
    pub cipher: String,
}

impl ConnectObserver {
    /// How far the last connection came.
    pub fn trace(&self) -> Trace {
        self.lock().clone()
    }

    pub(super) fn asked(&self, target: &str) {
        self.lock().asked = Some(target.to_owned());
    }

    pub(super) fn resolved(&self, addresses: &[SocketAddr]) {
        let mut trace = self.lock();
        *trace = Trace { addresses: addresses.to_vec(), asked: trace.asked.take(), ..Trace::default() };
    }

    pub(super) fn connected(&self, to: Option<SocketAddr>) {
        self.lock().connected = to;
    }

    pub(super) fn secured_with_proxy(&self, connection: &ClientConnection) {
        self.lock().proxy = Some(Session::of(connection));
    }

    pub(super) fn secured(&self, connection: &ClientConnection) {
        self.lock().target = Some(Session::of(connection));
    }

    pub(super) fn speaks(&self, is_http2: bool) {
        self.lock().is_http2 = Some(is_http2);
    }

    fn lock(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn of(connection: &ClientConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            other => format!("{other:?}"),
        };
        let cipher = connection.negotiated_cipher_suite();
        let cipher = cipher.and_then(|suite| suite.suite().as_str()).unwrap_or("an unnamed cipher");
        // rustls tells the suites of TLS 1.3 apart by a name of its own.
        Self { version, cipher: cipher.replace("TLS13_", "TLS_") }
    }
}
