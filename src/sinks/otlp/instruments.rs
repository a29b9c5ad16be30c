//! The GenAI metrics, counted from records.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::Metric;

use super::histogram::{Histogram, Kind};
use super::names::{error_type, input_tokens, operation};
use super::services::{Service, Services};
use super::span::nanoseconds;
use super::values::Attributes;
use crate::record::{Names, Outcome, UsageRecord, UsageSource};

/// The bounds for whole requests and first chunks.
const SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

const TOKENS: Kind = Kind {
    name: "gen_ai.client.token.usage",
    description: "Number of input and output tokens used",
    unit: "{token}",
    bounds: &[
        1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
        16777216.0, 67108864.0,
    ],
};
const DURATION: Kind = Kind {
    name: "gen_ai.client.operation.duration",
    description: "From a request's head to its end",
    unit: "s",
    bounds: SECONDS,
};
const FIRST_CHUNK: Kind = Kind {
    name: "gen_ai.client.operation.time_to_first_chunk",
    description: "From a request's head to the first event of its stream",
    unit: "s",
    bounds: SECONDS,
};
const FIRST_TOKEN: Kind = Kind {
    name: "gen_ai.server.time_to_first_token",
    description: "From a request's head to the first event with output, of successful responses",
    unit: "s",
    bounds: &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0],
};
const PER_TOKEN: Kind = Kind {
    name: "gen_ai.server.time_per_output_token",
    description: "Time per output token after the first one, of successful streams",
    unit: "s",
    bounds: &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5],
};

/// The attributes of a point. All are bounded: by lists, by the configuration, or by [`Names`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels {
    operation: Cow<'static, str>,
    service: Arc<Service>,
    model_requested: Option<Arc<str>>,
    model: Option<Arc<str>>,
    error: Option<Cow<'static, str>>,
    tokens: Option<Tokens>,
}

/// The additional attributes of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tokens {
    /// Input or output.
    kind: &'static str,
    client: Arc<str>,
    /// The source of the count, so that estimates and reported counts stay separate.
    source: UsageSource,
}

/// All instruments.
#[derive(Debug)]
pub(super) struct Instruments {
    services: Services,
    names: Names,
    start: u64,
    tokens: Histogram<Labels>,
    duration: Histogram<Labels>,
    first_chunk: Histogram<Labels>,
    first_token: Histogram<Labels>,
    per_token: Histogram<Labels>,
}

impl Instruments {
    /// Starts with no counts.
    pub(super) fn new(services: Services) -> Self {
        Self {
            services,
            names: Names::default(),
            start: nanoseconds(Timestamp::now()),
            tokens: Histogram::new(TOKENS),
            duration: Histogram::new(DURATION),
            first_chunk: Histogram::new(FIRST_CHUNK),
            first_token: Histogram::new(FIRST_TOKEN),
            per_token: Histogram::new(PER_TOKEN),
        }
    }

    /// Counts a record, if the request was for a model and was not refused before it was sent.
    pub(super) fn record(&mut self, row: &UsageRecord) {
        let service = row.upstream.as_deref().and_then(|name| self.services.get(name));
        let (Some(operation), Some(service)) = (operation(row), service) else { return };
        // A requested name is confirmed only if some model responded.
        let confirmed = row.model.as_ref().and(row.model_requested.as_deref());
        let labels = Labels {
            operation,
            service,
            model_requested: row.model_requested.as_ref().map(|_| self.names.of(confirmed)),
            model: row.model.as_deref().map(|model| self.names.of(Some(model))),
            error: None,
            tokens: None,
        };
        for (kind, count) in [("input", input_tokens(row)), ("output", row.usage.output_tokens)] {
            if let Some(count) = count {
                let tokens = Tokens { kind, client: Arc::clone(&row.client), source: row.usage_source };
                self.tokens.observe(Labels { tokens: Some(tokens), ..labels.clone() }, count as f64);
            }
        }
        let error = error_type(row);
        let is_success = error.is_none();
        self.duration.observe(Labels { error, ..labels.clone() }, row.duration_ms / 1e3);
        if let Some(millis) = row.time_to_first_event_ms.filter(|_| row.stream) {
            self.first_chunk.observe(labels.clone(), millis / 1e3);
        }
        let Some(first) = row.time_to_first_token_ms.filter(|_| is_success) else { return };
        if let Some(seconds) = per_token(row, first) {
            self.per_token.observe(labels.clone(), seconds);
        }
        self.first_token.observe(labels, first / 1e3);
    }

    /// The counts up to `now`.
    pub(super) fn metrics(&self, now: Timestamp) -> Vec<Metric> {
        let metric = |histogram: &Histogram<Labels>| {
            histogram.metric(self.start, nanoseconds(now), |labels| self.attributes(labels))
        };
        self.histograms().into_iter().filter_map(metric).collect()
    }

    /// A metric with more series than are counted separately.
    pub(super) fn overflowing(&self) -> Option<&'static str> {
        self.histograms().into_iter().find_map(Histogram::overflowing)
    }

    fn histograms(&self) -> [&Histogram<Labels>; 5] {
        [&self.tokens, &self.duration, &self.first_chunk, &self.first_token, &self.per_token]
    }

    fn attributes(&self, labels: Option<&Labels>) -> Vec<KeyValue> {
        let mut attributes = Attributes::default();
        let Some(labels) = labels else {
            attributes.flag("otel.metric.overflow", true);
            return attributes.into_vec();
        };
        let service = &labels.service;
        let tokens = labels.tokens.as_ref();
        attributes.texts([
            ("gen_ai.operation.name", Some(&*labels.operation)),
            ("gen_ai.provider.name", Some(&*service.provider)),
            ("gen_ai.request.model", labels.model_requested.as_deref()),
            ("gen_ai.response.model", labels.model.as_deref()),
            ("gen_ai.token.type", tokens.map(|tokens| tokens.kind)),
            ("error.type", labels.error.as_deref()),
            ("server.address", Some(&*service.address)),
            ("streamgauge.upstream", Some(&*service.name)),
            ("streamgauge.client", tokens.map(|tokens| &*tokens.client)),
            ("streamgauge.usage_source", tokens.map(|tokens| tokens.source.as_str())),
        ]);
        attributes.number("server.port", service.port.into());
        attributes.into_vec()
    }
}

/// The seconds per output token after the first one, which came after `first` milliseconds: of a
/// stream whose count is final, up to its last event. Counted reasoning may not have been streamed,
/// so that the time per token is unknown.
fn per_token(row: &UsageRecord, first: f64) -> Option<f64> {
    let is_final = row.outcome == Outcome::Complete && row.usage_source == UsageSource::Reported;
    let last = row.time_to_last_event_ms.filter(|_| is_final && row.stream)?;
    row.usage.reasoning_tokens.is_none_or(|tokens| tokens == 0).then_some(())?;
    let further = row.usage.output_tokens?.checked_sub(1).filter(|&further| further > 0)?;
    Some((last - first).max(0.0) / 1e3 / further as f64)
}

#[cfg(test)]
mod tests;
