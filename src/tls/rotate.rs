//! Replaces certificates, keys and authorities while the proxy runs.
//!
//! The reloading thread compares the files every two seconds by their contents: this detects
//! renames, the symlink that Kubernetes swaps, and a file overwritten in place, for which times and
//! inodes can be misleading. A complete and valid set replaces the earlier one immediately. A
//! broken set is read once more before it is reported, because certificate and key are often
//! written one after the other. Connections keep their certificates; those of clients are verified
//! again by the new authorities ([`ClientCertificate`](super::ClientCertificate)), and connections
//! to upstreams get no new request after a change ([`Live::generation`]).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::ClientConfig;

use super::client::ClientRecipe;
use super::{
    ClientSettings, Fault, HandshakeObserver, Identity, IdentitySource, ServerSettings, ServerTls, Source,
};
use crate::support::Live;

/// Builds a configuration from the present contents of its sources.
pub(super) trait Recipe: Send + 'static {
    type Made: Send + Sync + 'static;

    fn sources(&self) -> Vec<&Source>;

    fn make(&self) -> Result<Self::Made, Fault>;

    fn identity(&self) -> Option<&IdentitySource>;
}

/// Counts reloads of changed files.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Sets that were put in use.
    pub done: AtomicU64,
    /// Broken sets, for which the earlier one stayed in use.
    pub failed: AtomicU64,
}

/// The files of all TLS configurations in use.
#[derive(Default)]
pub struct Watch {
    watched: Vec<Box<dyn Look>>,
    reloads: Arc<Reloads>,
}

impl Watch {
    /// The client's configuration for an upstream, which offers `alpn`. Messages call it `name`.
    ///
    /// # Errors
    /// Fails if the configuration is broken now.
    pub fn client(
        &mut self,
        name: &str,
        settings: &ClientSettings,
        alpn: &[&'static [u8]],
    ) -> Result<Arc<Live<ClientConfig>>, Fault> {
        self.client_before(name, settings, alpn, None)
    }

    /// Like [`Watch::client`], with an observer.
    ///
    /// # Errors
    /// Fails if the configuration is broken now.
    pub fn client_before(
        &mut self,
        name: &str,
        settings: &ClientSettings,
        alpn: &[&'static [u8]],
        observer: Option<&Arc<HandshakeObserver>>,
    ) -> Result<Arc<Live<ClientConfig>>, Fault> {
        let observer = observer.cloned();
        self.add(name, ClientRecipe { settings: settings.clone(), alpn: alpn.to_vec(), observer })
    }

    /// The configuration for clients.
    ///
    /// # Errors
    /// Fails if the configuration is broken now.
    pub fn server(&mut self, settings: &ServerSettings) -> Result<Arc<Live<ServerTls>>, Fault> {
        self.add("server.tls", settings.clone())
    }

    /// The configuration of the admin pages.
    ///
    /// # Errors
    /// Fails if the configuration is broken now.
    pub fn admin(&mut self, settings: &ServerSettings) -> Result<Arc<Live<ServerTls>>, Fault> {
        self.add("admin.tls", settings.clone())
    }

    pub fn reloads(&self) -> Arc<Reloads> {
        Arc::clone(&self.reloads)
    }

    /// Returns true if no file can change.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Builds a configuration that [`Watch::replace`] puts in use.
    ///
    /// # Errors
    /// Fails if the configuration is broken now.
    pub fn prepare(
        name: &'static str,
        settings: &ServerSettings,
        live: &Arc<Live<ServerTls>>,
    ) -> Result<Replacement, Fault> {
        let present = fingerprint(settings);
        let made = settings.make()?;
        Ok(Replacement { name, settings: settings.clone(), present, made, live: Arc::clone(live) })
    }

    /// Uses another configuration for new connections, and watches its files instead.
    pub fn replace(&mut self, replacement: Replacement) {
        let Replacement { name, settings, present, made, live } = replacement;
        self.watched.retain(|watched| watched.name() != name);
        live.replace(made);
        self.follow(name, &live, settings, present);
    }

    /// Compares all files once, and puts changed ones in use. Drops the files of configurations
    /// that are no longer used. If another configuration with the same name has followed, an
    /// earlier one, whose last requests still run, reports nothing: a key may need the later one's
    /// passphrase.
    ///
    /// Broken sets are reported at the second comparison, and not before a later one if
    /// `is_changing`: the settings that they need may be about to change too.
    pub fn look(&mut self, is_changing: bool) {
        self.watched.retain(|watched| watched.is_used());
        for number in 0..self.watched.len() {
            let (watched, later) = self.watched[number..].split_first_mut().expect("the number is in range");
            let has_followed = later.iter().any(|later| later.name() == watched.name());
            watched.look(&self.reloads, !is_changing && !has_followed);
        }
    }

    fn add<R: Recipe>(&mut self, name: &str, recipe: R) -> Result<Arc<Live<R::Made>>, Fault> {
        // Computed before the configuration is built, so that a change in between is detected
        // later.
        let present = fingerprint(&recipe);
        let live = Live::new(recipe.make()?);
        self.follow(name, &live, recipe, present);
        Ok(live)
    }

    fn follow<R: Recipe>(&mut self, name: &str, live: &Arc<Live<R::Made>>, recipe: R, present: Fingerprint) {
        if recipe.sources().iter().any(|source| source.file().is_some()) {
            let (name, live) = (name.to_owned(), Arc::downgrade(live));
            let watched = Watched { name, live, recipe, present, suspect: None, broken: None };
            self.watched.push(Box::new(watched));
        }
    }
}

/// A server's configuration that is built but not in use yet.
pub struct Replacement {
    name: &'static str,
    settings: ServerSettings,
    present: Fingerprint,
    made: ServerTls,
    live: Arc<Live<ServerTls>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("watched", &self.watched.len()).finish()
    }
}

pub(super) trait Look: Send {
    fn name(&self) -> &str;

    /// Returns false if the configuration is no longer used.
    fn is_used(&self) -> bool;

    /// Compares the files once.
    fn look(&mut self, reloads: &Reloads, may_report: bool);
}

/// SHA-256 of the contents of all sources.
type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

/// One configuration with its files.
struct Watched<R: Recipe> {
    name: String,
    live: Weak<Live<R::Made>>,
    recipe: R,
    /// The fingerprint of the configuration in use.
    present: Fingerprint,
    /// The fingerprint of the set that could not be used at the last comparison.
    suspect: Option<Fingerprint>,
    /// The fingerprint of the set that was reported as broken, so that it is reported once.
    broken: Option<Fingerprint>,
}

impl<R: Recipe> Look for Watched<R> {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_used(&self) -> bool {
        self.live.strong_count() > 0
    }

    fn look(&mut self, reloads: &Reloads, may_report: bool) {
        if let Some(live) = self.live.upgrade() {
            self.compare(&live, reloads, may_report);
        }
    }
}

impl<R: Recipe> Watched<R> {
    fn compare(&mut self, live: &Live<R::Made>, reloads: &Reloads, may_report: bool) {
        let found = fingerprint(&self.recipe);
        if found == self.present {
            (self.suspect, self.broken) = (None, None);
            return;
        }
        if self.broken == Some(found) {
            return;
        }
        match self.recipe.make() {
            Ok(made) => {
                live.replace(made);
                (self.present, self.suspect, self.broken) = (found, None, None);
                reloads.done.fetch_add(1, Ordering::Relaxed);
                self.tell();
            }
            Err(_) if self.suspect != Some(found) || !may_report => self.suspect = Some(found),
            Err(fault) => {
                self.broken = Some(found);
                reloads.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!("{}.{fault}; the earlier version stays in use", self.name);
            }
        }
    }

    /// Logs the new certificate, and warns if it is not valid now.
    fn tell(&self) {
        let facts = self.recipe.identity().and_then(|source| Identity::read(source).ok()?.facts);
        match facts {
            Some(facts) => {
                tracing::info!(subject = facts.who(), serial = facts.serial, until = %facts.not_after, "{}: new certificate", self.name);
                if let Some(reason) = facts.untimely(SystemTime::now()) {
                    tracing::warn!("{}.certificate: {reason}", self.name);
                }
            }
            None => tracing::info!("{}: new authorities", self.name),
        }
    }
}

/// A source that cannot be read has a fingerprint too, so that its return is a change.
fn fingerprint(recipe: &impl Recipe) -> Fingerprint {
    let mut all = digest::Context::new(&digest::SHA256);
    for source in recipe.sources() {
        match source.bytes() {
            Ok(bytes) => all.update(digest::digest(&digest::SHA256, &bytes).as_ref()),
            Err(error) => all.update(format!("{:?}", error.kind()).as_bytes()),
        }
    }
    all.finish().as_ref().try_into().expect("a SHA-256 digest has SHA256_OUTPUT_LEN bytes")
}
