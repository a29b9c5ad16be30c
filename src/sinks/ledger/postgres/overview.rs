//! Reads all data that the dashboard shows of a selection.

use jiff::Timestamp;

use super::super::columns::TAGS;
use super::super::error::{LedgerError, Reason};
use super::super::query::{
    Accumulator, Bounds, FIELDS, Histogram, Overview, OverviewSpec, Percentiles, Selection,
};
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
    spec: &OverviewSpec,
    prices: &Prices,
    bounds: &Bounds,
) -> Result<Overview, LedgerError> {
    ask(settings, bounds, async |moment| {
        let mut totals = Accumulator::new(selection, spec);
        let steps: Vec<_> = totals.steps().collect();
        let mut condition = Condition::of(&moment, selection);
        let step = condition.place(&steps);
        let names = FIELDS.map(|field| format!("\"{field}\""));
        let tags = if moment.has(TAGS) { TAGS } else { "NULL::text" };
        let keys: Vec<_> = names.into_iter().chain([step, tags.to_owned()]).collect();
        add_up(&moment, REQUESTS, condition, &keys, prices, |row, sums| {
            let mut names = [None; FIELDS.len()];
            for (index, name) in names.iter_mut().enumerate() {
                *name = row.try_get::<_, Option<&str>>(index)?.map(str::as_bytes);
            }
            let step = usize::try_from(row.try_get::<_, i32>(FIELDS.len())?).unwrap_or_default();
            let tags = row.try_get::<_, Option<&str>>(FIELDS.len() + 1)?.map(str::as_bytes);
            totals.sums(step.saturating_sub(1), (names, tags)).add(sums);
            Ok(())
        })
        .await?;
        let listed = match &selection.outcome {
            None if spec.latest_failed => {
                &Selection { outcome: Some(Selection::ALL_FAILED.to_owned()), ..selection.clone() }
            }
            _ => selection,
        };
        let (first_token, _) = percentiles(&moment, selection, &[]).await?;
        let (_, latencies) = percentiles(&moment, selection, &steps).await?;
        Ok(Overview {
            first_token,
            latencies,
            histogram: histogram(&moment, selection).await?,
            latest: records::latest(&moment, listed, spec.latest, None).await?,
            currencies: prices.currencies().to_vec(),
            ..totals.finish()
        })
    })
}

/// The percentiles of the times to the first token, those of all rows or those of each step.
/// `percentile_disc` is the nearest rank.
async fn percentiles(
    moment: &Moment<'_>,
    selection: &Selection,
    steps: &[Timestamp],
) -> Result<(Percentiles, Vec<Percentiles>), Reason> {
    let mut condition = Condition::of(moment, selection);
    let step = if steps.is_empty() { "0::int4".to_owned() } else { condition.place(steps) };
    let statement = format!(
        "SELECT {step} AS step, count(time_to_first_token_ms), percentile_disc('{{0.5, 0.95, 0.99}}'::float8[])
         WITHIN GROUP (ORDER BY time_to_first_token_ms)
         FROM usage_records WHERE {} AND time_to_first_token_ms IS NOT NULL GROUP BY step",
        condition.text
    );
    let (mut all, mut by_step) = (Percentiles::default(), vec![Percentiles::default(); steps.len()]);
    for row in moment.transaction.query_typed(&statement, &condition.parameters()).await? {
        let step = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
        let rows: i64 = row.try_get(1)?;
        let found: Option<Vec<Option<f64>>> = row.try_get(2)?;
        let mut found = found.into_iter().flatten().map(Option::unwrap_or_default);
        let mut next = || found.next().unwrap_or_default();
        let found =
            Percentiles { rows: rows.unsigned_abs(), p50: next(), p95: next(), p99: next(), sampled: false };
        match by_step.get_mut(step.saturating_sub(1)) {
            Some(place) => *place = found,
            None => all = found,
        }
    }
    Ok((all, by_step))
}

/// The number of times to the first token in each class.
async fn histogram(moment: &Moment<'_>, selection: &Selection) -> Result<Histogram, Reason> {
    let condition = Condition::of(moment, selection);
    let bounds: Vec<_> = Overview::CLASSES.iter().map(f64::to_string).collect();
    let statement = format!(
        "SELECT width_bucket(time_to_first_token_ms, '{{{}}}'::float8[]) AS class, count(*)
         FROM usage_records WHERE {} AND time_to_first_token_ms IS NOT NULL GROUP BY class",
        bounds.join(", "),
        condition.text
    );
    let mut histogram = Histogram::default();
    for row in moment.transaction.query_typed(&statement, &condition.parameters()).await? {
        let class = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
        if let Some(count) = histogram.get_mut(class) {
            *count = row.try_get::<_, i64>(1)?.unsigned_abs();
        }
    }
    Ok(histogram)
}
