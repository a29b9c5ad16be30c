//! Failures of the OpenTelemetry collector: it is trusted or not, accepts data later, in part or
//! never, or is unreachable; none of this affects a request.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::harness::collector::{Backend, Collector, attributes};
use crate::harness::{PATIENCE, Program, ids, proxy, sized, tls_in_front_of, until};
use crate::otlp::{chat, otlp, streaming};

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn an_https_collector_is_reached_if_its_certificate_is_trusted() {
    let backend = Backend::new();
    let front = tls_in_front_of(backend.address());
    let (up, _requests) = streaming();
    let endpoint = otlp(format!("https://localhost:{}", front.address.port()));
    let tables = format!("{endpoint}\n[otlp.tls]\nca = {{ data = \"{}\" }}", base64(&front.pem));
    let trusting = proxy().upstream(&up).tables(&tables).run();
    trusting.client().send(chat("")).response();
    trusting.stop();
    assert_eq!(backend.all(1).spans.len(), 1);

    let wary = proxy().admin().upstream(&up).tables(&endpoint).run();
    assert_eq!(wary.client().send(chat("")).response().status(), 200);
    wait_until("a failure", || wary.metric("streamgauge_otlp_failures_total") > 0.0);
    wary.stop();
    assert!(backend.exports().is_empty(), "nothing is sent to whoever it is");
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    until(PATIENCE, what, || is_so().then_some(()));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn spans_are_resent_to_busy_collector_but_not_if_refused() {
    for (status, again) in [
        ("503 Service Unavailable", true),
        ("429 Too Many Requests", true),
        ("400 Bad Request", false),
        ("308 Permanent Redirect\r\nlocation: https://elsewhere.example/", false),
    ] {
        let backend = Backend::responding(move |number| {
            let status = if number == 0 { status } else { "200 OK" };
            sized(status, "application/x-protobuf", b"")
        });
        let (up, _requests) = streaming();
        let tables = format!("{}\nmetrics = false", otlp(format!("http://{}", backend.address())));
        let proxy = proxy().admin().upstream(&up).tables(&tables).run();
        proxy.client().send(chat("")).response();
        let first = backend.export();
        if again {
            assert_eq!(backend.export().body, first.body, "{status}");
        }
        let (exported, dropped) = if again { (1.0, 0.0) } else { (0.0, 1.0) };
        wait_until("the count", || {
            proxy.metric("streamgauge_otlp_spans_exported_total") == exported
                && proxy.metric("streamgauge_otlp_spans_dropped_total") == dropped
                && proxy.metric("streamgauge_otlp_failures_total") == 1.0
        });
        proxy.stop();
        assert!(backend.exports().is_empty(), "{status}");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn spans_of_a_partial_success_are_counted_as_it_says() {
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".to_owned() };
    let response = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let backend = Backend::responding(move |_| sized("200 OK", "application/x-protobuf", &response));
    let (up, _requests) = streaming();
    let tables = format!("{}\nmetrics = false", otlp(format!("http://{}", backend.address())));
    let proxy = proxy().admin().upstream(&up).tables(&tables).run();
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send(chat("")).response();
    }
    wait_until("the count", || {
        proxy.metric("streamgauge_otlp_spans_exported_total") == 1.0
            && proxy.metric("streamgauge_otlp_spans_dropped_total") == 2.0
    });
    assert_eq!(proxy.metric("streamgauge_otlp_failures_total"), 0.0);
}

#[test]
fn sigterm_sends_all_that_ended() {
    let collector = Collector::start();
    let program = Program::new(&format!("path = \"usage.db\"\n{}", otlp(collector.url())));
    let serving = program.serve();
    let served = || serving.served.load(Ordering::Relaxed);
    let ended = serving.load(2, || wait_until("some load", || served() > 700));
    serving.signal("-TERM");
    let log = serving.end();
    let exported = collector.backend.all(ended.len());
    let id = |span: &Span| attributes(&span.attributes)["streamgauge.record.id"].clone();
    let mut ids: Vec<_> = exported.spans.iter().map(id).collect();
    let mut expected: Vec<_> = ended.into_iter().map(|(id, _)| id).collect();
    ids.sort();
    expected.sort();
    assert!(ids == expected, "{} spans of {} requests", ids.len(), expected.len());
    let duration = exported.sum("gen_ai.client.operation.duration", "streamgauge.upstream", "up");
    assert_eq!(duration.0, expected.len() as u64);
    assert!(log.iter().all(|line| !line.contains("OpenTelemetry")), "nothing to say: {log:#?}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn the_end_does_not_wait_for_a_collector_that_refuses() {
    let backend = Backend::responding(|_| sized("503 Service Unavailable", "text/plain", b"no such tenant"));
    let (up, _requests) = streaming();
    let tables = format!("{}\nmetrics = false", otlp(format!("http://{}", backend.address())));
    let proxy = proxy().upstream(&up).tables(&tables).run();
    proxy.client().send(chat("")).response();
    let first = backend.export();
    // The first span is sent again and again, and this one waits.
    proxy.client().send(chat("")).response();
    proxy.stop();
    let others = backend.exports();
    assert!(!others.is_empty() && others.iter().all(|export| export.body == first.body), "a last attempt");
}

#[test]
fn collectors_reason_to_refuse_is_logged_once() {
    let partial =
        ExportTracePartialSuccess { rejected_spans: 1, error_message: "no such\ntenant".to_owned() };
    let partial = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    for (response, said) in [
        (sized("400 Bad Request", "text/plain", b"no such\ntenant"), "it responded with 400 Bad Request"),
        (sized("200 OK", "application/x-protobuf", &partial), "refuses some of the spans"),
    ] {
        let backend = Backend::responding(move |_| response.clone());
        let otlp = otlp(format!("http://{}", backend.address()));
        let program = Program::new(&format!("path = \"usage.db\"\n{otlp}\nmetrics = false"));
        let serving = program.serve();
        serving.load(1, || {
            backend.export();
            backend.export();
        });
        serving.signal("-TERM");
        let log = serving.end();
        let lines: Vec<_> = log.iter().filter(|line| line.contains("no such tenant")).collect();
        assert!(lines.len() == 1 && lines[0].contains(said), "{log:#?}");
    }
}

/// Accepts connections and sends nothing; the counter has their number. Some are closed
/// immediately.
fn mute(closes: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
            held.extend(stream.ok().filter(|_| !closes));
        }
    });
    (address, count)
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn absent_collector_is_logged_once_and_delays_no_request_or_end() {
    for closes in [false, true] {
        let (address, attempts) = mute(closes);
        let otlp = otlp(format!("http://{address}"));
        let program =
            Program::new(&format!("path = \"usage.db\"\n{otlp}\ntimeout = \"200ms\"\ninterval = \"50ms\""));
        let serving = program.serve();
        let ended = serving.load(2, || {
            wait_until("some attempts", || attempts.load(Ordering::Relaxed) > 8);
            wait_until("some load", || serving.served.load(Ordering::Relaxed) > 300);
        });
        assert!(ended.len() > 300, "requests are served");
        let stop = Instant::now();
        serving.signal("-TERM");
        let log = serving.end();
        assert!(stop.elapsed() < Duration::from_secs(8), "it ends: {:?}", stop.elapsed());
        assert_eq!(ids(&program.path("usage.db")).len(), ended.len(), "every record is kept");
        for signal in ["spans", "metrics"] {
            let said = log.iter().filter(|line| line.contains(&format!("{signal} cannot be sent")));
            assert_eq!(said.count(), 1, "once for all attempts: {log:#?}");
        }
    }
}

#[test]
fn a_live_check_is_no_request_of_anybody_s() {
    let backend = Backend::new();
    let endpoint = otlp(format!("http://{}", backend.address()));
    let program = Program::new(&format!("path = \"usage.db\"\n{endpoint}"));
    let output = program.command(&["check", "--live"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(backend.exports().is_empty());
    let output = program.command(&["check"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let line = format!("otlp      http://{}, spans, metrics every 60s, as streamgauge\n", backend.address());
    assert!(stdout.contains(&line), "{stdout}");
}
