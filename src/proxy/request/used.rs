//! The use of a request, as its limits count it.

use crate::gate::limit::{Kinds, Use};
use crate::llm::price::{Cost, Prices, ServedBy, TokenCounts};
use crate::llm::usage::Usage;
use crate::record::error::{KINDS, Retry};
use crate::record::{Outcome, UsageRecord, UsageSource};

/// The counts for those that a record may lack: the expected input, and the output that has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) input: u64,
    pub(super) output: u64,
}

/// The part of a record that counts.
pub(super) struct Counting<'a> {
    /// Only what this upstream has served.
    pub(super) at: Option<&'a str>,
    /// `None`: no limit counts cost.
    pub(super) prices: Option<&'a Prices>,
    /// False: no limit counts tokens by kind.
    pub(super) kinds: bool,
}

/// The use by the record, with that of attempts whose response was thrown away: what the ledger
/// adds up.
pub(super) fn by_record(record: &UsageRecord, by: &Counting<'_>) -> Use {
    of(record, &record.usage, by)
}

/// The same, with what was `seen` for counts that the record lacks. `None`: it lacks none.
#[inline]
pub(super) fn or_seen(record: &UsageRecord, by: &Counting<'_>, seen: Option<Seen>) -> Option<Use> {
    let is_whole = matches!(record.usage_source, UsageSource::Reported | UsageSource::Drained);
    let seen = seen.filter(|_| !is_whole && may_be_billed(record))?;
    Some(of(record, &with_seen(record, seen), by))
}

/// The usage of a record with what was seen in place of what it lacks.
#[cold]
fn with_seen(record: &UsageRecord, Seen { input, output }: Seen) -> Usage {
    let own = record.usage;
    let output_tokens = match record.usage_source {
        UsageSource::Partial => own.output_tokens.max(Some(output)),
        _ => own.output_tokens.or(Some(output)),
    };
    Usage { input_tokens: own.input_tokens.or(Some(input)), output_tokens, ..own }
}

fn of(record: &UsageRecord, own: &Usage, &Counting { at, prices, kinds }: &Counting<'_>) -> Use {
    let is_at = |upstream: Option<&str>| at.is_none() || upstream == at;
    let endpoint = record.endpoint.as_deref();
    let cost = |prices: &Prices, usage: &Usage, calls, served: &ServedBy<'_>| {
        prices.cost(&TokenCounts::new(usage, calls, endpoint), served)
    };
    let mut used = if is_at(record.upstream.as_deref()) {
        let own_cost = prices.map(|prices| {
            let served = ServedBy {
                model: record.model.as_deref().or(record.model_requested.as_deref()),
                upstream: record.upstream.as_deref(),
                at: record.started_at,
                tier: record.service_tier.as_deref(),
            };
            cost(prices, own, record.tool_calls, &served)
        });
        let requests = requests(record.status, record.events, record.outcome == Outcome::Rejected);
        let cost = own_cost.unwrap_or_default();
        match kinds {
            true => Use { requests, cost, ..tokens(own, endpoint) },
            false => Use { requests, reported: reported(own), kinds: Kinds::default(), cost },
        }
    } else {
        Use::default()
    };
    let Some(group_use) = &record.group_use else { return used };
    for attempt in group_use.attempts().iter() {
        let Some(usage) = attempt.usage.as_deref().filter(|_| is_at(Some(&*attempt.upstream))) else {
            continue;
        };
        let mut thrown_away = tokens(usage, endpoint);
        if let Some(prices) = prices {
            let (model, upstream) = (attempt.model.as_deref(), Some(&*attempt.upstream));
            let served = ServedBy { model, upstream, at: record.started_at, tier: None };
            thrown_away.cost = cost(prices, usage, None, &served);
        }
        used = used.plus(&thrown_away);
    }
    used
}

/// The requests in a record: 1, or none if it was refused, also after its admission. Those of a
/// WebSocket session are its responses.
pub fn requests(status: Option<u16>, events: Option<u64>, is_refused: bool) -> u64 {
    match status {
        Some(SWITCHING) => events.unwrap_or(0),
        _ => u64::from(!is_refused),
    }
}

/// The status of a session.
const SWITCHING: u16 = 101;

/// The use of one response at this endpoint, without its cost.
pub fn tokens(usage: &Usage, endpoint: Option<&str>) -> Use {
    let counts = TokenCounts::new(usage, None, endpoint);
    let kinds = Kinds::new(&counts, usage.reasoning_tokens.unwrap_or(0));
    Use { requests: 0, reported: reported(usage), kinds, cost: Cost::default() }
}

/// The sum of input and output as the service reported them.
fn reported(usage: &Usage) -> u64 {
    usage.input_tokens.unwrap_or(0).saturating_add(usage.output_tokens.unwrap_or(0))
}

/// Returns true if a service may bill a request whose tokens it has not reported: it has begun a
/// response, or was sent the request and has not refused it.
fn may_be_billed(record: &UsageRecord) -> bool {
    let has_ended_by_itself = matches!(
        record.outcome,
        Outcome::Complete
            | Outcome::Truncated
            | Outcome::ClientDisconnected
            | Outcome::TimedOut
            | Outcome::Cut
    );
    if !has_ended_by_itself {
        return record.usage_source != UsageSource::None;
    }
    match (record.status, &record.group_use) {
        (Some(status), _) => (200..300).contains(&status),
        (None, Some(group_use)) => group_use.may_be_billed(),
        (None, None) => {
            let error = KINDS.iter().find(|kind| Some(kind.code) == record.code);
            error.is_none_or(|error| error.retry != Retry::NotSent)
        }
    }
}
