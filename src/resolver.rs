//! Name lookups: one at a time for each name, shared by everything in the process that connects.
//!
//! Names are looked up by the system's `getaddrinfo`, not by a DNS client of our own. So
//! nsswitch.conf, /etc/hosts, mDNS, search domains and `ndots` (Kubernetes) apply as the operator
//! has set them, and no dependency is added. Its price is a call that can neither be cancelled nor
//! be given a deadline. Therefore:
//!
//! * at most one thread is inside that call for each name, and all requests that need the name
//!   share its result;
//! * the thread is detached, so that the end of the process never waits for a lookup;
//! * a failure is remembered for [`FAILURE`], so that a burst of requests does not queue lookups
//!   one after another;
//! * while a lookup fails, or takes longer than [`PATIENCE`], addresses that are at most [`STALE`]
//!   old are used.
//!
//! The number of threads is bounded by the number of names, and names come from the configuration
//! only. A caller bounds its own wait: dropping the future of [`Resolver::lookup`] is safe, and the
//! lookup goes on for others.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout_at;

/// How long addresses are used without another lookup. A name that moves is noticed with the next
/// connection after it.
const FRESH: Duration = Duration::from_secs(1);

/// How long a failure answers for the name.
const FAILURE: Duration = Duration::from_secs(1);

/// How long addresses are kept for the time when their name cannot be looked up.
const STALE: Duration = Duration::from_secs(10 * 60);

/// How long a lookup may run before older addresses are used instead, if there are any.
const PATIENCE: Duration = Duration::from_millis(500);

/// The resolver of the process: the bound of one lookup per name is the process's.
static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| Resolver::over(getaddrinfo));

/// The addresses of a name, in the system's order (RFC 6724); the port is 0.
type Addresses = Arc<[SocketAddr]>;

type Call = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up.
pub struct Resolver(Arc<Shared>);

struct Shared {
    call: Box<Call>,
    names: Mutex<HashMap<Box<str>, Name>>,
}

/// What is known of a name.
#[derive(Default)]
struct Name {
    /// The last addresses, and when they were found.
    found: Option<(Instant, Addresses)>,
    /// `None` after a lookup that found addresses.
    failed: Option<(Instant, Failure)>,
    running: Option<Running>,
}

/// A lookup at work.
#[derive(Clone)]
struct Running {
    since: Instant,
    /// `None` until it ends. Closed without a result: its thread panicked.
    result: watch::Receiver<Option<Result<Addresses, Failure>>>,
}

/// An [`io::Error`] that several callers can be given.
#[derive(Clone, Debug)]
struct Failure {
    kind: io::ErrorKind,
    words: Arc<str>,
}

/// How a lookup is answered.
enum Answer {
    Now(Result<Addresses, Failure>),
    /// Wait for the lookup; from the instant on, use the older addresses.
    Wait(Running, Option<(Instant, Addresses)>),
}

impl Resolver {
    /// The one that asks the system.
    pub fn system() -> &'static Self {
        &SYSTEM
    }

    fn over(call: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { call: Box::new(call), names: Mutex::default() }))
    }

    /// The addresses of a host name or of an address without brackets, the preferred first; at
    /// least one. Cancel safe.
    ///
    /// # Errors
    /// As the system says it.
    pub async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let addresses = match self.ask(host, Instant::now()) {
            Answer::Now(result) => result,
            // Boxed, as connections to addresses need no room for it.
            Answer::Wait(running, older) => Box::pin(wait(running, older)).await,
        };
        let with_port = |address: &SocketAddr| {
            let mut address = *address;
            address.set_port(port);
            address
        };
        Ok(addresses?.iter().map(with_port).collect())
    }

    /// Answers from what is known, or begins a lookup, or joins the one that runs.
    fn ask(&self, host: &str, now: Instant) -> Answer {
        let mut names = self.0.lock();
        if !names.contains_key(host) {
            names.retain(|_, name| name.is_needed(now));
        }
        let name = names.entry(host.into()).or_default();
        if let Some(answer) = name.answer(now) {
            return Answer::Now(answer);
        }
        let running = name.running.get_or_insert_with(|| self.begin(host, now)).clone();
        let older = name.stale(now).map(|addresses| (running.since + PATIENCE, addresses));
        Answer::Wait(running, older)
    }

    fn begin(&self, host: &str, since: Instant) -> Running {
        let (done, result) = watch::channel(None);
        let (shared, host) = (Arc::clone(&self.0), Box::<str>::from(host));
        let sender = done.clone();
        let look_up = move || {
            let result = (shared.call)(&host);
            done.send_replace(Some(shared.finish(&host, result, Instant::now())));
        };
        // Detached: the system's call cannot be ended, so no code waits for its thread.
        if let Err(error) = thread::Builder::new().name("lookup".to_owned()).spawn(look_up) {
            sender.send_replace(Some(Err(Failure::of(&error))));
        }
        Running { since, result }
    }
}

impl Shared {
    /// Notes the result of a lookup, and returns it as callers get it.
    fn finish(
        &self,
        host: &str,
        result: io::Result<Vec<SocketAddr>>,
        now: Instant,
    ) -> Result<Addresses, Failure> {
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
                let failure = Failure::of(&error);
                let stale = name.stale(now);
                if name.failed.replace((now, failure.clone())).is_none() && stale.is_some() {
                    tracing::warn!(host, %error, "the name cannot be looked up: its last addresses are used, for 10 minutes at most");
                }
                stale.ok_or(failure)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Name>> {
        // No code under the lock can panic with a name half changed.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Name {
    /// What needs no lookup now. Forgets a lookup that ended without a result.
    fn answer(&mut self, now: Instant) -> Option<Result<Addresses, Failure>> {
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

    /// The last addresses, while they may be used in place of newer ones.
    fn stale(&self, now: Instant) -> Option<Addresses> {
        let (at, addresses) = self.found.as_ref()?;
        (now.saturating_duration_since(*at) < STALE).then(|| Arc::clone(addresses))
    }

    fn is_needed(&self, now: Instant) -> bool {
        self.running.is_some() || self.stale(now).is_some()
    }
}

impl Running {
    /// Whether the lookup ended and could not note it: there was no thread for it, or the thread
    /// panicked.
    fn is_over(&self) -> bool {
        self.result.borrow().is_some() || self.result.has_changed().is_err()
    }
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        Self { kind: error.kind(), words: error.to_string().into() }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.kind, &*failure.words)
    }
}

/// Waits for a lookup; from the instant on, uses the `older` addresses.
async fn wait(mut running: Running, older: Option<(Instant, Addresses)>) -> Result<Addresses, Failure> {
    let ended = async {
        match running.result.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("it was waited for"),
            Err(_) => Err(Failure::of(&io::Error::other("the lookup failed"))),
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
