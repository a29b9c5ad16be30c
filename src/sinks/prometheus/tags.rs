//! Counters of requests by the tags that the operator lists for metrics.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::family;
use super::labels::{TagCostLabels, TagLabels, TagTokenLabels};
use crate::llm::price::{Amount, Currency};
use crate::record::{OTHER, UsageRecord};
use crate::support::tags::{Tag, TagName};

/// The largest number of values of a tag with series of their own; all others are [`OTHER`], since
/// clients choose values.
const MAX_VALUES: usize = 100;

/// The families. They are empty without such tags.
pub(super) struct TagCounters {
    requests: Family<TagLabels, Counter>,
    tokens: Family<TagTokenLabels, Counter>,
    costs: Family<TagCostLabels, Counter<f64, AtomicU64>>,
}

impl TagCounters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            requests: family(registry, "tag_requests", "Requests that have ended, by a tag of tags.metrics"),
            tokens: family(registry, "tag_tokens", "Input and output tokens, by a tag of tags.metrics"),
            costs: family(
                registry,
                "tag_cost",
                "Costs of requests at the configured prices, by a tag of tags.metrics",
            ),
        }
    }

    pub(super) fn count(&self, values: &mut TagValues, row: &UsageRecord, cost: Option<&(Currency, Amount)>) {
        let tags = row.tags.iter().flat_map(|tags| tags.iter());
        for labels in tags.filter(|tag| tag.is_in_metrics).map(|tag| values.labels(tag)) {
            self.requests.get_or_create(&labels).inc_by(row.requests());
            for (kind, count) in [("input", row.usage.input_tokens), ("output", row.usage.output_tokens)] {
                if let Some(count) = count.filter(|count| *count > 0) {
                    let TagLabels { tag, value } = labels.clone();
                    self.tokens.get_or_create(&TagTokenLabels { tag, value, r#type: kind }).inc_by(count);
                }
            }
            if let Some((currency, amount)) = cost {
                let TagLabels { tag, value } = labels;
                let labels = TagCostLabels { tag, value, currency: currency.to_string() };
                self.costs.get_or_create(&labels).inc_by(amount.to_f64());
            }
        }
    }
}

/// The values of each tag that have series.
#[derive(Debug, Default)]
pub(super) struct TagValues(HashMap<TagName, HashSet<Arc<str>>>);

impl TagValues {
    fn labels(&mut self, tag: &Tag) -> TagLabels {
        let known = self.0.entry(tag.name).or_default();
        let value = match known.get(&*tag.value) {
            Some(value) => Arc::clone(value),
            None if known.len() < MAX_VALUES => {
                let value: Arc<str> = (*tag.value).into();
                known.insert(Arc::clone(&value));
                value
            }
            None => OTHER.into(),
        };
        TagLabels { tag: tag.name.as_str().to_owned(), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_limit_are_other() {
        let mut values = TagValues::default();
        let name = TagName::parse("team").unwrap();
        let mut value = |number: usize| {
            let tag = Tag { name, value: format!("v{number}").into(), is_in_metrics: true };
            values.labels(&tag).value.to_string()
        };
        for number in 0..MAX_VALUES {
            assert_eq!(value(number), format!("v{number}"));
        }
        assert_eq!((value(MAX_VALUES), value(0)), (OTHER.to_owned(), "v0".to_owned()));
    }
}
