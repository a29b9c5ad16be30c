use super::*;
use crate::record::{Entry, MAX_NAMES, Outcome};

fn metrics(rows: usize, model: impl Fn(usize) -> Option<String>) -> String {
    let journal = Journal::new(10_000);
    for row in 0..rows {
        let mut entry = Entry::open(&journal, &"anonymous".into());
        entry.record_head(200, std::time::Instant::now());
        entry.row().upstream = Some("openai".into());
        entry.row().endpoint = Some("responses".into());
        entry.row().model = model(row).map(Into::into);
        entry.row().usage.output_tokens = Some(2);
        entry.close(Outcome::Complete);
    }
    let flows = Arc::new(StreamMetricsRegistry::new(1));
    flows.register(&"openai".into());
    let mut metrics =
        Arc::new(Metrics::new(journal.clone(), Arc::default(), flows, Arc::default(), Reload::default()));
    metrics.write(&journal.take()).unwrap();
    metrics.encode(Exposition::OpenMetrics)
}

#[test]
fn a_closed_record_is_counted_with_its_labels() {
    let text = metrics(3, |_| Some("gpt-x".to_owned()));
    for line in [
        r#"streamgauge_requests_total{upstream="openai",endpoint="responses",status="200",outcome="complete",model="gpt-x",client="anonymous"} 3"#,
        r#"streamgauge_tokens_total{upstream="openai",model="gpt-x",client="anonymous",type="output"} 6"#,
        r#"streamgauge_usage_records_total{upstream="openai",usage_source="none"} 3"#,
        r#"streamgauge_request_duration_seconds_count{upstream="openai",model="gpt-x",client="anonymous"} 3"#,
        r#"streamgauge_connections{server="proxy"} 0"#,
        r#"streamgauge_connections_accepted_total{server="admin"} 0"#,
        "streamgauge_usage_records_dropped_total 0",
        r#"streamgauge_streams_active{upstream="openai"} 0"#,
        r#"streamgauge_drains_active{upstream="openai"} 0"#,
        r#"streamgauge_inter_event_seconds_count{upstream="openai",side="client"} 0"#,
        r#"streamgauge_added_latency_seconds_bucket{le="+Inf",upstream="openai"} 0"#,
        "streamgauge_tls_reloads_total 0",
        "streamgauge_tls_reloads_failed_total 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn the_process_and_the_build_are_told_as_everywhere() {
    let text = metrics(0, |_| None);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse::<f64>().unwrap()
    };
    assert!(value("process_cpu_seconds_total") > 0.0);
    assert!(value("process_start_time_seconds") > 1.7e9);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!(value("process_threads") >= 1.0);
    assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") < value("process_max_fds"));
    assert!(text.contains("streamgauge_build_info{version=\"0."), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn request_without_response_counts_under_the_last_model() {
    let journal = Journal::new(10);
    let mut metrics = Arc::new(Metrics::new(
        journal.clone(),
        Arc::default(),
        Arc::default(),
        Arc::default(),
        Reload::default(),
    ));
    for (asked, named, outcome) in [
        ("gpt-x", Some("gpt-x-2026-01-01"), Outcome::Complete),
        ("gpt-x", None, Outcome::RateLimited),
        ("made-up", None, Outcome::InvalidRequest),
    ] {
        let mut entry = Entry::open(&journal, &"anonymous".into());
        entry.row().model_requested = Some(asked.into());
        entry.row().model = named.map(Into::into);
        entry.close(outcome);
    }
    metrics.write(&journal.take()).unwrap();
    let text = metrics.encode(Exposition::OpenMetrics);
    for line in [
        r#"outcome="rate_limited",model="gpt-x-2026-01-01",client="anonymous"} 1"#,
        r#"outcome="invalid_request",model="other",client="anonymous"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn errors_of_the_proxy_are_counted_by_code() {
    let journal = Journal::new(10);
    let mut metrics = Arc::new(Metrics::new(
        journal.clone(),
        Arc::default(),
        Arc::default(),
        Arc::default(),
        Reload::default(),
    ));
    for (code, upstream, outcome) in [
        ("missing_api_key", None, Outcome::Rejected),
        ("upstream_unreachable", Some("openai"), Outcome::UpstreamError),
    ] {
        let mut entry = Entry::open(&journal, &"anonymous".into());
        (entry.row().code, entry.row().upstream) = (Some(code), upstream.map(Into::into));
        entry.close(outcome);
    }
    metrics.write(&journal.take()).unwrap();
    let text = metrics.encode(Exposition::OpenMetrics);
    for line in [
        r#"streamgauge_rejections_total{code="missing_api_key"} 1"#,
        r#"streamgauge_upstream_failures_total{upstream="openai",code="upstream_unreachable"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn combinations_of_labels_are_bounded() {
    let journal = Journal::new(3 * naming::MAX_NAMED);
    let mut metrics = Arc::new(Metrics::new(
        journal.clone(),
        Arc::default(),
        Arc::default(),
        Arc::default(),
        Reload::default(),
    ));
    for row in 0..2 * naming::MAX_NAMED {
        let mut entry = Entry::open(&journal, &format!("client-{row}").into());
        entry.record_head(200, std::time::Instant::now());
        entry.first_token(std::time::Instant::now());
        entry.row().model = Some("m".into());
        entry.row().usage.input_tokens = Some(1);
        entry.close(Outcome::Complete);
    }
    metrics.write(&journal.take()).unwrap();
    let text = metrics.encode(Exposition::OpenMetrics);
    for family in ["requests_total", "tokens_total", "request_duration_seconds_count"] {
        let lines = text.lines().filter(|line| line.starts_with(&format!("streamgauge_{family}")));
        assert_eq!(lines.count(), naming::MAX_NAMED + 1, "{family}");
    }
    assert!(text.contains(r#"model="other",client="other"} 1000"#));
    assert!(text.len() < 16 << 20, "a scrape of {} bytes", text.len());
}

#[test]
fn shipped_records_are_counted_with_a_fleet_ledger() {
    let journal = Journal::new(1);
    let metrics =
        Metrics::new(journal.clone(), Arc::default(), Arc::default(), Arc::default(), Reload::default());
    assert!(!metrics.encode(Exposition::OpenMetrics).contains("streamgauge_ledger_"));
    let shipping = journal.health().shipping.get_or_init(Shipping::default);
    shipping.up.store(true, Ordering::Relaxed);
    shipping.shipped.store(7, Ordering::Relaxed);
    shipping.waiting.store(5, Ordering::Relaxed);
    let text = metrics.encode(Exposition::OpenMetrics);
    for line in [
        "streamgauge_ledger_shipped_total 7",
        "streamgauge_ledger_shipping_failures_total 0",
        "streamgauge_ledger_refused_total 0",
        "streamgauge_ledger_deleted_unshipped_total 0",
        "streamgauge_ledger_waiting 5",
        "streamgauge_ledger_connected 1",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_model_that_no_upstream_confirmed_has_no_label_of_its_own() {
    assert!(metrics(1, |_| None).contains(r#"model="other""#));
}

#[test]
fn model_labels_are_bounded() {
    let text = metrics(MAX_NAMES + 10, |row| Some(format!("model-{row}")));
    let labels = text.lines().filter(|line| line.starts_with("streamgauge_tokens_total")).count();
    assert_eq!(labels, MAX_NAMES + 1);
}
