//! Name lookups: one at a time per name, shared by the whole process.
//!
//! Uses the system's `getaddrinfo`, not a DNS client: nsswitch.conf, /etc/hosts, mDNS, search
//! domains and `ndots` (Kubernetes) apply, and no dependency is added. The call has no deadline and
//! cannot be cancelled. Therefore:
//!
//! * at most one thread per name is inside that call, and all requests for the name share its
//!   result;
//! * the thread is detached, so that the end of the process never waits for a lookup;
//! * a failure is cached for [`FAILURE`], so that a burst of requests does not queue lookups;
//! * while a lookup fails or takes longer than [`PATIENCE`], addresses up to [`STALE`] old are
//!   used.
//!
//! Names come only from the configuration, which bounds the number of threads. A caller bounds its
//! own wait: dropping the future of [`Resolver::lookup`] is safe, and the lookup continues for
//! others.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout_at;

/// The time for which addresses are used without another lookup. The first connection after it
/// notices a changed address.
const FRESH: Duration = Duration::from_secs(1);

/// The time for which a failure is cached.
const FAILURE: Duration = Duration::from_secs(1);

/// The age up to which old addresses may be used while lookups fail.
const STALE: Duration = Duration::from_secs(10 * 60);

/// The time that a lookup may take before older addresses are used, if there are any.
const PATIENCE: Duration = Duration::from_millis(500);

/// One per process, since the limit of one lookup per name is the process's.
static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| Resolver::over(getaddrinfo));

/// The addresses of a name, in the system's order (RFC 6724); the port is 0.
type Addresses = Arc<[SocketAddr]>;

type LookupFn = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

pub struct Resolver(Arc<Shared>);

struct Shared {
    call: Box<LookupFn>,
    names: Mutex<HashMap<Box<str>, Name>>,
}

/// The cache entry of a name.
#[derive(Default)]
struct Name {
    /// The latest addresses and their time.
    found: Option<(Instant, Addresses)>,
    /// The latest failure; `None` after a success.
    failed: Option<(Instant, LookupError)>,
    running: Option<RunningLookup>,
}

/// A lookup in progress.
#[derive(Clone)]
struct RunningLookup {
    since: Instant,
    /// `None` until it ends. If it is closed without a result, its thread panicked.
    result: watch::Receiver<Option<Result<Addresses, LookupError>>>,
}

/// A cloneable [`io::Error`].
#[derive(Clone, Debug)]
struct LookupError {
    kind: io::ErrorKind,
    message: Arc<str>,
}

/// The source of a caller's addresses.
enum Lookup {
    Ready(Result<Addresses, LookupError>),
    /// Wait for the lookup; after the instant, use the older addresses.
    Wait(RunningLookup, Option<(Instant, Addresses)>),
}

impl Resolver {
    /// The process's resolver, over `getaddrinfo`.
    pub fn system() -> &'static Self {
        &SYSTEM
    }

    fn over(call: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { call: Box::new(call), names: Mutex::default() }))
    }

    /// The addresses of a name, or of an address without brackets, in order of preference; at least
    /// one. Cancel safe.
    pub async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let addresses = match self.begin_or_join(host, Instant::now()) {
            Lookup::Ready(result) => result,
            // Boxed, so that lookups of plain addresses have no room for it.
            Lookup::Wait(running, older) => Box::pin(wait(running, older)).await,
        };
        let with_port = |address: &SocketAddr| {
            let mut address = *address;
            address.set_port(port);
            address
        };
        Ok(addresses?.iter().map(with_port).collect())
    }

    /// Takes cached addresses, or joins the running lookup, or begins one.
    fn begin_or_join(&self, host: &str, now: Instant) -> Lookup {
        let mut names = self.0.lock();
        if !names.contains_key(host) {
            names.retain(|_, name| name.is_needed(now));
        }
        let name = names.entry(host.into()).or_default();
        if let Some(cached) = name.take_cached(now) {
            return Lookup::Ready(cached);
        }
        let running = name.running.get_or_insert_with(|| self.begin(host, now)).clone();
        let older = name.stale(now).map(|addresses| (running.since + PATIENCE, addresses));
        Lookup::Wait(running, older)
    }

    fn begin(&self, host: &str, since: Instant) -> RunningLookup {
        let (done, result) = watch::channel(None);
        let (shared, host) = (Arc::clone(&self.0), Box::<str>::from(host));
        let sender = done.clone();
        let look_up = move || {
            let result = (shared.call)(&host);
            done.send_replace(Some(shared.finish(&host, result, Instant::now())));
        };
        // Detached, because the system's call cannot be cancelled.
        if let Err(error) = thread::Builder::new().name("lookup".to_owned()).spawn(look_up) {
            sender.send_replace(Some(Err(LookupError::of(&error))));
        }
        RunningLookup { since, result }
    }
}

impl Shared {
    /// Stores the result of a lookup and returns what its callers get.
    fn finish(
        &self,
        host: &str,
        result: io::Result<Vec<SocketAddr>>,
        now: Instant,
    ) -> Result<Addresses, LookupError> {
        let mut names = self.lock();
        let name = names.entry(host.into()).or_default();
        name.running = None;
        let result = match result {
            Ok(addresses) if addresses.is_empty() => {
                Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
            }
            result => result,
        };
        match result {
            Ok(addresses) => {
                if name.failed.take().is_some() {
                    tracing::info!(host, "the name can be looked up again");
                }
                let addresses = Addresses::from(addresses);
                name.found = Some((now, Arc::clone(&addresses)));
                Ok(addresses)
            }
            Err(error) => {
                let failure = LookupError::of(&error);
                let stale = name.stale(now);
                if name.failed.replace((now, failure.clone())).is_none() && stale.is_some() {
                    tracing::warn!(host, %error, "the name cannot be looked up: its last addresses are used, for 10 minutes at most");
                }
                stale.ok_or(failure)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Name>> {
        // No code under the lock can panic with a half-changed name.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Name {
    /// The cached result, if no lookup is needed. Drops a running lookup that ended without a
    /// result.
    fn take_cached(&mut self, now: Instant) -> Option<Result<Addresses, LookupError>> {
        if let Some((at, addresses)) = &self.found
            && now.saturating_duration_since(*at) < FRESH
        {
            return Some(Ok(Arc::clone(addresses)));
        }
        if let Some((at, failure)) = &self.failed
            && now.saturating_duration_since(*at) < FAILURE
        {
            return Some(self.stale(now).ok_or_else(|| failure.clone()));
        }
        self.running.take_if(|running| running.is_over());
        None
    }

    /// The latest addresses, if they may still be used.
    fn stale(&self, now: Instant) -> Option<Addresses> {
        let (at, addresses) = self.found.as_ref()?;
        (now.saturating_duration_since(*at) < STALE).then(|| Arc::clone(addresses))
    }

    fn is_needed(&self, now: Instant) -> bool {
        self.running.is_some() || self.stale(now).is_some()
    }
}

impl RunningLookup {
    /// Returns true if the lookup ended without `finish`: its thread did not start, or panicked.
    fn is_over(&self) -> bool {
        self.result.borrow().is_some() || self.result.has_changed().is_err()
    }
}

impl LookupError {
    fn of(error: &io::Error) -> Self {
        Self { kind: error.kind(), message: error.to_string().into() }
    }
}

impl From<LookupError> for io::Error {
    fn from(error: LookupError) -> Self {
        Self::new(error.kind, &*error.message)
    }
}

/// Waits for a lookup; after the instant, uses the `older` addresses.
async fn wait(
    mut running: RunningLookup,
    older: Option<(Instant, Addresses)>,
) -> Result<Addresses, LookupError> {
    let ended = async {
        match running.result.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("it was waited for"),
            Err(_) => Err(LookupError::of(&io::Error::other("the lookup failed"))),
        }
    };
    match older {
        None => ended.await,
        Some((until, addresses)) => timeout_at(until.into(), ended).await.unwrap_or(Ok(addresses)),
    }
}

fn getaddrinfo(host: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((host, 0).to_socket_addrs()?.collect())
}

#[cfg(test)]
mod tests;
