//! TLS with clients.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use super::rotate::Recipe;
use super::{Authorities, Fault, HTTP_1_1, HTTP_2, Identity, IdentitySource, Source, TlsPart, provider};

/// The settings of TLS with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    pub identity: IdentitySource,
    /// Authorities of client certificates. Empty: no certificate is requested.
    pub client_ca: Vec<Source>,
    pub client_certificates: ClientCertificates,
}

/// The treatment of clients without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Serves clients without a certificate too, and refuses a wrong one.
    Optional,
    /// Serves only clients with a certificate.
    Required,
}

impl ServerSettings {
    /// True if every request comes with a verified certificate.
    pub fn requires_certificates(&self) -> bool {
        !self.client_ca.is_empty() && self.client_certificates == ClientCertificates::Required
    }
}

/// TLS with clients, built from the present files.
#[derive(Debug)]
pub struct ServerTls {
    pub config: Arc<ServerConfig>,
    /// Verifies certificates of clients. `None`: no certificate is requested.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Recipe for ServerSettings {
    type Made = ServerTls;

    fn sources(&self) -> Vec<&Source> {
        [&self.identity.certificate, &self.identity.private_key].into_iter().chain(&self.client_ca).collect()
    }

    /// Offers TLS 1.2 and 1.3, and HTTP/2 before HTTP/1.1. The key of session tickets lives as long
    /// as this configuration, so that certificates of earlier sessions are verified again.
    fn make(&self) -> Result<ServerTls, Fault> {
        let client_ca = |fault: Fault| Fault { part: TlsPart::ClientCa, ..fault };
        let authorities = Authorities::read(&self.client_ca).map_err(client_ca)?;
        let identity = Identity::read(&self.identity)?;
        let provider = provider();
        let failed = |error: String| Fault { part: TlsPart::Certificate, reason: error };
        let verifier = if self.client_ca.is_empty() {
            None
        } else {
            let builder = WebPkiClientVerifier::builder_with_provider(
                Arc::new(authorities.roots),
                Arc::clone(&provider),
            );
            let builder = match self.client_certificates {
                ClientCertificates::Optional => builder.allow_unauthenticated(),
                ClientCertificates::Required => builder,
            };
            let built = builder.build();
            Some(built.map_err(|error| Fault { part: TlsPart::ClientCa, reason: error.to_string() })?)
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_client_cert_verifier(verifier.clone().unwrap_or_else(|| Arc::new(NoClientAuth)))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from((*identity.key).clone())));
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
        config.ticketer = Ticketer::new().map_err(|error| failed(error.to_string()))?;
        Ok(ServerTls { config: Arc::new(config), verifier })
    }

    fn identity(&self) -> Option<&IdentitySource> {
        Some(&self.identity)
    }
}
