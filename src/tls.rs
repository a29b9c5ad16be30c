//! TLS for both sides: what the user configured is read, checked, made into rustls' configurations,
//! and read again when its files change. Nothing here opens a connection.
//!
//! What is read, in the order of reading: `source` says where a text is, `pem` takes it apart,
//! `material` makes sure that it is whole and belongs together, `facts` says in words what it is.
//! `client` and `server` make configurations of it, with the rules of `verify`; `rotate` keeps them
//! up to date, and an `observer` may record them. No message and no `Debug` shows a key or a passphrase.

mod client;
mod facts;
mod material;
mod observer;
mod pem;
mod rotate;
mod server;
mod source;
mod verify;

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use client::{ClientSettings, Connector};
pub use facts::{Facts, client_name};
pub use material::{Authorities, Identity, IdentitySource};
pub use observer::{HandshakeObserver, ObservedHandshake};
pub use rotate::{Reloads, Replacement, Watch};

pub use crate::support::Live;
pub use server::{ClientCertificates, ServerSettings};
pub use source::{Source, decode};
pub use verify::Verification;

/// HTTP/1.1, as ALPN names it (RFC 7301 section 6).
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// HTTP/2, as ALPN names it (RFC 9113 section 3.2).
pub const HTTP_2: &[u8] = b"h2";

/// The algorithms of both sides.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Which of the configured parts is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The certificate and its chain.
    Certificate,
    /// The certificate's private key.
    PrivateKey,
    /// What the private key is encrypted with.
    Passphrase,
    /// The certificates of authorities that sign upstreams' certificates.
    Ca,
    /// The certificates of authorities that sign clients' certificates.
    ClientCa,
}

impl Part {
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

/// What is wrong with a part, in words for the user; no secret is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where to look.
    pub part: Part,
    /// What was found there, and what to do.
    pub reason: String,
}

impl Fault {
    fn new(part: Part, reason: impl Into<String>) -> Self {
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
