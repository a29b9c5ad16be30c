//! The use of limits' periods as the ledger knows it: what was used before this process, and a
//! comparison with what limits have counted since.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;

use crate::config::{self, Settings};
use crate::gate::limit::{AppliedLimit, LimitFilter, Owner, Quantity, Units, Use, UseLimit};
use crate::llm::price::Prices;
use crate::llm::provider::Endpoint;
use crate::proxy::{limit_time, request_use, token_use};
use crate::record::Outcome;
use crate::sinks::ledger::{LedgerError, RowUse, uses};
use crate::support::threads::fault;

/// A limit whose count is being added up.
struct Seeded<'a, const N: usize> {
    applied: &'a AppliedLimit,
    /// The beginning and the end of its period.
    begin: Timestamp,
    end: Timestamp,
    /// The clients that count. `None`: all.
    clients: Option<Vec<&'a str>>,
    used: [Units; N],
}

/// A limit of cost whose count changes with the prices.
pub(super) struct Repriced {
    limit: Arc<UseLimit>,
    /// The beginning of its period.
    begin: Timestamp,
    before: Units,
    after: Units,
}

/// Sets what was used in the current period of each limit, before the limit is in use. Counts whose
/// use cannot be read begin at 0, with a warning, and false is returned.
pub(super) fn seed(limits: &[AppliedLimit], settings: &Settings, ledger: Option<&Path>) -> bool {
    match sums(limits, settings, [&settings.prices], ledger) {
        Ok(sums) => {
            for Seeded { applied, begin, used: [used], .. } in sums {
                applied.limit.seed(used, begin);
            }
            true
        }
        Err(error) => {
            tracing::warn!("limits of periods count from 0: {error}");
            false
        }
    }
}

/// The changes of the limits of cost that go on: all requests of the current period cost what they
/// cost at the prices of `settings`, as reports show it.
pub(super) fn reprice(kept: &[AppliedLimit], settings: &Settings, earlier: &Settings) -> Vec<Repriced> {
    let is_of_cost = |applied: &&AppliedLimit| {
        matches!(applied.limit.quantity(), Quantity::Cost(_)) && applied.users.is_none()
    };
    let kept: Vec<_> = kept.iter().filter(is_of_cost).cloned().collect();
    let ledger = earlier.ledger.path.as_deref();
    match sums(&kept, settings, [&earlier.prices, &settings.prices], ledger) {
        Ok(sums) => {
            let change = |Seeded { applied, begin, used: [before, after], .. }: Seeded<'_, 2>| Repriced {
                limit: Arc::clone(&applied.limit),
                begin,
                before,
                after,
            };
            sums.into_iter().map(change).collect()
        }
        Err(error) => {
            tracing::warn!("limits of cost keep what requests have cost at the earlier prices: {error}");
            Vec::new()
        }
    }
}

impl Repriced {
    pub(super) fn put_in_use(&self) {
        self.limit.reprice(self.before, self.after, self.begin);
    }
}

/// The sums of the ledger in the current period of each limit that has periods, by each of `prices`.
fn sums<'a, const N: usize>(
    limits: &'a [AppliedLimit],
    settings: &'a Settings,
    prices: [&Prices; N],
    ledger: Option<&Path>,
) -> Result<Vec<Seeded<'a, N>>, LedgerError> {
    let now = limit_time();
    let seeded = limits.iter().filter_map(|applied| {
        let (begin, end) = applied.limit.status(now).period?;
        let clients = clients_of(&applied.owner, settings);
        Some(Seeded { applied, begin, end, clients, used: [Units::default(); N] })
    });
    let mut seeded: Vec<_> = seeded.collect();
    let (Some(ledger), Some(since)) = (ledger, seeded.iter().map(|limit| limit.begin).min()) else {
        return Ok(seeded);
    };
    add_up(&mut seeded, ledger, since, settings, prices)?;
    Ok(seeded)
}

/// The interval of comparisons with the ledger.
const INTERVAL: Duration = Duration::from_secs(600);

/// The time for which records are on their way to the ledger: some ten times of what it takes.
pub(super) const ON_THE_WAY: Duration = Duration::from_secs(2);

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
pub(super) struct Comparison(Vec<(AppliedLimit, (Timestamp, Timestamp), Units)>);

impl Comparison {
    pub(super) fn begin(limits: Vec<AppliedLimit>) -> Self {
        let counted = |applied: AppliedLimit| {
            let (period, counted) = counted(&applied)?;
            Some((applied, period, counted))
        };
        Self(limits.into_iter().filter_map(counted).collect())
    }

    /// Reads the ledger, and sets the drift of each limit. Records that are closed meanwhile may be
    /// in both or in neither, so that a sum between the counts before and after is right. Returns
    /// false if the ledger cannot be read.
    pub(super) fn end(&self, settings: &Settings) -> bool {
        let Some(ledger) = settings.ledger.path.as_deref() else { return true };
        let Some(since) = self.0.iter().map(|(_, (begin, _), _)| *begin).min() else { return true };
        let mut sums = Vec::new();
        for &(ref applied, (begin, end), _) in &self.0 {
            let clients = clients_of(&applied.owner, settings);
            sums.push(Seeded { applied, begin, end, clients, used: [Units::default()] });
        }
        if let Err(error) = add_up(&mut sums, ledger, since, settings, [&settings.prices]) {
            tracing::warn!("limits cannot be compared with the ledger: {error}");
            return false;
        }
        for (Seeded { applied, begin, used: [used], .. }, (.., before)) in sums.iter().zip(&self.0) {
            // A period that has ended meanwhile is not compared.
            let after = counted(applied).filter(|((still, _), _)| still == begin);
            let Some((_, after)) = after else { continue };
            let limit = &applied.limit;
            let (missing, more) = (before.minus(*used), used.minus(after));
            let drift = (missing.0 as f64 - more.0 as f64) / limit.quantity().one().0 as f64;
            if missing.max(more) > Units::default() {
                let key = applied.key();
                tracing::warn!(drift, "{key} and the ledger count differently since {begin}");
            }
            // Requests that began before a reload added the limit, or moved their client, count now.
            limit.reprice(Units::default(), more, *begin);
            limit.set_drift(drift);
        }
        true
    }
}

/// The current period, and the part of its count whose records are closed. `None`: the limit has no period, or counts by user.
pub(super) fn counted(applied: &AppliedLimit) -> Option<((Timestamp, Timestamp), Units)> {
    if applied.users.is_some() {
        return None;
    }
    let status = applied.limit.status(limit_time());
    status.period.map(|period| (period, status.used.minus(status.unrecorded)))
}

/// Adds what the ledger has of each limit since the beginning of its period, the earliest of which
/// is `since`, by each of `prices`. Limits by user, which must have counted nothing, count the first.
fn add_up<const N: usize>(
    limits: &mut [Seeded<'_, N>],
    ledger: &Path,
    since: Timestamp,
    settings: &Settings,
    prices: [&Prices; N],
) -> Result<(), LedgerError> {
    fault::stall("seed");
    let now = limit_time();
    uses(ledger, since, prices, |row| {
        let uses = row.costs.each_ref().map(|cost| Use { cost: cost.clone(), ..use_of(row) });
        for limit in limits.iter_mut().filter(|limit| limit.counts(row, settings)) {
            let AppliedLimit { limit: all, users, .. } = limit.applied;
            let quantity = all.quantity();
            if let Some(users) = users {
                let used = quantity.of(&uses[0]);
                users.add_used(row.user.unwrap_or_default(), all, used, limit.begin, now);
                continue;
            }
            for (sum, used) in limit.used.iter_mut().zip(&uses) {
                *sum = sum.plus(quantity.of(used));
            }
        }
    })
}

impl<const N: usize> Seeded<'_, N> {
    fn counts(&self, row: &RowUse<'_, N>, settings: &Settings) -> bool {
        let filter = self.applied.limit.filter();
        // A clock that was ahead has left rows of the future.
        (self.begin..self.end).contains(&row.started_at)
            && self.clients.as_ref().is_none_or(|clients| clients.contains(&row.client))
            && filter.takes_upstream(row.upstream)
            && takes_model(filter, row, settings)
    }
}

/// Returns true if a filter takes the request of a row, by the rules of its admission.
fn takes_model<const N: usize>(filter: &LimitFilter, row: &RowUse<'_, N>, settings: &Settings) -> bool {
    if filter.model.is_none() || row.model_requested.is_some() {
        return filter.takes_model(row.model_requested);
    }
    let method = row.method.and_then(|method| method.parse::<Method>().ok()).unwrap_or_default();
    let takes_default =
        row.endpoint.is_some_and(|endpoint| Endpoint::takes_default_by_name(endpoint, &method));
    takes_default && filter.takes_model(defaults(row, settings))
}

/// The models that a request without one may get: that of its upstream, or of each member of its
/// group.
fn defaults<'a, const N: usize>(row: &RowUse<'_, N>, settings: &'a Settings) -> Vec<&'a str> {
    let of_upstream = |upstream: &'a config::Upstream| upstream.default_model.as_deref();
    let group = settings.groups.iter().find(|group| Some(&*group.name) == row.group);
    match group {
        Some(group) => {
            let of_member = |member: &'a config::MemberSettings| {
                member.model.as_deref().or_else(|| of_upstream(&settings.upstreams[member.upstream]))
            };
            group.members().filter_map(of_member).collect()
        }
        None => {
            let upstream = settings.upstreams.iter().find(|upstream| Some(&*upstream.name) == row.upstream);
            upstream.and_then(of_upstream).into_iter().collect()
        }
    }
}

/// The use of a row without its cost. Requests that were refused have used nothing.
fn use_of<const N: usize>(row: &RowUse<'_, N>) -> Use {
    let requests = row
        .outcome
        .map_or(0, |outcome| request_use(row.status, row.events, outcome == Outcome::Rejected.as_str()));
    Use { requests, ..token_use(&row.usage, row.endpoint) }
}

/// The clients whose use counts for the owner. `None`: all, and requests without a client.
fn clients_of<'a>(owner: &'a Owner, settings: &'a Settings) -> Option<Vec<&'a str>> {
    match owner {
        Owner::All => None,
        Owner::Client(name) => Some(vec![name]),
        Owner::Team(name) => {
            let is_in = |client: &&config::Client| settings.teams_of(client).any(|team| *team.name == **name);
            Some(settings.clients.iter().filter(is_in).map(|client| &*client.name).collect())
        }
    }
}
