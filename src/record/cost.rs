//! The cost of a request at the prices of its day.

use super::UsageRecord;
use crate::llm::price::{Amount, Currency, INPUT_WITHOUT_CACHE, Prices, Served, TokenCounts};

/// The cost of the request. `None` if nothing of it is billed, or if a part of it has no price.
pub fn cost(row: &UsageRecord, prices: &Prices) -> Option<(Currency, Amount)> {
    if prices.is_empty() {
        return None;
    }
    let usage = &row.usage;
    let counts = TokenCounts {
        input: usage.input_tokens,
        cached_input: usage.cached_input_tokens,
        cache_write: usage.cache_write_input_tokens,
        cache_write_1h: usage.cache_write_1h_input_tokens,
        output: usage.output_tokens,
        tool_calls: row.tool_calls,
        cache_is_apart: row.endpoint.as_deref() == Some(INPUT_WITHOUT_CACHE),
    };
    let used = counts.billable()?;
    let served = Served {
        model: row.model.as_deref().or(row.model_requested.as_deref())?,
        upstream: row.upstream.as_deref(),
        at: row.started_at,
        tier: row.service_tier.as_deref(),
        input_tokens: counts.whole_input(),
    };
    let rates = prices.find(&served)?;
    Some((rates.currency, rates.amount(&used)?))
}
