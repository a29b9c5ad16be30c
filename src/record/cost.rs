//! What a request costs at the prices of its day.

use super::UsageRecord;
use crate::price::{Amount, Billable, Currency, INPUT_WITHOUT_CACHE, Prices};

/// What the request costs; `None` where it has no tokens, or there is no price for it.
pub fn cost(row: &UsageRecord, prices: &Prices) -> Option<(Currency, Amount)> {
    if prices.is_empty() {
        return None;
    }
    let usage = &row.usage;
    let tokens = Billable::new(
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.cache_write_input_tokens,
        usage.output_tokens,
        row.endpoint.as_deref() == Some(INPUT_WITHOUT_CACHE),
    )?;
    let model = row.model.as_deref().or(row.model_requested.as_deref())?;
    let rates = prices.find(model, row.upstream.as_deref(), row.started_at)?;
    Some((rates.currency, rates.amount(&tokens)))
}
