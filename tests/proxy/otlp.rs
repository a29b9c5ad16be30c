//! OpenTelemetry: the export of requests to a collector, and the trace context for upstreams.

use std::sync::mpsc;

use bytes::Bytes;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::harness::collector::{Backend, Collector, Exported, attributes, hex};
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, EVENTS_HEAD, Http2, LAST_CHUNK, PATIENCE, Request, Upstream, chunk,
    proxy, sized, upstream, write,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// An upstream that streams, and its requests.
pub fn streaming() -> (Upstream, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let _ = sender.send(request);
            connection.send(EVENTS_HEAD);
            connection.send(chunk(CHAT_STREAM.as_bytes()));
            connection.send(LAST_CHUNK);
        }
    });
    (up, requests)
}

/// A chat with further header lines.
pub fn chat(headers: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n\
         {CHAT_REQUEST}",
        CHAT_REQUEST.len()
    )
}

/// Configuration lines for the collector; further lines may follow.
pub fn otlp(endpoint: impl std::fmt::Display) -> String {
    format!("[otlp]\nendpoint = \"{endpoint}\"")
}

#[test]
fn a_request_is_a_span_between_its_client_s_and_its_upstream_s() {
    let collector = Collector::start();
    let (up, requests) = streaming();
    let proxy = proxy().upstream(&up).tables(&otlp(collector.url())).run();
    let parent = format!("a: 1\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\nb: 2\r\ntracestate: x=y\r\n");
    let response = proxy.client().send(chat(&parent)).response();
    let record = proxy.record();
    let sent = requests.recv_timeout(PATIENCE).unwrap();
    proxy.stop();
    let exported = collector.backend.all(1);
    let [span] = &exported.spans[..] else { panic!("one span: {:#?}", exported.spans) };

    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!(sent.header("traceparent").unwrap(), format!("00-{TRACE}-{}-01", hex(&span.span_id)));
    assert_eq!((sent.header("tracestate"), span.trace_state.as_str()), (Some("x=y"), "x=y"));
    let order = ["\r\na: 1\r\ntraceparent: ", "\r\nb: 2\r\ntracestate: x=y\r\n"];
    assert!(order.iter().all(|lines| sent.head.contains(lines)), "{}", sent.head);

    assert_eq!((span.name.as_str(), span.kind()), ("chat gpt-asked", SpanKind::Client));
    let said = attributes(&span.attributes);
    for (name, field) in [
        ("streamgauge.record.id", "id"),
        ("streamgauge.client", "client"),
        ("streamgauge.outcome", "outcome"),
        ("streamgauge.usage_source", "usage_source"),
        ("gen_ai.request.model", "model_requested"),
        ("gen_ai.response.model", "model"),
    ] {
        assert_eq!(said[name], record[field].as_str().unwrap(), "{name}");
    }
    for (name, field) in [
        ("gen_ai.usage.input_tokens", "input_tokens"),
        ("gen_ai.usage.output_tokens", "output_tokens"),
        ("http.response.status_code", "status"),
        ("http.response.body.size", "response_bytes"),
    ] {
        assert_eq!(said[name], record[field].to_string(), "{name}");
    }
    assert_eq!(said["server.address"], "127.0.0.1");
    assert_eq!(said["server.port"], up.address.port().to_string());
    let nanoseconds = (span.end_time_unix_nano - span.start_time_unix_nano) as f64;
    assert!((nanoseconds / 1e6 - record["duration_ms"].as_f64().unwrap()).abs() < 0.001);
    let first = span.events[0].time_unix_nano - span.start_time_unix_nano;
    assert!((first as f64 / 1e6 - record["time_to_first_token_ms"].as_f64().unwrap()).abs() < 0.001);
    assert_eq!(response.header("x-streamgauge-id").unwrap(), said["streamgauge.record.id"]);
    assert_eq!(exported.resource["service.name"], "streamgauge");
}

#[test]
fn the_metrics_are_the_sums_of_the_records() {
    let collector = Collector::start();
    let up = upstream(|connection| {
        while let Some(request) = connection.request() {
            match request.header("x-case").unwrap_or_default() {
                "stream" => {
                    connection.send(EVENTS_HEAD);
                    connection.send(chunk(CHAT_STREAM.as_bytes()));
                    connection.send(LAST_CHUNK);
                }
                "whole" => connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes())),
                _ => connection.send(sized("429 Too Many Requests", "application/json", b"{}")),
            }
        }
    });
    let proxy = proxy().upstream(&up).tables(&otlp(collector.url())).run();
    let mut client = proxy.client();
    let mut cases = ["stream", "whole", "refused"].repeat(4);
    cases.push("stream");
    for case in &cases {
        client.send(chat(&format!("x-case: {case}\r\n"))).response();
    }
    let mut records: Vec<_> = cases.iter().map(|_| proxy.record()).collect();
    records.extend(proxy.stop());
    let exported = collector.backend.all(cases.len());
    assert_eq!(exported.spans.len(), cases.len());

    for (kind, field) in [("input", "input_tokens"), ("output", "output_tokens")] {
        let known: Vec<_> = records.iter().filter_map(|record| record[field].as_f64()).collect();
        let sum = known.iter().sum::<f64>();
        assert!(sum > 0.0);
        let counted = exported.sum("gen_ai.client.token.usage", "gen_ai.token.type", kind);
        assert_eq!(counted, (known.len() as u64, sum), "{kind}");
        let name = format!("gen_ai.usage.{kind}_tokens");
        let in_spans = exported
            .spans
            .iter()
            .filter_map(|span| attributes(&span.attributes).get(&name)?.parse::<f64>().ok());
        assert_eq!(in_spans.sum::<f64>(), sum, "{kind} of the spans");
    }
    let (count, seconds) = exported.sum("gen_ai.client.operation.duration", "gen_ai.operation.name", "chat");
    let expected = records.iter().map(|record| record["duration_ms"].as_f64().unwrap() / 1e3).sum::<f64>();
    assert_eq!(count, cases.len() as u64);
    assert!((seconds - expected).abs() < 1e-6, "{seconds} s, and {expected} s in the records");
    assert_eq!(exported.sum("gen_ai.client.operation.duration", "error.type", "429").0, 4);
    assert_eq!(exported.sum("gen_ai.server.time_to_first_token", "gen_ai.response.model", "gpt-real").0, 5);
    let failed =
        exported.spans.iter().filter(|span| span.status.as_ref().unwrap().code() == StatusCode::Error);
    assert_eq!(failed.count(), 4);
    let (_, tokens) = exported.points.iter().find(|(name, _)| name == "gen_ai.client.token.usage").unwrap();
    assert_eq!(tokens.explicit_bounds[..4], [1.0, 4.0, 16.0, 64.0]);
}

#[test]
fn spans_are_the_same_over_http2_and_to_a_gzip_collector() {
    let collector = Collector::start();
    let (sender, parents) = mpsc::channel();
    let up = Http2::default().run(move |mut exchange| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(exchange.request.headers()["traceparent"].to_str().unwrap().to_owned());
            let mut stream = exchange.head(200, &[("content-type", "application/json")], false);
            write(&mut stream, CHAT_BODY.as_bytes()).await;
            stream.send_data(Bytes::new(), true).unwrap();
        }
    });
    let tables = format!("{}\ncompression = \"gzip\"", otlp(collector.url()));
    let proxy = proxy().http2(up.address).tables(&tables).run();
    proxy.client().send(chat(&format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"))).response();
    proxy.stop();
    let span = collector.backend.all(1).spans.remove(0);
    let parent = format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert_eq!(parents.recv_timeout(PATIENCE).unwrap(), parent);
}

#[test]
fn request_without_a_trace_begins_one_with_the_records_id() {
    let backend = Backend::new();
    let (up, requests) = streaming();
    let tables = format!("{}\ncompression = \"gzip\"", otlp(format!("http://{}", backend.address())));
    let proxy = proxy().upstream(&up).tables(&tables).run();
    let not_valid = format!("traceparent: 00-{TRACE}-{PARENT}\r\ntracestate: x=y\r\n");
    for headers in ["", &not_valid] {
        let response = proxy.client().send(chat(headers)).response();
        let trace = response.header("x-streamgauge-id").unwrap().replace('-', "");
        let sent = requests.recv_timeout(PATIENCE).unwrap();
        let parent = sent.header("traceparent").unwrap().to_owned();
        assert!(parent.starts_with(&format!("00-{trace}-")) && parent.ends_with("-03"), "{parent}");
        assert_eq!(sent.header("tracestate"), None, "it belonged to no trace");
    }
    proxy.stop();
    let exports = backend.exports();
    assert!(exports.iter().all(|export| export.header("content-encoding") == Some("gzip")));
    let exported = Exported::of(&exports);
    assert_eq!(exported.spans.len(), 2);
    assert!(exported.spans.iter().all(|span| span.parent_span_id.is_empty()));
}

#[test]
fn unsampled_request_has_no_span_and_is_served_all_the_same() {
    let backend = Backend::new();
    let (up, requests) = streaming();
    let tables = format!("{}\nsample = 0.0", otlp(format!("http://{}", backend.address())));
    let proxy = proxy().upstream(&up).tables(&tables).run();
    let unsampled = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    let sampled = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    for (headers, flags) in [(unsampled.as_str(), "-00"), ("", "-02"), (sampled.as_str(), "-01")] {
        proxy.client().send(chat(headers)).response();
        let sent = requests.recv_timeout(PATIENCE).unwrap();
        assert!(sent.header("traceparent").unwrap().ends_with(flags), "{}", sent.head);
    }
    proxy.stop();
    let exported = Exported::of(&backend.exports());
    assert_eq!(exported.spans.len(), 1, "the sampled parent's, whatever the share");
    assert_eq!(exported.sum("gen_ai.client.operation.duration", "gen_ai.operation.name", "chat").0, 3);
}

#[test]
fn refused_client_does_not_decide_what_is_sampled() {
    let backend = Backend::new();
    let (up, _requests) = streaming();
    let tables = format!(
        "[clients.search]\nkey = {{ value = \"right\" }}\n{}\nsample = 0.0",
        otlp(format!("http://{}", backend.address()))
    );
    let proxy = proxy().upstream(&up).tables(&tables).run();
    let sampled = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    for (key, status) in [("wrong", 401), ("right", 200)] {
        let request = chat(&format!("authorization: Bearer {key}\r\n{sampled}"));
        assert_eq!(proxy.client().send(request).response().status(), status);
    }
    proxy.stop();
    let exported = Exported::of(&backend.exports());
    let names: Vec<_> = exported.spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["chat gpt-asked"]);
}

#[test]
fn without_spans_the_client_s_headers_pass_untouched() {
    let backend = Backend::new();
    let (up, requests) = streaming();
    let metrics_only = format!("{}\ntraces = false", otlp(format!("http://{}", backend.address())));
    for tables in ["", &metrics_only] {
        let proxy = proxy().upstream(&up).tables(tables).run();
        let lines = "tracestate: x=y\r\na: 1\r\ntraceparent: not-valid\r\ntraceparent: nor-this\r\n";
        proxy.client().send(chat(lines)).response();
        let sent = requests.recv_timeout(PATIENCE).unwrap();
        assert!(sent.head.contains(lines), "{}", sent.head);
        proxy.client().send(chat("")).response();
        assert_eq!(requests.recv_timeout(PATIENCE).unwrap().header("traceparent"), None);
        proxy.stop();
    }
    assert!(Exported::of(&backend.exports()).spans.is_empty());
}

#[test]
fn a_request_that_is_sent_once_more_is_the_same_span() {
    let backend = Backend::new();
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        let responses = if connection.number == 0 { 1 } else { usize::MAX };
        for _ in 0..responses {
            let Some(request) = connection.request() else { return };
            let _ = sender.send(request);
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
        // The collector reads the next request, and closes without a response.
        if let Some(request) = connection.request() {
            let _ = sender.send(request);
        }
    });
    let proxy = proxy().upstream(&up).tables(&otlp(format!("http://{}", backend.address()))).run();
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.send(chat("")).response().status(), 200);
    }
    let sent: Vec<_> = (0..3).map(|_| requests.recv_timeout(PATIENCE).unwrap()).collect();
    proxy.stop();
    let parents: Vec<_> = sent.iter().map(|request| request.header("traceparent").unwrap()).collect();
    assert_ne!(parents[0], parents[1]);
    assert_eq!(parents[1], parents[2]);
    assert_eq!(backend.all(2).spans.len(), 2);
}

#[test]
fn no_secret_and_no_content_is_in_what_is_sent() {
    let backend = Backend::new();
    let up = Upstream::responding(
        [EVENTS_HEAD.as_bytes(), &chunk(CHAT_STREAM.as_bytes()), LAST_CHUNK.as_bytes()].concat(),
    );
    let tables = format!(
        "[clients.search]\nkey = {{ value = \"client-marker\" }}\n{}\nservice_name = \"gateway\"\n\
         headers = {{ Authorization = {{ value = \"Bearer otlp-marker\" }}, X-Scope-OrgID = \"tenant\" }}\n\
         [otlp.resource]\n\"deployment.environment.name\" = \"test\"",
        otlp(format!("http://{}/base/", backend.address()))
    );
    let proxy = proxy().upstream(&up).tables(&tables).run();
    let key = "authorization: Bearer client-marker\r\ncookie: cookie-marker\r\nx-other: other-marker\r\n";
    assert_eq!(proxy.client().send(chat(key)).response().status(), 200);
    assert_eq!(proxy.client().send(chat("authorization: Bearer wrong-marker\r\n")).response().status(), 401);
    proxy.stop();
    let mut exports = backend.exports();
    for export in &mut exports {
        assert_eq!(export.header("authorization"), Some("Bearer otlp-marker"), "{}", export.head);
        assert_eq!(export.header("x-scope-orgid"), Some("tenant"));
        assert!(export.header("user-agent").unwrap().starts_with("streamgauge/"));
        assert!(export.line().starts_with("POST /base/v1/"), "{}", export.line());
        export.head = export.head.replace("/base", "");
        let body = String::from_utf8_lossy(&export.body).into_owned();
        for secret in ["marker", "sk-upstream", "Hello", "\"Hi\"", "messages"] {
            assert!(!body.contains(secret), "{secret} in {body:?}");
        }
    }
    let exported = Exported::of(&exports);
    let names: Vec<_> = exported.spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["chat gpt-asked", "POST"], "also the refused one is a span");
    assert_eq!(exported.resource["service.name"], "gateway");
    assert_eq!(exported.resource["deployment.environment.name"], "test");
    assert_eq!(exported.sum("gen_ai.client.token.usage", "streamgauge.client", "search"), (2, 11.0));
}
