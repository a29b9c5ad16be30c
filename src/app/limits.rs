//! The use of limits' periods before this process, as the ledger knows it.

use std::path::Path;

use http::Method;
use jiff::Timestamp;

use crate::config::{self, Settings};
use crate::gate::limit::{AppliedLimit, LimitFilter, Owner, Units, Use};
use crate::llm::provider::Endpoint;
use crate::proxy::{limit_time, token_use};
use crate::record::Outcome;
use crate::sinks::ledger::{RowUse, uses};

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
    let read = uses(ledger, since, &settings.prices, |row| {
        let used = use_of(row);
        seeded.iter_mut().filter(|limit| limit.counts(row, settings)).for_each(|limit| {
            limit.used = limit.used.plus(limit.applied.limit.quantity().of(&used));
        });
    });
    if let Err(error) = read {
        tracing::warn!("limits count from 0 in the periods that began at {since} or later: {error}");
        return;
    }
    for Seeded { applied, used, .. } in seeded {
        applied.limit.seed(used, now.time);
    }
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
