//! Records the TLS handshakes of a client for `streamgauge check --live`: rustls reports neither the
//! certificate that it refused nor whether the server requested one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::Facts;

/// Records the latest handshake of one client configuration, without changing it.
#[derive(Debug, Default)]
pub struct HandshakeObserver(Mutex<ObservedHandshake>);

#[derive(Clone, Debug, Default)]
pub struct ObservedHandshake {
    /// The certificate that the peer presented, even if it was refused.
    pub peer: Option<Facts>,
    /// The peer requested a certificate.
    pub asked: bool,
    /// The certificate that was sent to the peer.
    pub presented: Option<Facts>,
}

impl HandshakeObserver {
    pub fn seen(&self) -> ObservedHandshake {
        self.lock().clone()
    }

    /// The peer presents its certificate. TLS 1.3 servers request ours before this, TLS 1.2 servers
    /// after it.
    pub(super) fn peer(&self, certificate: &CertificateDer<'_>) {
        self.lock().peer = Facts::of(certificate);
    }

    fn asked(&self, presented: Option<&CertifiedKey>) {
        let mut seen = self.lock();
        seen.asked = true;
        seen.presented = presented.and_then(|key| Facts::of(key.cert.first()?));
    }

    fn lock(&self) -> MutexGuard<'_, ObservedHandshake> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves as `inner` does, and reports to the observer.
#[derive(Debug)]
pub(super) struct ObservedResolver {
    pub(super) inner: Arc<dyn ResolvesClientCert>,
    pub(super) observer: Arc<HandshakeObserver>,
}

impl ResolvesClientCert for ObservedResolver {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let chosen = self.inner.resolve(issuers, schemes);
        self.observer.asked(chosen.as_deref());
        chosen
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        // Otherwise rustls would not call the resolver, and we could not report that the server
        // requested a certificate.
        true
    }
}
