//! The series of a record: all of them with one look-up, instead of one look-up each.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::Metrics;
use super::labels::{RequestLabels, TimeLabels, TokenLabels, UsageLabels};
use super::naming::Naming;
use super::tags::TagValues;
use crate::record::{OTHER, UsageRecord, UsageSource};

/// The largest number of combinations of labels that are remembered. Beyond it, all are forgotten
/// and looked up again.
const MAX_KNOWN: usize = 4_096;

/// The kinds of tokens, by their label.
const KINDS: [&str; 8] = [
    "input",
    "output",
    "cached_input",
    "cache_write_input",
    "cache_write_1h_input",
    "reasoning",
    "input_audio",
    "output_audio",
];

/// The names of series, and the series found so far.
#[derive(Default)]
pub(super) struct Known {
    naming: Naming,
    pub(super) tags: TagValues,
    series: HashMap<(RequestLabels, UsageSource), Arc<Series>>,
}

/// The series of records with the same labels. A series begins with its first value.
pub(super) struct Series {
    pub(super) named: TimeLabels,
    requests: Counter,
    usages: Counter,
    first_byte: OnceLock<Histogram>,
    first_token: OnceLock<Histogram>,
    duration: OnceLock<Histogram>,
    tokens: [OnceLock<Counter>; KINDS.len()],
}

impl Known {
    pub(super) fn series(&mut self, metrics: &Metrics, row: &UsageRecord) -> Arc<Series> {
        let named = self.naming.of(row);
        let TimeLabels { upstream, model, client } = named.clone();
        let labels = RequestLabels {
            upstream,
            endpoint: row.endpoint.clone().unwrap_or_default(),
            status: row.status.unwrap_or_default(),
            outcome: row.outcome.as_str(),
            model,
            client,
        };
        let key = (labels, row.usage_source);
        if let Some(series) = self.series.get(&key) {
            return Arc::clone(series);
        }
        let requests = self.requests(metrics, key.0.clone());
        let (upstream, usage_source) = (Arc::clone(&named.upstream), row.usage_source.as_str());
        let series = Arc::new(Series {
            named,
            requests,
            usages: metrics.usages.get_or_create_owned(&UsageLabels { upstream, usage_source }),
            first_byte: OnceLock::new(),
            first_token: OnceLock::new(),
            duration: OnceLock::new(),
            tokens: Default::default(),
        });
        if self.series.len() >= MAX_KNOWN {
            self.series.clear();
        }
        self.series.insert(key, Arc::clone(&series));
        series
    }

    fn requests(&mut self, metrics: &Metrics, mut labels: RequestLabels) -> Counter {
        if metrics.requests.get(&labels).is_none() && !self.naming.try_add_requests() {
            (labels.model, labels.client) = (OTHER.into(), OTHER.into());
        }
        metrics.requests.get_or_create_owned(&labels)
    }
}

impl Series {
    /// Returns true if both records have the same series: all that [`Known::series`] looks at is
    /// equal.
    pub(super) fn is_shared(one: &UsageRecord, other: &UsageRecord) -> bool {
        let labels = |row: &UsageRecord| (row.status, row.outcome, row.usage_source);
        let is_same = |one: &Arc<str>, other: &Arc<str>| Arc::ptr_eq(one, other) || one == other;
        labels(one) == labels(other)
            && is_same(&one.client, &other.client)
            && one.upstream == other.upstream
            && one.endpoint == other.endpoint
            && one.model == other.model
            && one.model_requested == other.model_requested
    }

    /// Counts a record with these labels.
    pub(super) fn count(&self, metrics: &Metrics, row: &UsageRecord) {
        self.requests.inc_by(row.requests());
        self.usages.inc_by(row.requests());
        for (family, histogram, millis) in [
            (&metrics.first_byte, &self.first_byte, row.time_to_first_byte_ms),
            (&metrics.first_token, &self.first_token, row.time_to_first_token_ms),
            (&metrics.duration, &self.duration, Some(row.duration_ms)),
        ] {
            if let Some(millis) = millis {
                histogram.get_or_init(|| family.get_or_create_owned(&self.named)).observe(millis / 1e3);
            }
        }
        let usage = &row.usage;
        let counts = [
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_input_tokens,
            usage.cache_write_input_tokens,
            usage.cache_write_1h_input_tokens,
            usage.reasoning_tokens,
            usage.input_audio_tokens,
            usage.output_audio_tokens,
        ];
        for ((counter, kind), count) in self.tokens.iter().zip(KINDS).zip(counts) {
            if let Some(count) = count.filter(|&count| count > 0) {
                counter.get_or_init(|| self.tokens(metrics, kind)).inc_by(count);
            }
        }
    }

    fn tokens(&self, metrics: &Metrics, kind: &'static str) -> Counter {
        let TimeLabels { upstream, model, client } = self.named.clone();
        metrics.tokens.get_or_create_owned(&TokenLabels { upstream, model, client, r#type: kind })
    }
}
