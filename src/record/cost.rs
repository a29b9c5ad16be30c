//! The cost of a request at the prices of its day.

use super::UsageRecord;
use crate::llm::price::{Amount, Currency, Prices, ServedBy, TokenCounts};

/// The cost of the request. `None` if nothing of it is billed, or if a part of it has no price.
pub fn cost(row: &UsageRecord, prices: &Prices) -> Option<(Currency, Amount)> {
    if prices.is_empty() {
        return None;
    }
    let counts = TokenCounts::new(&row.usage, row.tool_calls, row.endpoint.as_deref());
    let served = ServedBy {
        model: row.model.as_deref().or(row.model_requested.as_deref()),
        upstream: row.upstream.as_deref(),
        at: row.started_at,
        tier: row.service_tier.as_deref(),
    };
    prices.cost(&counts, &served).amounts().next()
}
