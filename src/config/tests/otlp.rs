//! `[otlp]`.

use std::time::Duration;

use super::*;
use crate::codec::traceparent::Sampling;

fn otlp(lines: &str) -> Option<OtlpSettings> {
    settings(&format!("[otlp]\n{lines}\n{OPENAI}")).otlp
}

fn mistakes_of(lines: &str) -> Vec<String> {
    mistakes(&format!("[otlp]\n{lines}\n{OPENAI}"))
}

#[test]
fn otlp_without_endpoint_is_off() {
    assert!(settings(OPENAI).otlp.is_none());
    assert!(otlp("service_name = \"x\"\nsample = 0.5").is_none());
}

#[test]
fn otlp_endpoint_alone_has_all_defaults() {
    let otlp = otlp("endpoint = \"http://127.0.0.1:4318/\"").unwrap();
    assert_eq!((otlp.url.to_string().as_str(), otlp.url.path()), ("http://127.0.0.1:4318", ""));
    assert_eq!(otlp.traces, Some(Sampling::new(1.0)));
    assert_eq!((otlp.metrics, otlp.timeout), (Some(Duration::from_secs(60)), Duration::from_secs(10)));
    assert_eq!((otlp.service_name.as_str(), otlp.gzip), ("streamgauge", false));
    assert!(otlp.headers.is_empty() && otlp.resource.is_empty() && otlp.proxy.is_none());
}

#[test]
fn otlp_keys_can_be_variables() {
    let variables = [
        ("OPENAI_API_KEY", "sk"),
        ("STREAMGAUGE_OTLP__ENDPOINT", "https://otlp.example/base"),
        ("STREAMGAUGE_OTLP__SAMPLE", "0.25"),
        ("STREAMGAUGE_OTLP__METRICS", "false"),
        ("STREAMGAUGE_OTLP__SERVICE_NAME", "gateway"),
        ("STREAMGAUGE_OTLP__TIMEOUT", "2s"),
    ];
    let otlp = load_text(None, &variables, None).unwrap().settings.otlp.unwrap();
    assert_eq!((otlp.url.host(), otlp.url.path()), ("otlp.example", "/base"));
    assert_eq!((otlp.traces, otlp.metrics), (Some(Sampling::new(0.25)), None));
    assert_eq!((otlp.service_name.as_str(), otlp.timeout), ("gateway", Duration::from_secs(2)));
}

#[test]
fn network_proxy_applies_to_the_collector() {
    let text = "[network]\nproxy = { url = \"http://proxy:3128\", bypass = [\"near\"] }\n[otlp]\nendpoint = \"http://";
    let proxy = |host: &str| settings(&format!("{text}{host}:4318\"\n{OPENAI}")).otlp.unwrap().proxy;
    assert_eq!(proxy("far").unwrap().address.host, "proxy");
    assert!(proxy("near").is_none());
}

#[test]
fn otlp_mistakes_name_what_to_change() {
    let lines = "endpoint = \"collector:4318\"\nsample = 1.5\ninterval = \"0s\"\ncompression = \"zstd\"\nservice_name = \"\"\nheader = 1\n\
                 headers = { \"content-length\" = \"1\" }\n[otlp.resource]\n\"service.name\" = \"x\"";
    let mistakes = mistakes_of(lines);
    for (mistake, said) in mistakes.iter().zip([
        "otlp.endpoint: it does not begin with http:// or https://",
        "otlp.sample: must be a number from 0 to 1",
        "otlp.interval: ",
        "otlp.compression: \"zstd\" is unknown: write \"gzip\" or \"none\"",
        "otlp.service_name: is empty",
        "otlp.header: unknown key; did you mean `headers`?",
        "otlp.headers.content-length: cannot be set here",
        "otlp.resource.\"service.name\": is set by otlp.service_name",
    ]) {
        assert!(mistake.contains(said), "{said}: {mistakes:#?}");
    }
    assert_eq!(mistakes.len(), 8, "{mistakes:#?}");
}

#[test]
fn otlp_contradictions_are_refused() {
    let here = "endpoint = \"http://127.0.0.1:4318\"";
    for (lines, said) in [
        (format!("{here}\ntraces = false\nmetrics = false"), "otlp.traces: and metrics are both false"),
        (
            format!("{here}\n[otlp.tls]\nverification_mode = \"full\""),
            "otlp.tls: has no effect on an http:// endpoint",
        ),
    ] {
        let mistakes = mistakes_of(&lines);
        assert!(mistakes.len() == 1 && mistakes[0].contains(said), "{mistakes:#?}");
    }
}

#[test]
fn otlp_headers_are_shown_nowhere() {
    let text = format!(
        "[otlp]\nendpoint = \"http://collector:4318\"\nheaders = {{ x-key = {{ value = \"k-marker\" }}, x-team = \"t-marker\" }}\n{OPENAI}"
    );
    let loaded = from_text(&text).unwrap();
    let shown =
        format!("{:?} {}", loaded.settings.otlp.as_ref().unwrap().headers[0], loaded.settings.effective);
    assert!(!shown.contains("marker"), "{shown}");
    assert!(
        loaded.warnings[0].contains("otlp.endpoint: is http:// to another machine"),
        "{:?}",
        loaded.warnings
    );
}
