//! TLS for both sides: reads and checks certificates and keys, builds rustls' configurations, and
//! rebuilds them when the files change. Opens no connection.
//!
//! `source` locates a text, `pem` parses it, `material` checks that certificate and key are complete
//! and belong together, and `facts` describes a certificate. `client` and `server` build
//! configurations, with the rules of `verify`. `rotate` keeps them up to date, `client_certificate`
//! follows them on open connections, `observer` records handshakes, and `signer` signs other texts
//! with the keys. No message and no `Debug`
//! shows a key or a passphrase.

mod client;
mod client_certificate;
mod facts;
mod material;
mod observer;
mod pem;
mod rotate;
mod server;
mod signer;
mod source;
mod verify;

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use client::{ClientSettings, Connector};
pub use client_certificate::ClientCertificate;
pub use facts::{Facts, client_name};
pub use material::{Authorities, Identity, IdentitySource};
pub use observer::{HandshakeObserver, ObservedHandshake};
pub use rotate::{Reloads, Replacement, Watch};
pub use server::{ClientCertificates, ServerSettings, ServerTls};
pub use signer::RsaSigner;
pub use source::{Source, decode};
pub use verify::Verification;

/// The ALPN name of HTTP/1.1 (RFC 7301 section 6).
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// The ALPN name of HTTP/2 (RFC 9113 section 3.2).
pub const HTTP_2: &[u8] = b"h2";

/// AWS-LC, seeded: its first random number in a process takes some 30 ms of computing. Every
/// configuration is built with it, before there is a handshake, so that no worker computes that.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        let provider = aws_lc_rs::default_provider();
        // A failure would end each handshake with an error of its own.
        let _ = provider.secure_random.fill(&mut [0]);
        Arc::new(provider)
    });
    Arc::clone(provider)
}

/// A configured part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    /// The certificate with its chain.
    Certificate,
    PrivateKey,
    Passphrase,
    /// Authorities that sign upstreams' certificates.
    Ca,
    /// Authorities that sign clients' certificates.
    ClientCa,
}

impl TlsPart {
    /// Its key in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PrivateKey => "private_key",
            Self::Passphrase => "passphrase",
            Self::Ca => "ca",
            Self::ClientCa => "client_ca",
        }
    }
}

/// A part that cannot be used. The message contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub part: TlsPart,
    /// The problem, and what to do.
    pub reason: String,
}

impl Fault {
    fn new(part: TlsPart, reason: impl Into<String>) -> Self {
        Self { part, reason: reason.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part.key(), self.reason)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
pub(crate) mod tests;
