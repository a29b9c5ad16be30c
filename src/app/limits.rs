//! The use of limits' periods as the ledger knows it: what was used before this process, and a
//! comparison with what limits have counted since.

use std::path::Path;
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;

use crate::config::{self, Settings};
use crate::gate::limit::{AppliedLimit, LimitFilter, Owner, Quantity, Units, Use, Weights};
use crate::llm::provider::Endpoint;
use crate::proxy::{limit_time, token_use};
use crate::record::Outcome;
use crate::sinks::ledger::{LedgerError, RowUse, uses};

/// A limit whose count is being added up.
struct Seeded<'a> {
    applied: &'a AppliedLimit,
    /// The beginning of its period.
    begin: Timestamp,
    clients: Vec<&'a str>,
    used: Units,
}

/// Sets what was used in the current period of each limit, before the limit is in use. Counts whose
/// use cannot be read begin at 0, with a warning.
pub(super) fn seed(limits: &[AppliedLimit], settings: &Settings, ledger: Option<&Path>) {
    let now = limit_time();
    let seeded = limits.iter().filter_map(|applied| {
        let (begin, _) = applied.limit.status(now).period?;
        let clients = clients_of(&applied.owner, settings);
        Some(Seeded { applied, begin, clients, used: Units::default() })
    });
    let mut seeded: Vec<_> = seeded.collect();
    let (Some(ledger), Some(since)) = (ledger, seeded.iter().map(|limit| limit.begin).min()) else { return };
    if let Err(error) = add_up(&mut seeded, ledger, since, settings) {
        tracing::warn!("limits count from 0 in the periods that began at {since} or later: {error}");
        return;
    }
    for Seeded { applied, used, .. } in seeded {
        applied.limit.seed(used, now.time);
    }
}

/// The interval of comparisons with the ledger.
const INTERVAL: Duration = Duration::from_secs(600);

/// The time for which records are on their way to the ledger: some ten times of what it takes.
const ON_THE_WAY: Duration = Duration::from_secs(2);

/// The schedule of comparisons.
pub(super) struct Comparisons {
    next: Instant,
    /// A comparison that waits for records on their way.
    begun: Option<(Instant, Comparison)>,
}

impl Comparisons {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now + INTERVAL, begun: None }
    }

    /// Begins or ends a comparison if it is time. Must be called every few seconds.
    pub(super) fn look(&mut self, limits: impl Fn() -> Vec<AppliedLimit>, settings: &Settings, now: Instant) {
        if let Some((_, comparison)) = self.begun.take_if(|(due, _)| *due <= now) {
            comparison.end(settings);
        }
        if self.next <= now && settings.ledger.path.is_some() {
            self.next = now + INTERVAL;
            self.begun = Some((now + ON_THE_WAY, Comparison::begin(limits())));
        }
    }
}

/// The counts of periods before the ledger is read.
pub(super) struct Comparison(Vec<(AppliedLimit, Timestamp, Units)>);

impl Comparison {
    pub(super) fn begin(limits: Vec<AppliedLimit>) -> Self {
        let counted = |applied: AppliedLimit| {
            let (begin, counted) = counted(&applied)?;
            Some((applied, begin, counted))
        };
        Self(limits.into_iter().filter_map(counted).collect())
    }

    /// Reads the ledger, and sets the drift of each limit. Records that are closed meanwhile may be
    /// in both or in neither, so that a sum between the counts before and after is right.
    pub(super) fn end(self, settings: &Settings) {
        let Some(ledger) = settings.ledger.path.as_deref() else { return };
        let Some(since) = self.0.iter().map(|(_, begin, _)| *begin).min() else { return };
        let mut sums = Vec::new();
        for (applied, begin, _) in &self.0 {
            let clients = clients_of(&applied.owner, settings);
            sums.push(Seeded { applied, begin: *begin, clients, used: Units::default() });
        }
        if let Err(error) = add_up(&mut sums, ledger, since, settings) {
            tracing::warn!("limits cannot be compared with the ledger: {error}");
            return;
        }
        for (Seeded { applied, begin, used, .. }, (.., before)) in sums.iter().zip(&self.0) {
            let after = counted(applied).filter(|(still, _)| still == begin);
            let Some((_, after)) = after else { continue };
            let AppliedLimit { owner, index, limit } = applied;
            let scale = match limit.quantity() {
                Quantity::Tokens(_) => f64::from(Weights::ONE),
                _ => 1.0,
            };
            let (missing, more) = (before.minus(*used), used.minus(after));
            let drift = (missing.0 as f64 - more.0 as f64) / scale;
            if missing.max(more) > Units::default() {
                let table = owner.table();
                tracing::warn!(
                    drift,
                    "limits[{index}] in [{table}] and the ledger count differently since {begin}"
                );
            }
            limit.set_drift(drift);
        }
    }
}

/// The beginning of the current period, and its count. `None`: the limit has no period.
pub(super) fn counted(applied: &AppliedLimit) -> Option<(Timestamp, Units)> {
    let status = applied.limit.status(limit_time());
    status.period.map(|(begin, _)| (begin, status.used))
}

/// Adds what the ledger has of each limit since the beginning of its period, the earliest of which
/// is `since`.
fn add_up(
    limits: &mut [Seeded<'_>],
    ledger: &Path,
    since: Timestamp,
    settings: &Settings,
) -> Result<(), LedgerError> {
    uses(ledger, since, &settings.prices, |row| {
        let used = use_of(row);
        limits.iter_mut().filter(|limit| limit.counts(row, settings)).for_each(|limit| {
            limit.used = limit.used.plus(limit.applied.limit.quantity().of(&used));
        });
    })
}

impl Seeded<'_> {
    fn counts(&self, row: &RowUse<'_>, settings: &Settings) -> bool {
        let filter = self.applied.limit.filter();
        self.begin <= row.started_at
            && self.clients.contains(&row.client)
            && filter.takes_upstream(row.upstream)
            && takes_model(filter, row, settings)
    }
}

/// Returns true if a filter takes the request of a row, by the rules of its admission.
fn takes_model(filter: &LimitFilter, row: &RowUse<'_>, settings: &Settings) -> bool {
    if filter.model.is_none() || row.model_requested.is_some() {
        return filter.takes_model(row.model_requested);
    }
    let method = row.method.and_then(|method| method.parse::<Method>().ok()).unwrap_or_default();
    let takes_default =
        row.endpoint.is_some_and(|endpoint| Endpoint::takes_default_by_name(endpoint, &method));
    let upstream = settings.upstreams.iter().find(|upstream| Some(&*upstream.name) == row.upstream);
    takes_default && filter.takes_model(upstream.and_then(|upstream| upstream.default_model.as_deref()))
}

/// The use of a row. Requests that were refused have used nothing.
fn use_of(row: &RowUse<'_>) -> Use {
    let is_request = row.outcome.is_some_and(|outcome| outcome != Outcome::Rejected.as_str());
    let used = token_use(&row.usage, row.endpoint);
    Use { requests: u64::from(is_request), cost: row.cost.clone(), ..used }
}

/// The clients whose use counts for the owner.
fn clients_of<'a>(owner: &'a Owner, settings: &'a Settings) -> Vec<&'a str> {
    match owner {
        Owner::Client(name) => vec![name],
        Owner::Team(name) => {
            let is_in = |client: &&config::Client| settings.teams_of(client).any(|team| *team.name == **name);
            settings.clients.iter().filter(is_in).map(|client| &*client.name).collect()
        }
    }
}
