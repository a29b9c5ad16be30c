//! The cost of a request at the prices of its day.

use super::UsageRecord;
use crate::llm::price::{Amount, Currency, Prices, ServedBy, TokenCounts};
use crate::llm::usage::Tally;

/// The cost of the request. `None` if nothing of it is billed, or if a part of it has no price.
pub fn cost(row: &UsageRecord, prices: &Prices) -> Option<(Currency, Amount)> {
    let counts = TokenCounts::new(&row.usage, row.tool_calls, row.endpoint.as_deref());
    amount(row, &counts, row.model.as_deref(), row.service_tier.as_deref(), prices)
}

/// The cost of the request, of whose response `tally` is known: that of its record, if the response
/// has nothing more to report.
pub fn cost_so_far(row: &UsageRecord, tally: &Tally, prices: &Prices) -> Option<(Currency, Amount)> {
    let usage = tally.usage.unwrap_or_default();
    let counts = TokenCounts::new(&usage, tally.tool_calls(), row.endpoint.as_deref());
    amount(row, &counts, tally.model.as_deref(), tally.service_tier.as_deref(), prices)
}

/// `model`: the one that the response named.
fn amount(
    row: &UsageRecord,
    counts: &TokenCounts,
    model: Option<&str>,
    tier: Option<&str>,
    prices: &Prices,
) -> Option<(Currency, Amount)> {
    if prices.is_empty() {
        return None;
    }
    let model = model.or(row.model_requested.as_deref());
    let served = ServedBy { model, upstream: row.upstream.as_deref(), at: row.started_at, tier };
    prices.cost(counts, &served).amounts().next()
}
