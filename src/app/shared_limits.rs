//! The limits and ids that replicas share: from the settings to the thread, and from one process of a
//! ledger to the next.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::ledger_use::Mark;
use super::limits::{Comparison, ON_THE_WAY};
use crate::balance::HealthRegistry;
use crate::config::{self, Settings};
use crate::gate::limit::{Fleet, LimitRegistry};
use crate::proxy::limit_time;
use crate::record::Journal;
use crate::sinks::ledger::ledger_id;
use crate::sinks::redis::{self, GrantExchange, Instance, SharedState};

/// The thread that shares limits, before its start.
pub(super) struct SharedLimits {
    settings: config::Redis,
    pub(super) fleet: Arc<Fleet>,
    /// Wakes the thread.
    pub(super) waker: Waker,
    wanted: Arc<Notify>,
    /// The limits have what the ledger had at the start.
    pub(super) is_seeded: bool,
}

impl SharedLimits {
    pub(super) fn new(settings: &config::Redis) -> Self {
        let (wanted, waker) = redis::notice();
        let fleet = Fleet::new(settings.when_away, waker.clone());
        Self { settings: settings.clone(), fleet, waker, wanted, is_seeded: false }
    }

    /// Starts the thread. `ledger`: the file in use, and the mark on it.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub(super) fn spawn(
        self,
        limits: &Arc<LimitRegistry>,
        health: &Arc<HealthRegistry>,
        (path, mark): (Option<&Path>, Option<&Mark>),
        journal: &Journal,
    ) -> io::Result<GrantExchange> {
        if self.is_seeded && mark.is_none_or(Mark::take) {
            self.fleet.own_ledger_from_start();
        }
        let ledger = path.and_then(|path| {
            let id = ledger_id(path);
            id.inspect_err(|error| {
                tracing::warn!("a restart will count twice what this process counts: {error}")
            })
            .ok()
        });
        let shared = SharedState { limits: Arc::clone(limits), health: Arc::clone(health) };
        GrantExchange::spawn(self.settings, shared, self.wanted, Instance { ledger }, limit_time, journal)
    }
}

/// The pause after a ledger that cannot be read.
const RETRY: Duration = Duration::from_secs(10);

/// Takes over a ledger that another process had in use at the start, or that could not be read
/// then. What earlier processes have reported of it stays until this one knows it, and reports it.
pub(super) struct Inheritance {
    mark: Option<Arc<Mark>>,
    /// Adds what the ledger has and this process does not count.
    begun: Option<(Instant, Comparison)>,
}

impl Inheritance {
    pub(super) fn new(mark: Option<Arc<Mark>>) -> Self {
        Self { mark, begun: None }
    }

    /// Looks whether the other process has ended. Must be called every few seconds.
    pub(super) fn look(&mut self, limits: &LimitRegistry, settings: &Settings, now: Instant) {
        let Some(fleet) = limits.fleet().filter(|fleet| !fleet.owns_ledger()) else { return };
        if let Some((_, comparison)) = self.begun.take_if(|(due, _)| *due <= now) {
            if comparison.end(settings) {
                fleet.own_ledger();
            } else {
                self.begun = Some((now + RETRY, Comparison::begin(limits.all())));
            }
        } else if self.begun.is_none() && self.mark.as_deref().is_none_or(Mark::take) {
            self.begun = Some((now + ON_THE_WAY, Comparison::begin(limits.all())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::limit::{Owner, WhenAway};

    fn settings(ledger: &Path) -> Settings {
        let text = format!(
            "[ledger]\npath = \"{}\"\n[upstreams.up]\nprovider = \"other\"\nurl = \"http://h/v1\"\napi_key = \"none\"\n\
             default_model = \"m\"\n[clients.search]\nkey = {{ value = \"sg-search-0123456789\" }}\n\
             limits = [{{ requests = 10, per = \"day\" }}]\n",
            ledger.display()
        );
        config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings
    }

    #[test]
    fn ledger_is_not_owned_before_it_can_be_read() {
        let broken = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(broken.path(), "no ledger").unwrap();
        let mut settings = settings(broken.path());
        let fleet = Fleet::new(WhenAway::Local, Waker::noop().clone());
        let limits = LimitRegistry::shared(Some(Arc::clone(&fleet)));
        let wanted = [(Owner::All, &*settings.clients[0].limits)];
        let (_, next) = limits.plan(wanted, limit_time());
        limits.take_over(next, limit_time());
        assert!(!super::super::limits::seed(&limits.all(), &settings, Some(broken.path())));
        let (mut inheritance, begun) = (Inheritance::new(None), Instant::now());
        let mut is_owned = |settings: &Settings, seconds: u64| {
            inheritance.look(&limits, settings, begun + Duration::from_secs(seconds));
            fleet.owns_ledger()
        };
        assert_eq!([0, 2, 4, 12].map(|seconds| is_owned(&settings, seconds)), [false; 4]);
        // Nothing is missing in a ledger that is not there.
        settings.ledger.path = None;
        assert_eq!([21, 22].map(|seconds| is_owned(&settings, seconds)), [false, true]);
    }
}
