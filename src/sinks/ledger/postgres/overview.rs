//! Reads all data that the dashboard shows of a selection.

use std::time::Duration;

use super::super::columns::TAGS;
use super::super::error::{LedgerError, Reason};
use super::super::query::{Accumulator, Bounds, Overview, Percentiles, Selection};
use super::ask::{Moment, ask};
use super::condition::Condition;
use super::records;
use super::sums::{REQUESTS, add_up};
use crate::config::Postgres;
use crate::llm::price::Prices;

/// Reads the same as [`crate::sinks::ledger::overview`] does from one instance's ledger. For the
/// same rows the numbers are equal, except that percentiles never come from a sample, and that the
/// latest records are in the order of their ends.
///
/// Blocks, and must not be called on a thread of tokio.
///
/// # Errors
/// Fails like [`report`](super::report()).
pub fn overview(
    settings: &Postgres,
    selection: &Selection,
    step: Duration,
    latest: usize,
    prices: &Prices,
    bounds: &Bounds,
) -> Result<Overview, LedgerError> {
    ask(settings, bounds, async |moment| {
        let mut totals = Accumulator::new(selection, step);
        let mut condition = Condition::of(&moment, selection);
        let step = condition.place(&totals.steps().collect::<Vec<_>>());
        let names = ["client", "upstream", "model", "\"user\"", "outcome"].map(str::to_owned);
        let tags = if moment.has(TAGS) { TAGS } else { "NULL::text" };
        let keys: Vec<_> = names.into_iter().chain([step, tags.to_owned()]).collect();
        add_up(&moment, REQUESTS, condition, &keys, prices, |row, sums| {
            let name = |index| row.try_get::<_, Option<&str>>(index).map(|name| name.map(str::as_bytes));
            let outcome: &str = row.try_get(4)?;
            let step = usize::try_from(row.try_get::<_, i32>(5)?).unwrap_or_default();
            let names = [name(0)?, name(1)?, name(2)?, name(3)?];
            totals.add(step.saturating_sub(1), names, outcome.as_bytes(), sums);
            totals.add_tags(name(6)?, sums);
            Ok(())
        })
        .await?;
        Ok(Overview {
            first_token: first_token(&moment, selection).await?,
            latest: records::latest(&moment, selection, latest, None).await?,
            currencies: prices.currencies().to_vec(),
            ..totals.finish()
        })
    })
}

/// `percentile_disc` is the nearest rank.
async fn first_token(moment: &Moment<'_>, selection: &Selection) -> Result<Percentiles, Reason> {
    let condition = Condition::of(moment, selection);
    let statement = format!(
        "SELECT count(time_to_first_token_ms), percentile_disc('{{0.5, 0.95, 0.99}}'::float8[])
         WITHIN GROUP (ORDER BY time_to_first_token_ms) FROM usage_records WHERE {}",
        condition.text
    );
    let row = moment.transaction.query_typed_one(&statement, &condition.parameters()).await?;
    let rows: i64 = row.try_get(0)?;
    let found: Option<Vec<Option<f64>>> = row.try_get(1)?;
    let mut found = found.into_iter().flatten().map(Option::unwrap_or_default);
    let mut next = || found.next().unwrap_or_default();
    Ok(Percentiles { rows: rows.unsigned_abs(), p50: next(), p95: next(), p99: next(), sampled: false })
}
