use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;

use super::*;
use crate::record::MAX_NAMES;
use crate::sinks::otlp::span::tests::{listed, row, services};

fn counted(rows: &[UsageRecord]) -> Instruments {
    let mut instruments = Instruments::new(services());
    rows.iter().for_each(|row| instruments.record(row));
    instruments
}

/// The points of a metric, with their attributes listed.
fn points(instruments: &Instruments, name: &str) -> Vec<(Vec<String>, HistogramDataPoint)> {
    let metrics = instruments.metrics(Timestamp::now());
    let Some(metric) = metrics.into_iter().find(|metric| metric.name == name) else { return Vec::new() };
    let Some(Data::Histogram(histogram)) = metric.data else { panic!("{name} is no histogram") };
    let mut points: Vec<_> =
        histogram.data_points.into_iter().map(|point| (listed(&point.attributes), point)).collect();
    points.sort_by(|(one, _), (other, _)| one.cmp(other));
    points
}

fn sums(instruments: &Instruments, name: &str) -> Vec<(u64, f64)> {
    points(instruments, name).into_iter().map(|(_, point)| (point.count, point.sum.unwrap())).collect()
}

#[test]
fn tokens_are_counted_by_kind_model_and_client() {
    let points = points(&counted(&[row(), row()]), "gen_ai.client.token.usage");
    let [(input, of_input), (output, of_output)] = &points[..] else {
        panic!("input and output: {points:?}")
    };
    assert_eq!((of_input.count, of_input.sum, of_output.sum), (2, Some(18.0), Some(10.0)));
    let expected = |kind: &str| {
        [
            "gen_ai.operation.name=chat",
            "gen_ai.provider.name=groq",
            "gen_ai.request.model=gpt-asked",
            "gen_ai.response.model=gpt-real",
            &format!("gen_ai.token.type={kind}"),
            "server.address=api.groq.com",
            "server.port=443",
            "streamgauge.client=search",
            "streamgauge.upstream=up",
            "streamgauge.usage_source=reported",
        ]
        .map(str::to_owned)
    };
    assert_eq!(*input, expected("input"));
    assert_eq!(*output, expected("output"));
}

#[test]
fn estimates_and_partial_counts_stay_apart_from_reported_ones() {
    let rows = [UsageSource::Reported, UsageSource::Partial, UsageSource::Estimated]
        .map(|usage_source| UsageRecord { usage_source, ..row() });
    let points = points(&counted(&rows), "gen_ai.client.token.usage");
    let sources: Vec<_> = points.iter().map(|(labels, _)| labels.last().unwrap().as_str()).collect();
    let each = [
        "streamgauge.usage_source=estimated",
        "streamgauge.usage_source=partial",
        "streamgauge.usage_source=reported",
    ];
    assert_eq!(sources, each.repeat(2), "of input and of output");
    assert!(points.iter().all(|(_, point)| point.count == 1));
}

#[test]
fn input_reported_without_cached_tokens_is_counted_with_them() {
    let mut row = row();
    row.usage.cached_input_tokens = Some(100);
    row.usage.cache_write_input_tokens = Some(1000);
    for (endpoint, input) in [("messages", 1109.0), ("chat/completions", 9.0)] {
        row.endpoint = Some(endpoint.into());
        let sums = sums(&counted(&[row.clone()]), "gen_ai.client.token.usage");
        assert_eq!(sums, [(1, input), (1, 5.0)], "{endpoint}");
    }
}

#[test]
fn no_time_per_token_is_told_where_some_were_reasoning() {
    for (reasoning, count) in [(None, 1), (Some(0), 1), (Some(3), 0)] {
        let mut row = row();
        row.usage.reasoning_tokens = reasoning;
        let instruments = counted(&[row]);
        assert_eq!(sums(&instruments, "gen_ai.server.time_per_output_token").len(), count, "{reasoning:?}");
        assert_eq!(sums(&instruments, "gen_ai.server.time_to_first_token").len(), 1);
    }
}

#[test]
fn times_are_seconds() {
    let instruments = counted(&[row()]);
    for (name, seconds) in [
        ("gen_ai.client.operation.duration", 0.5215),
        ("gen_ai.client.operation.time_to_first_chunk", 0.1),
        ("gen_ai.server.time_to_first_token", 0.12),
        ("gen_ai.server.time_per_output_token", 0.1),
    ] {
        let [(1, sum)] = sums(&instruments, name)[..] else { panic!("{name} once") };
        assert!((sum - seconds).abs() < 1e-9, "{name}: {sum}");
    }
}

#[test]
fn an_error_is_in_the_duration_alone() {
    let mut failed = row();
    failed.outcome = Outcome::Truncated;
    let instruments = counted(&[failed]);
    let duration = points(&instruments, "gen_ai.client.operation.duration");
    assert!(duration[0].0.contains(&"error.type=truncated".to_owned()), "{duration:?}");
    assert!(points(&instruments, "gen_ai.server.time_to_first_token").is_empty());
    assert!(points(&instruments, "gen_ai.server.time_per_output_token").is_empty());
    assert_eq!(sums(&instruments, "gen_ai.client.token.usage").len(), 2, "what was used was used");
}

#[test]
fn unknown_values_are_not_counted() {
    let (mut unknown, mut refused) = (row(), row());
    unknown.usage = crate::llm::usage::Usage::default();
    unknown.stream = false;
    refused.outcome = Outcome::Rejected;
    refused.time_to_first_byte_ms = None;
    let instruments = counted(&[unknown, refused]);
    assert!(points(&instruments, "gen_ai.client.token.usage").is_empty(), "no count is no 0");
    assert!(points(&instruments, "gen_ai.client.operation.time_to_first_chunk").is_empty());
    assert_eq!(sums(&instruments, "gen_ai.client.operation.duration").len(), 1);
}

#[test]
fn no_client_and_no_upstream_can_make_up_series() {
    let rows = |of: fn(usize) -> UsageRecord| counted(&(0..MAX_NAMES + 50).map(of).collect::<Vec<_>>());
    let asked = rows(|number| UsageRecord {
        model_requested: Some(format!("m{number}").into()),
        model: None,
        ..row()
    });
    let points_asked = points(&asked, "gen_ai.client.operation.duration");
    assert_eq!(points_asked.len(), 1, "nobody has confirmed any of them");
    assert!(points_asked[0].0.contains(&"gen_ai.request.model=other".to_owned()), "{points_asked:?}");
    let named = rows(|number| UsageRecord { model: Some(format!("m{number}").into()), ..row() });
    assert_eq!(points(&named, "gen_ai.client.operation.duration").len(), MAX_NAMES);
}
