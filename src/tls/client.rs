//! The TLS client of one upstream.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::observer::{HandshakeObserver, ObservedResolver};
use super::rotate::Recipe;
use super::verify::Verifier;
use super::{Authorities, Fault, Identity, IdentitySource, Source, TlsPart, Verification, provider};
use crate::support::Live;

/// The settings of TLS to an upstream. The default trusts the system's roots, verifies everything
/// and has no client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    pub verification: Verification,
    /// The client certificate.
    pub identity: Option<IdentitySource>,
    /// Authorities that replace the system's. Empty: the system's.
    pub ca: Vec<Source>,
    /// True if the system's authorities are trusted too.
    pub ca_adds_to_system: bool,
}

impl ClientSettings {
    /// Builds a configuration from the present files. `alpn` lists the offered protocols in the
    /// order of preference.
    ///
    /// Each configuration has its own session cache: a session of one identity is never resumed
    /// with another.
    ///
    /// # Errors
    /// Fails if a part cannot be read or used.
    pub fn config(&self, alpn: &[&[u8]]) -> Result<ClientConfig, Fault> {
        self.config_before(alpn, None)
    }

    /// Like [`Self::config`], with an observer.
    fn config_before(
        &self,
        alpn: &[&[u8]],
        observer: Option<&Arc<HandshakeObserver>>,
    ) -> Result<ClientConfig, Fault> {
        let authorities = Authorities::read(&self.ca)?;
        let identity = self.identity.as_ref().map(Identity::read).transpose()?;
        let roots = if self.ca.is_empty() {
            Arc::clone(system_roots())
        } else {
            let mut roots = authorities.roots;
            if self.ca_adds_to_system {
                roots.extend(system_roots().roots.iter().cloned());
            }
            Arc::new(roots)
        };
        let provider = provider();
        let verifier = Verifier {
            mode: self.verification,
            roots,
            pinned: authorities.certificates,
            provider: Arc::clone(&provider),
            observer: observer.cloned(),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault { part: TlsPart::Ca, reason: error.to_string() })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            // Presented to every server that requests one, even if the server's list of authorities
            // does not contain its issuer: such lists are often wrong, and a refusal is easier to
            // diagnose than a certificate that was silently withheld.
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from((*identity.key).clone())))
            }
            None => builder.with_no_client_auth(),
        };
        if let Some(observer) = observer {
            config.client_auth_cert_resolver = Arc::new(ObservedResolver {
                inner: Arc::clone(&config.client_auth_cert_resolver),
                observer: Arc::clone(observer),
            });
        }
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

#[derive(Clone, Debug)]
pub(super) struct ClientRecipe {
    pub(super) settings: ClientSettings,
    pub(super) alpn: Vec<&'static [u8]>,
    pub(super) observer: Option<Arc<HandshakeObserver>>,
}

impl Recipe for ClientRecipe {
    type Made = ClientConfig;

    fn sources(&self) -> Vec<&Source> {
        let identity = self.settings.identity.iter();
        identity
            .flat_map(|identity| [&identity.certificate, &identity.private_key])
            .chain(&self.settings.ca)
            .collect()
    }

    fn make(&self) -> Result<ClientConfig, Fault> {
        self.settings.config_before(&self.alpn, self.observer.as_ref())
    }

    fn identity(&self) -> Option<&IdentitySource> {
        self.settings.identity.as_ref()
    }
}

/// Starts TLS with one upstream. Clones share the configuration.
#[derive(Clone, Debug)]
pub struct Connector {
    live: Arc<Live<ClientConfig>>,
    name: ServerName<'static>,
}

impl Connector {
    /// `name` is sent as SNI, and the upstream's certificate must be valid for it.
    pub fn new(live: Arc<Live<ClientConfig>>, name: ServerName<'static>) -> Self {
        Self { live, name }
    }

    /// The present configuration. Sessions of an earlier one continue.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.live.load()
    }

    /// Like [`Live::generation`].
    pub fn generation(&self) -> u64 {
        self.live.generation()
    }

    pub fn name(&self) -> &ServerName<'static> {
        &self.name
    }
}

/// The system's roots, or Mozilla's if the system has none. Read once per process.
fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
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
        Arc::new(roots)
    })
}
