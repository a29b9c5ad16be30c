//! The limits that replicas share: from the settings to the thread, and from one process of a
//! ledger to the next.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::ledger_use::Mark;
use super::limits::{Comparison, ON_THE_WAY};
use crate::config::{self, Settings};
use crate::gate::limit::{Fleet, LimitRegistry};
use crate::proxy::limit_time;
use crate::record::Journal;
use crate::sinks::ledger::ledger_id;
use crate::sinks::redis::{self, GrantExchange, Instance};

/// The thread that shares limits, before its start.
pub(super) struct SharedLimits {
    settings: config::Redis,
    pub(super) fleet: Arc<Fleet>,
    wanted: Arc<Notify>,
}

impl SharedLimits {
    pub(super) fn new(settings: &config::Redis) -> Self {
        let (fleet, wanted) = redis::fleet(settings);
        Self { settings: settings.clone(), fleet, wanted }
    }

    /// Starts the thread. `ledger`: the file in use, and the mark on it.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub(super) fn spawn(
        self,
        limits: &Arc<LimitRegistry>,
        (path, mark): (Option<&Path>, Option<&Mark>),
        journal: &Journal,
    ) -> io::Result<GrantExchange> {
        if mark.is_none_or(Mark::take) {
            self.fleet.own_ledger();
        }
        let ledger = path.and_then(|path| {
            let id = ledger_id(path);
            id.inspect_err(|error| {
                tracing::warn!("a restart will count twice what this process counts: {error}")
            })
            .ok()
        });
        GrantExchange::spawn(self.settings, limits, self.wanted, Instance { ledger }, limit_time, journal)
    }
}

/// Takes over a ledger that another process had in use at the start. That one has reported what it
/// had counted; from now on this process does.
pub(super) struct Inheritance {
    mark: Option<Arc<Mark>>,
    /// Adds what the other one has counted since.
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
            comparison.end(settings);
            fleet.own_ledger();
        } else if self.begun.is_none() && self.mark.as_deref().is_some_and(Mark::take) {
            self.begun = Some((now + ON_THE_WAY, Comparison::begin(limits.all())));
        }
    }
}
