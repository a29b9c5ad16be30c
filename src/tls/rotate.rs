//! Certificates, keys and authorities that change while the proxy runs.
//!
//! One thread looks at the files, [`INTERVAL`] apart, by what is in them: that follows renames, the
//! symlink that Kubernetes swaps, and a file written over in place, where times and inodes can
//! deceive. A few pages read from the system's cache cost less than a request. A set that is whole
//! and valid is put in the place of the earlier one at once; one that is not is looked at once more
//! before it is called broken, because certificate and key are often written one after the other.
//! Connections keep what they were begun with; those to upstreams are given no new request then
//! ([`Live::generation`]).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rustls::{ClientConfig, ServerConfig};

use super::client::ClientRecipe;
use super::{ClientSettings, Fault, HandshakeObserver, Identity, IdentitySource, ServerSettings, Source};
use crate::threads::{Thread, Threads, fault};

/// How often the files are looked at. New connections use a new set after at most one interval.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// How a configuration is made of what its sources hold now.
pub(super) trait Recipe: Send + 'static {
    type Made: Send + Sync + 'static;

    fn sources(&self) -> Vec<&Source>;

    fn make(&self) -> Result<Self::Made, Fault>;

    fn identity(&self) -> Option<&IdentitySource>;
}

/// A configuration of which there is always a whole, valid one. Reading it takes no lock.
pub struct Live<T> {
    present: ArcSwap<T>,
    generation: AtomicU64,
}

impl<T> Live<T> {
    /// One that will not change.
    pub fn fixed(value: T) -> Arc<Self> {
        Arc::new(Self { present: ArcSwap::from_pointee(value), generation: AtomicU64::new(0) })
    }

    /// The present one.
    pub fn load(&self) -> Arc<T> {
        self.present.load_full()
    }

    /// How often it has been replaced. Whoever asks for this first and then for the configuration
    /// has one that is at least as new as the number says.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn replace(&self, value: T) {
        self.present.store(Arc::new(value));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

/// What became of changed files.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Sets that were taken over.
    pub done: AtomicU64,
    /// Sets that were broken, so that the earlier one was kept.
    pub failed: AtomicU64,
}

/// Everything that may change, before the thread is there that looks at it.
#[derive(Default)]
pub struct Watch {
    pub(super) watched: Vec<Box<dyn Look>>,
    reloads: Arc<Reloads>,
}

impl Watch {
    /// The client's configuration for the upstream that messages call `name`, offering `alpn`.
    ///
    /// # Errors
    /// It is broken now.
    pub fn client(
        &mut self,
        name: &str,
        settings: &ClientSettings,
        alpn: &[&'static [u8]],
    ) -> Result<Arc<Live<ClientConfig>>, Fault> {
        self.client_before(name, settings, alpn, None)
    }

    /// The same with an observer.
    ///
    /// # Errors
    /// It is broken now.
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

    /// The listener's configuration.
    ///
    /// # Errors
    /// It is broken now.
    pub fn server(&mut self, settings: &ServerSettings) -> Result<Arc<Live<ServerConfig>>, Fault> {
        self.add("server.tls", settings.clone())
    }

    /// The configuration of the admin pages.
    ///
    /// # Errors
    /// It is broken now.
    pub fn admin(&mut self, settings: &ServerSettings) -> Result<Arc<Live<ServerConfig>>, Fault> {
        self.add("admin.tls", settings.clone())
    }

    /// What will be counted.
    pub fn reloads(&self) -> Arc<Reloads> {
        Arc::clone(&self.reloads)
    }

    /// Starts the thread, unless nothing can change.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(self, threads: &Threads) -> io::Result<Rotation> {
        self.spawn_every(INTERVAL, threads)
    }

    pub(super) fn spawn_every(mut self, interval: Duration, threads: &Threads) -> io::Result<Rotation> {
        if self.watched.is_empty() {
            return Ok(Rotation(None));
        }
        let (stop, stopped) = mpsc::channel();
        let look = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                fault::strike("certificates");
                self.look();
            }
            Ok(())
        };
        let thread = threads.spawn("certificates", look)?;
        Ok(Rotation(Some((stop, thread))))
    }

    /// Looks at everything once.
    pub(super) fn look(&mut self) {
        self.watched.iter_mut().for_each(|watched| watched.look(&self.reloads));
    }

    fn add<R: Recipe>(&mut self, name: &str, recipe: R) -> Result<Arc<Live<R::Made>>, Fault> {
        // Before it is made: what changes in between is then made once more, and not overlooked.
        let present = fingerprint(&recipe);
        let live = Live::fixed(recipe.make()?);
        if recipe.sources().iter().any(|source| source.file().is_some()) {
            let watched = Watched {
                name: name.to_owned(),
                live: Arc::clone(&live),
                recipe,
                present,
                suspect: None,
                broken: None,
            };
            self.watched.push(Box::new(watched));
        }
        Ok(live)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("watched", &self.watched.len()).finish()
    }
}

/// The thread that looks. Dropping it ends the thread, and does not wait for a look that is under
/// way.
#[derive(Debug)]
pub struct Rotation(
    #[expect(dead_code, reason = "dropping the sender ends the thread")] Option<(Sender<()>, Thread)>,
);

pub(super) trait Look: Send {
    fn look(&mut self, reloads: &Reloads);
}

/// SHA-256 of what all sources hold.
type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

/// One configuration with its files.
struct Watched<R: Recipe> {
    name: String,
    live: Arc<Live<R::Made>>,
    recipe: R,
    /// What the present configuration was made of.
    present: Fingerprint,
    /// What could not be used at the last look.
    suspect: Option<Fingerprint>,
    /// What was reported as broken, so that it is reported once.
    broken: Option<Fingerprint>,
}

impl<R: Recipe> Look for Watched<R> {
    fn look(&mut self, reloads: &Reloads) {
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
                self.live.replace(made);
                (self.present, self.suspect, self.broken) = (found, None, None);
                reloads.done.fetch_add(1, Ordering::Relaxed);
                self.tell();
            }
            Err(_) if self.suspect != Some(found) => self.suspect = Some(found),
            Err(fault) => {
                self.broken = Some(found);
                reloads.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!("{}.{fault}; what was read before stays in use", self.name);
            }
        }
    }
}

impl<R: Recipe> Watched<R> {
    /// Logs the new certificate, and what is wrong with its time.
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

/// What cannot be read counts as such: its coming back is a change.
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
