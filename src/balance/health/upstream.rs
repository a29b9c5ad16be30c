//! The health of an upstream as a whole.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::balance::circuit::Circuit;
use crate::balance::sticky::Fingerprint;
use crate::balance::verdict::CREDENTIALS;
use crate::balance::{OutReason, ProbeCounts};
use crate::support::UpstreamId;

/// The health of an upstream as a whole: connections that fail or succeed, and accepted or refused
/// credentials.
#[derive(Debug)]
pub struct UpstreamHealth {
    id: UpstreamId,
    index: u16,
    pub(in crate::balance) circuit: Circuit,
    forbidden: Mutex<Forbidden>,
    /// The largest number of running requests. 0: any number, which are not counted.
    concurrent: AtomicU32,
    running: MemberLoad,
    pub(in crate::balance) probes: ProbeCounts,
    /// The hash of the last path at which a probe's credentials were refused. 0: none.
    pub(in crate::balance) refusing_path: AtomicU64,
}

/// The running requests of a member.
#[derive(Debug, Default)]
pub(in crate::balance) struct MemberLoad(AtomicU32);

/// The models and clients of the last 403s.
#[derive(Debug, Default)]
struct Forbidden {
    models: Distinct,
    clients: Distinct,
}

/// The last different values, with the ticks at which they were last seen.
#[derive(Debug, Default)]
struct Distinct([(u32, u64); MANY]);

/// The number of models or clients with a 403 that closes an upstream,
const MANY: usize = 3;
/// and the time within which they must occur.
const FORBIDDEN_MS: u64 = 30_000;

impl UpstreamHealth {
    pub(super) fn new(id: UpstreamId, index: u16) -> Self {
        Self {
            id,
            index,
            circuit: Circuit::default(),
            forbidden: Mutex::default(),
            concurrent: AtomicU32::new(0),
            running: MemberLoad::default(),
            probes: ProbeCounts::default(),
            refusing_path: AtomicU64::new(0),
        }
    }

    pub fn id(&self) -> &UpstreamId {
        &self.id
    }

    /// The number of the upstream in this process.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The probes so far.
    pub fn probes(&self) -> &ProbeCounts {
        &self.probes
    }

    /// The reason why the upstream is left out, for all models.
    pub fn out(&self) -> Option<OutReason> {
        self.circuit.reason()
    }

    /// Lets requests in at once, after its credentials were replaced or a probe was successful.
    pub fn readmit(&self) {
        self.circuit.close();
    }

    /// Sets the largest number of requests that run at the same time, in all groups together. 0: any
    /// number. Requests that run already are not counted if there was no such number before.
    pub fn limit_concurrent(&self, concurrent: u32) {
        self.concurrent.store(concurrent, Ordering::Relaxed);
    }

    pub(in crate::balance) fn concurrent(&self) -> u32 {
        self.concurrent.load(Ordering::Relaxed)
    }

    /// Returns true if as many requests run as may.
    pub(in crate::balance) fn is_full(&self) -> bool {
        self.running.is_full(self.concurrent())
    }

    /// Counts one more, unless it is full.
    pub(in crate::balance) fn try_enter(&self) -> bool {
        self.running.try_enter(self.concurrent())
    }

    pub(in crate::balance) fn leave(&self) {
        self.running.leave();
    }

    /// Records that the upstream refused the configured credentials. Returns true if it was not out
    /// for that.
    pub(in crate::balance) fn refuse_credentials(&self, tick: u64) -> bool {
        self.circuit.open(tick, &CREDENTIALS)
    }

    /// Records a 403 for this model and client. Returns true if the upstream is out because of it.
    pub(in crate::balance) fn record_forbidden(
        &self,
        tick: u64,
        model: u32,
        fingerprint: Fingerprint,
    ) -> bool {
        let mut forbidden = self.forbidden.lock().expect("no holder panics");
        let models = forbidden.models.add(model, tick);
        let clients = forbidden.clients.add(fingerprint.client(), tick);
        if models.max(clients) < MANY {
            return false;
        }
        *forbidden = Forbidden::default();
        self.refuse_credentials(tick)
    }
}

impl Distinct {
    /// Returns the number of recent different values.
    fn add(&mut self, value: u32, tick: u64) -> usize {
        let is_recent = |&(_, at): &(u32, u64)| at != 0 && tick.saturating_sub(at) <= FORBIDDEN_MS;
        let known = self.0.iter().position(|entry| is_recent(entry) && entry.0 == value);
        let oldest = || self.0.iter().enumerate().min_by_key(|(_, (_, at))| *at).map(|(place, _)| place);
        let place = known.or_else(oldest).unwrap_or_default();
        self.0[place] = (value, tick);
        self.0.iter().filter(|entry| is_recent(entry)).count()
    }
}

impl MemberLoad {
    #[inline]
    pub(in crate::balance) fn running(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns true if `limit` requests run already (0: any number may).
    #[inline]
    pub(in crate::balance) fn is_full(&self, limit: u32) -> bool {
        limit > 0 && self.running() >= limit
    }

    /// Counts one more. False: `limit` requests run already (0: any number may).
    pub(in crate::balance) fn try_enter(&self, limit: u32) -> bool {
        if limit == 0 {
            self.0.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let below = |running: u32| (running < limit).then_some(running + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok()
    }

    pub(in crate::balance) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
