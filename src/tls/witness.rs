//! What happens in a client's handshakes, for those who want to know (`streamgauge check --live`):
//! rustls tells neither what certificate it refused, nor whether it was asked for one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::Facts;

/// Sees the handshakes of one client configuration; the last one counts. It changes nothing in
/// them.
#[derive(Debug, Default)]
pub struct Witness(Mutex<Seen>);

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The certificate that the peer presented, be it refused.
    pub peer: Option<Facts>,
    /// Whether the peer asked for a certificate.
    pub asked: bool,
    /// The certificate that it was given.
    pub presented: Option<Facts>,
}

impl Witness {
    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// The peer shows its certificate. In TLS 1.3 it has asked for ours before, in TLS 1.2 it does
    /// so afterwards.
    pub(super) fn peer(&self, certificate: &CertificateDer<'_>) {
        self.lock().peer = Facts::of(certificate);
    }

    fn asked(&self, presented: Option<&CertifiedKey>) {
        let mut seen = self.lock();
        seen.asked = true;
        seen.presented = presented.and_then(|key| Facts::of(key.cert.first()?));
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chooses as `inner` does, before a witness.
#[derive(Debug)]
pub(super) struct Witnessed {
    pub(super) inner: Arc<dyn ResolvesClientCert>,
    pub(super) witness: Arc<Witness>,
}

impl ResolvesClientCert for Witnessed {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let chosen = self.inner.resolve(issuers, schemes);
        self.witness.asked(chosen.as_deref());
        chosen
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        // rustls asks nobody who has none, and whoever was asked shall be known.
        true
    }
}
