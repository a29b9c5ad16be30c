//! The certificate of a client's connection, which is verified again when the authorities change.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ServerConnection;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::{ServerTls, client_name};
use crate::support::Live;

/// The name of a client whose certificate has no readable name.
const NAMELESS: &str = "certificate";

/// A verified client certificate: an extension of each request on its connection.
#[derive(Clone)]
pub struct ClientCertificate(Arc<Presented>);

struct Presented {
    name: Arc<str>,
    /// The certificate with its intermediates.
    chain: Vec<CertificateDer<'static>>,
    tls: Arc<Live<ServerTls>>,
    /// The generation of `tls` whose authorities verified the chain, doubled; plus one if it is
    /// trusted.
    verdict: AtomicU64,
}

impl ClientCertificate {
    /// The verified certificate of a connection. `generation` is that of `tls` before the
    /// handshake.
    pub fn of(session: &ServerConnection, tls: &Arc<Live<ServerTls>>, generation: u64) -> Option<Self> {
        let chain: Vec<_> =
            session.peer_certificates()?.iter().map(|part| part.clone().into_owned()).collect();
        let name = client_name(chain.first()?).map_or_else(|| NAMELESS.into(), Arc::from);
        let verdict = AtomicU64::new(generation * 2 + 1);
        Some(Self(Arc::new(Presented { name, chain, tls: Arc::clone(tls), verdict })))
    }

    /// The client's name, if the present authorities trust the certificate. Verifies it once after
    /// each change of the server's configuration.
    pub fn name(&self) -> Option<&Arc<str>> {
        let Presented { name, tls, verdict, .. } = &*self.0;
        let generation = tls.generation();
        let known = verdict.load(Ordering::Relaxed);
        let is_trusted = if known / 2 == generation {
            known % 2 == 1
        } else {
            let is_trusted = self.is_trusted_by(&tls.load());
            verdict.store(generation * 2 + u64::from(is_trusted), Ordering::Relaxed);
            is_trusted
        };
        is_trusted.then_some(name)
    }

    fn is_trusted_by(&self, tls: &ServerTls) -> bool {
        let (Some(verifier), Some((own, chain))) = (&tls.verifier, self.0.chain.split_first()) else {
            return false;
        };
        verifier.verify_client_cert(own, chain, UnixTime::now()).is_ok()
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientCertificate").field(&self.0.name).finish()
    }
}
