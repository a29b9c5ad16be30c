//! The sums of an entry.

use super::times::Counted;
use crate::llm::price::{Billable, Reported};

/// The sums of tokens: input, cached input, cache writes, output, reasoning, the total, and the part
/// of the total that is computed.
pub(in crate::sinks::ledger) const TOKENS: usize = 7;

/// The sums of rows with the same key. A count that no row has is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::sinks::ledger) struct Tally {
    pub(in crate::sinks::ledger) requests: u64,
    pub(in crate::sinks::ledger) tokens: [Option<u64>; TOKENS],
    pub(in crate::sinks::ledger) billed_seconds: Option<f64>,
    pub(in crate::sinks::ledger) reported_cost: Option<Reported>,
    pub(in crate::sinks::ledger) billable: Billable,
    /// Times to the first token, in ascending order of classes.
    pub(in crate::sinks::ledger) times: Vec<Counted>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        for (sum, more) in self.tokens.iter_mut().zip(other.tokens) {
            add_tokens(sum, more);
        }
        if let Some(more) = other.billed_seconds {
            self.add_seconds(more);
        }
        if let Some(more) = other.reported_cost {
            self.add_reported(more);
        }
        self.bill(&other.billable);
        other.times.iter().for_each(|(class, count)| self.add_times(*class, *count));
    }

    pub(super) fn add_seconds(&mut self, more: f64) {
        self.billed_seconds = Some(self.billed_seconds.unwrap_or(0.0) + more);
    }

    pub(super) fn add_reported(&mut self, more: Reported) {
        self.reported_cost = Some(self.reported_cost.unwrap_or_default().plus(more));
    }

    pub(super) fn bill(&mut self, more: &Billable) {
        self.billable = self.billable.plus(more);
    }

    pub(super) fn add_times(&mut self, class: u16, count: u64) {
        match self.times.binary_search_by_key(&class, |(known, _)| *known) {
            Ok(place) => self.times[place].1 = self.times[place].1.saturating_add(count),
            Err(place) => self.times.insert(place, (class, count)),
        }
    }
}

/// Adds a count that may be unknown.
pub(super) fn add_tokens(sum: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0).saturating_add(more));
    }
}
