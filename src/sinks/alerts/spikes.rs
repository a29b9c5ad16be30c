//! Spikes of cost: an hour of a client that costs much more than its usual hours.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::watched::{Trouble, TroubleKind};
use crate::llm::price::{Currency, Prices};
use crate::sinks::ledger::{Bounds, By, LedgerError, LedgerSource, Report, Selection};

/// The days of the hours that are usual.
const DAYS: u64 = 14;

/// A spike costs more than this many median hours.
const TIMES: f64 = 5.0;

/// The longest time for reading the ledger.
const READING: Duration = Duration::from_secs(60);

const HOUR: i64 = 3600;

/// The costs of each client in each currency: one for each of its hours with use.
type Costs = BTreeMap<(String, Currency), Vec<f64>>;

/// The spikes of the hour of `now`, of any size, by the ledger. It blocks.
///
/// # Errors
/// Fails if the ledger cannot be read.
pub(super) fn spikes(
    ledger: &LedgerSource,
    prices: &Prices,
    now: Timestamp,
) -> Result<Vec<Trouble>, LedgerError> {
    let hour = Timestamp::from_second(now.as_second().div_euclid(HOUR) * HOUR).unwrap_or(now);
    let since = hour.checked_sub(Duration::from_hours(DAYS * 24)).unwrap_or(Timestamp::UNIX_EPOCH);
    let bounds = Bounds { deadline: Instant::now().checked_add(READING), ..Bounds::default() };
    let earlier = Selection { until: Some(hour), ..Selection::since(since) };
    let usual = costs(&ledger.report(&earlier, &[By::Client, By::Hour], prices, &bounds)?);
    let present = costs(&ledger.report(&Selection::since(hour), &[By::Client], prices, &bounds)?);
    Ok(found(&present, &usual, hour))
}

fn costs(report: &Report) -> Costs {
    let mut costs = Costs::new();
    for group in &report.groups {
        let Some(Some(client)) = group.key.first() else { continue };
        for (currency, amount) in group.sums.cost.amounts() {
            costs.entry((client.clone(), currency)).or_default().push(amount.to_f64());
        }
    }
    costs
}

fn found(present: &Costs, usual: &Costs, hour: Timestamp) -> Vec<Trouble> {
    let spike = |((client, currency), costs): (&(String, Currency), &Vec<f64>)| {
        let cost = costs.iter().sum::<f64>();
        let median = usual.get(&(client.clone(), *currency)).map_or(0.0, |hours| median(hours.clone()));
        (cost > TIMES * median).then(|| {
            let value = format!("{cost:.2} {}", currency.as_str());
            let message = format!(
                "streamgauge: client {client} has cost {value} in the hour from {hour}; its median hour of the {DAYS} days before cost {median:.2}"
            );
            let (subject, aspect) = (client.clone(), currency.as_str().to_owned());
            Trouble { kind: TroubleKind::Spike, subject, aspect, value, message, cost }
        })
    };
    present.iter().filter_map(spike).collect()
}

/// The median of hours with use.
fn median(mut costs: Vec<f64>) -> f64 {
    costs.sort_by(f64::total_cmp);
    match (costs.get(costs.len().saturating_sub(1) / 2), costs.get(costs.len() / 2)) {
        (Some(one), Some(other)) => f64::midpoint(*one, *other),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spike_costs_more_than_five_median_hours() {
        let key = ("a".to_owned(), Currency::parse("USD").unwrap());
        let costs = |costs: &[f64]| Costs::from([(key.clone(), costs.to_vec())]);
        for (usual, present, expected) in [
            (&[1.0, 2.0, 3.0][..], 10.0, None),
            (&[3.0, 1.0, 2.0], 10.1, Some("10.10 USD")),
            (&[1.0, 3.0], 10.5, Some("10.50 USD")),
            // Any cost of a new client is above its median: the bound of the webhook decides.
            (&[], 0.5, Some("0.50 USD")),
        ] {
            let spikes = found(&costs(&[present]), &costs(usual), Timestamp::UNIX_EPOCH);
            let values: Vec<_> = spikes.iter().map(|trouble| trouble.value.as_str()).collect();
            assert_eq!(values, expected.into_iter().collect::<Vec<_>>(), "{usual:?} {present}");
        }
    }
}
