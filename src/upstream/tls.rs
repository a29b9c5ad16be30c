//! The TLS client: rustls, with the system's roots.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// A client that trusts what the system trusts, or Mozilla's roots where the system has none, and offers HTTP/1.1.
///
/// # Errors
/// No root certificate could be read, with the reasons.
pub fn client_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    with_roots(system_roots())
}

/// A client for TLS with a proxy: it trusts `ca` alone where there is one, else what the system trusts, and checks the
/// proxy's name.
///
/// # Errors
/// A certificate of `ca` cannot be a root.
pub fn proxy_tls(ca: Option<&[CertificateDer<'static>]>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let Some(ca) = ca else { return client_config() };
    let mut roots = RootCertStore::empty();
    for certificate in ca {
        roots.add(certificate.clone())?;
    }
    with_roots(roots)
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "some of the system's root certificates cannot be read");
    }
    let (_, refused) = roots.add_parsable_certificates(native.certs);
    if refused > 0 {
        tracing::debug!(refused, "some of the system's root certificates are not usable");
    }
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn with_roots(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
