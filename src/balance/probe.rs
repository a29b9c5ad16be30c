//! Probes of upstreams that are left out: when they are due, and what their results decide.
//!
//! A probe is one request that costs nothing. It takes the place of the trial, a moment before the
//! pause ends, so that no client's request becomes the trial. Its result decides for the upstream
//! and for all of its models whose pause ends. It decides only about [reasons](is_probed) that such
//! a request can tell: not about a refused model or a used-up quota. A good result lets credentials
//! in again only if the path has refused some before: paths such as `/health` accept any.
//!
//! The caller sends the requests, and has the timers: [`HealthRegistry::poll_opened`] tells when
//! something is newly left out.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::circuit::Trial;
use super::{BreakerPolicy, HealthRegistry, ModelHealth, OutReason, UpstreamHealth};

/// A probe begins this long before the end of a pause, so that a busy sender is not late.
const EARLY: Duration = Duration::from_millis(200);

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The upstream is well.
    Good,
    Failed,
    /// The probe failed since its credentials are refused.
    Refused,
    /// The response tells nothing: the next request decides.
    Undecided,
}

/// The numbers of probes of one upstream, by result.
#[derive(Debug, Default)]
pub struct ProbeCounts([AtomicU64; 3]);

/// A probe under way, with the trials that it decides. Dropped without a result, it leaves them to
/// the next request. On drop, requests that wait for a member look again.
#[derive(Debug)]
pub struct Probe {
    registry: Arc<HealthRegistry>,
    upstream: Arc<UpstreamHealth>,
    own: Option<Trial>,
    models: Vec<(Arc<ModelHealth>, Trial)>,
    /// The hash of its path, never 0.
    path: u64,
}

/// Wakes the sender of probes.
#[derive(Debug, Default)]
pub(super) struct OpenedSignal {
    /// The number of times that something was left out.
    count: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl ProbeResult {
    /// The counted ones: refused probes have failed.
    pub const ALL: [Self; 3] = [Self::Good, Self::Failed, Self::Undecided];

    /// The value of the label `result`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failed | Self::Refused => "failed",
            Self::Undecided => "undecided",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Good => 0,
            Self::Failed | Self::Refused => 1,
            Self::Undecided => 2,
        }
    }
}

impl ProbeCounts {
    pub fn get(&self, result: ProbeResult) -> u64 {
        self.0[result.place()].load(Relaxed)
    }
}

/// Returns true if a request for no model shows whether the reason is over.
fn is_probed(reason: OutReason) -> bool {
    match reason {
        OutReason::Failures | OutReason::SuccessRate | OutReason::Credentials => true,
        OutReason::Forbidden | OutReason::UnknownModel | OutReason::Quota => false,
    }
}

impl OpenedSignal {
    pub(super) fn notify(&self) {
        self.count.fetch_add(1, SeqCst);
        if let Some(waker) = self.waker.lock().expect("no holder panics").take() {
            waker.wake();
        }
    }
}

impl HealthRegistry {
    /// Waits until something is left out, or [`Self::note_change`] is called, after the count was
    /// `seen`; then `seen` is the present count. For one task.
    pub fn poll_opened(&self, cx: &mut Context<'_>, seen: &mut u64) -> Poll<()> {
        *self.opened.waker.lock().expect("no holder panics") = Some(cx.waker().clone());
        let count = self.opened.count.load(SeqCst);
        if std::mem::replace(seen, count) == count { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Wakes the task in [`Self::poll_opened`]: the members or their probes may have changed.
    pub fn note_change(&self) {
        self.opened.notify();
    }

    /// The models that are left out for a reason that probes decide about.
    pub fn probed_models(&self) -> Vec<Arc<ModelHealth>> {
        let mut models = self.models();
        models.retain(|model| model.out().is_some_and(is_probed));
        models
    }

    /// The time at which a probe of the upstream may begin. `None`: there is nothing to decide.
    /// `models` are those of [`Self::probed_models`].
    pub fn probe_due(&self, upstream: &UpstreamHealth, models: &[Arc<ModelHealth>]) -> Option<Instant> {
        let own = upstream.out().filter(|reason| is_probed(*reason)).and_then(|_| upstream.circuit.end());
        let of_models = models.iter().filter(|model| model.upstream() == upstream.index());
        let end = of_models.filter_map(|model| model.circuit.end()).chain(own).min()?;
        Some(self.instant(end.saturating_sub(EARLY.as_millis() as u64)))
    }

    /// Begins a probe that takes at most `limit`. `None`: none is due.
    pub fn begin_probe(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHealth>,
        models: &[Arc<ModelHealth>],
        path: &str,
        now: Instant,
        limit: Duration,
    ) -> Option<Probe> {
        let tick = self.tick(now);
        let latest = tick + EARLY.as_millis() as u64;
        let own = upstream.out().filter(|reason| is_probed(*reason));
        let own = own.and_then(|_| upstream.circuit.try_probe(tick, latest, limit));
        let of_models = models.iter().filter(|model| model.upstream() == upstream.index());
        let trial = |model: &Arc<ModelHealth>| {
            Some((Arc::clone(model), model.circuit.try_probe(tick, latest, limit)?))
        };
        let models: Vec<_> = of_models.filter_map(trial).collect();
        if own.is_none() && models.is_empty() {
            return None;
        }
        let (path, registry, upstream) = (self.hash(&path).max(1), Arc::clone(self), Arc::clone(upstream));
        Some(Probe { registry, upstream, own, models, path })
    }
}

impl Probe {
    /// Records the result. `policy` has the pauses of a failure. Returns the result that counts:
    /// [`ProbeResult::Undecided`] too if the path accepts any credentials, and they are refused.
    pub fn record(mut self, result: ProbeResult, policy: &BreakerPolicy, now: Instant) -> ProbeResult {
        if result == ProbeResult::Refused {
            self.upstream.refusing_path.store(self.path, Relaxed);
        }
        let is_about_credentials = self.own.is_some() && self.upstream.out() == Some(OutReason::Credentials);
        let may_tell = !is_about_credentials || self.upstream.refusing_path.load(Relaxed) == self.path;
        let counted = match result {
            ProbeResult::Good if !may_tell => ProbeResult::Undecided,
            result => result,
        };
        self.upstream.probes.0[counted.place()].fetch_add(1, Relaxed);
        if result == ProbeResult::Undecided {
            return counted;
        }
        let tick = self.registry.tick(now);
        let own = if counted == ProbeResult::Undecided { None } else { self.own.take() };
        let models = std::mem::take(&mut self.models);
        let own = own.map(|trial| (&self.upstream.circuit, trial));
        let models = models.iter().map(|(model, trial)| (&model.circuit, *trial));
        for (circuit, trial) in models.chain(own) {
            match result {
                ProbeResult::Good => circuit.record_success(tick, Some(trial)),
                _ => circuit.fail_probe(tick, trial, policy),
            }
        }
        counted
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(trial) = self.own {
            self.upstream.circuit.free_trial(trial);
        }
        for (model, trial) in &self.models {
            model.circuit.free_trial(*trial);
        }
        // Requests that wait for the result look again.
        self.registry.notify();
    }
}

#[cfg(test)]
mod tests;
