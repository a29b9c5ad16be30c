//! `/metrics`, as read by Prometheus and its tools.

use std::collections::BTreeMap;

use serde_json::json;

use crate::prometheus::{Prometheus, promtool};
use crate::scene::{Scene, TOKEN};

/// The results of PromQL and SQL by their labels, without zeros.
type Sums = BTreeMap<Vec<String>, u64>;

/// `sum by (labels) (metric)`.
fn scraped(prometheus: &Prometheus, metric: &str, labels: &[&str]) -> Sums {
    let series = prometheus.query(&format!("sum by ({}) ({metric})", labels.join(", ")));
    let sums = series.into_iter().map(|(found, value)| {
        let key = labels.iter().map(|&label| found.get(label).cloned().unwrap_or_default());
        (key.collect(), value as u64)
    });
    sums.filter(|&(_, sum)| sum > 0).collect()
}

/// Rows of labels with a sum at their end.
fn recorded(scene: &Scene, sql: &str) -> Sums {
    let rows = scene.postgres.sql(sql);
    let rows = rows.lines().map(|row| {
        let mut fields: Vec<_> = row.split('|').map(str::to_owned).collect();
        let sum = fields.pop().unwrap().parse().unwrap();
        (fields, sum)
    });
    rows.filter(|&(_, sum)| sum > 0).collect()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn promtool_finds_nothing_to_say_against_the_metrics() {
    let mut scene = Scene::start();
    scene.send_traffic();
    let response = scene.get("/metrics", &format!("authorization: Bearer {TOKEN}\r\n"));
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for family in ["requests_total", "tokens_total", "added_latency_seconds", "ledger_connected"] {
        assert!(
            response.text().contains(&format!("# HELP streamgauge_{family} ")),
            "{family} was not checked"
        );
    }
    promtool(&["check", "metrics"], response.text());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn scraped_metrics_equal_the_records_to_the_token() {
    let mut scene = Scene::start();
    assert_eq!(scene.get("/metrics", "").status(), 401);
    let prometheus = Prometheus::start(&scene);
    prometheus.wait_for_requests(scene.send_traffic());
    let tokens = scraped(&prometheus, "streamgauge_tokens_total", &["upstream", "model", "client", "type"]);
    let kinds =
        ["input", "output", "cached_input", "cache_write_input", "reasoning", "input_audio", "output_audio"];
    let kinds: Vec<_> = kinds.iter().map(|kind| format!("('{kind}', {kind}_tokens)")).collect();
    let by_kind = format!(
        "SELECT upstream, coalesce(model, 'other'), client, kind, sum(tokens) FROM usage_records,
            LATERAL (VALUES {}) AS kinds (kind, tokens) WHERE tokens > 0 GROUP BY 1, 2, 3, 4",
        kinds.join(", ")
    );
    assert_eq!(tokens, recorded(&scene, &by_kind));
    assert!(tokens.len() > 10, "{tokens:?}");
    let requests =
        scraped(&prometheus, "streamgauge_requests_total", &["upstream", "endpoint", "status", "outcome"]);
    let by_outcome = "SELECT upstream, endpoint, coalesce(status, 0), outcome, count(*) FROM usage_records GROUP BY 1, 2, 3, 4";
    assert_eq!(requests, recorded(&scene, by_outcome));
    let outcomes: Vec<_> =
        scraped(&prometheus, "streamgauge_requests_total", &["outcome"]).into_keys().collect();
    let all = [
        "client_disconnected",
        "complete",
        "invalid_request",
        "rate_limited",
        "rejected",
        "timed_out",
        "truncated",
        "upstream_error",
    ];
    assert_eq!(outcomes.concat(), all, "the traffic has them all");
    let sources = scraped(&prometheus, "streamgauge_usage_records_total", &["upstream", "usage_source"]);
    let by_source = "SELECT upstream, usage_source, count(*) FROM usage_records GROUP BY 1, 2";
    assert_eq!(sources, recorded(&scene, by_source));
    let streams = scraped(&prometheus, "streamgauge_time_to_first_token_seconds_count", &["upstream"]);
    let with_tokens = "SELECT upstream, count(time_to_first_token_ms) FROM usage_records GROUP BY 1";
    assert_eq!(streams, recorded(&scene, with_tokens));
    // Only OpenMetrics has units.
    let metadata = prometheus.api("metadata", &[("metric", "streamgauge_added_latency_seconds")]);
    let metadata = &metadata["streamgauge_added_latency_seconds"][0];
    assert_eq!((&metadata["type"], &metadata["unit"]), (&json!("histogram"), &json!("seconds")));
}
