//! Times measured inside streams, on either side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::harness::{
    CHAT_REQUEST, CHAT_STREAM, EVENTS_HEAD, Http2, LAST_CHUNK, Proxy, chunk, http2_client, proxy, upstream,
    write,
};

/// The time between two events.
const PACE: Duration = Duration::from_millis(30);

/// The number of events of [`CHAT_STREAM`].
const EVENTS: f64 = 5.0;

const UPSTREAM_GAPS: &str = "streamgauge_inter_event_seconds_COUNT{upstream=\"up\",side=\"upstream\"}";
const CLIENT_GAPS: &str = "streamgauge_inter_event_seconds_COUNT{upstream=\"up\",side=\"client\"}";
const ADDED: &str = "streamgauge_added_latency_seconds_COUNT{upstream=\"up\"}";

/// The count and the sum in seconds.
fn histogram(proxy: &Proxy, name: &str) -> (f64, f64) {
    (proxy.metric(&name.replace("COUNT", "count")), proxy.metric(&name.replace("COUNT", "sum")))
}

/// Checks the measurements after one stream of events with a pace between them.
fn expect_paced(proxy: &Proxy, what: &str) {
    let record = proxy.record();
    let time = |name: &str| record[name].as_f64().unwrap() / 1e3;
    let order = [
        "time_to_first_byte_ms",
        "time_to_first_event_ms",
        "time_to_first_token_ms",
        "time_to_last_event_ms",
        "duration_ms",
    ];
    assert!(order.windows(2).all(|pair| time(pair[0]) <= time(pair[1])), "{what}: {record}");
    let spread = PACE.as_secs_f64() * (EVENTS - 1.0);
    assert!(
        time("time_to_last_event_ms") - time("time_to_first_event_ms") > spread * 0.9,
        "{what}: {record}"
    );
    for side in [UPSTREAM_GAPS, CLIENT_GAPS] {
        let (count, sum) = histogram(proxy, side);
        assert_eq!(count, EVENTS - 1.0, "{what}, {side}");
        assert!((spread * 0.9..spread + 2.0).contains(&sum), "{what}, {side}: {sum} s");
    }
    let (count, sum) = histogram(proxy, ADDED);
    assert_eq!(count, EVENTS, "{what}");
    // Each is a fraction of a millisecond; other tests run on the same cores.
    assert!(sum > 0.0 && sum < spread, "{what}: {sum} s");
}

#[test]
fn gaps_and_added_latency_count_every_event_over_http1() {
    for comments in ["", "keep_alive_comments = \"10ms\""] {
        let up = upstream(|connection| {
            connection.request();
            connection.send(EVENTS_HEAD);
            for event in CHAT_STREAM.split_inclusive("\n\n") {
                std::thread::sleep(PACE);
                // In two pieces: an event has arrived when its last byte has.
                let (first, rest) = event.split_at(7);
                connection.send(chunk(first.as_bytes()));
                connection.send(chunk(rest.as_bytes()));
            }
            connection.send(LAST_CHUNK);
        });
        let proxy = proxy().admin().upstream(&up).tables(comments).run();
        let mut client = proxy.client();
        let response = client.post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!(response.text().contains(": keep-alive"), !comments.is_empty());
        expect_paced(&proxy, comments);
        assert_eq!(proxy.metric("streamgauge_streams_active{upstream=\"up\"}"), 0.0);
    }
}

#[test]
fn gaps_and_added_latency_count_every_event_over_http2() {
    use http_body_util::{BodyExt, Full};

    let up = Http2::default().run(|mut exchange| async move {
        exchange.body().await;
        let mut stream = exchange.head(200, &[("content-type", "text/event-stream")], false);
        for event in CHAT_STREAM.split_inclusive("\n\n") {
            tokio::time::sleep(PACE).await;
            write(&mut stream, event).await;
        }
        stream.send_data(bytes::Bytes::new(), true).unwrap();
    });
    let proxy = proxy().admin().http2(up.address).run();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut sender, _) = http2_client(proxy.address).await;
        let request = http::Request::post("http://localhost/v1/chat/completions")
            .body(Full::new(bytes::Bytes::from(CHAT_REQUEST)))
            .unwrap();
        let body = sender.send_request(request).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), CHAT_STREAM);
    });
    expect_paced(&proxy, "HTTP/2");
}

#[test]
fn joint_events_have_no_gap_and_slow_client_delays_only_itself() {
    const LATE: Duration = Duration::from_millis(300);
    let (go, gone) = mpsc::channel();
    let gone = Arc::new(Mutex::new(gone));
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(CHAT_STREAM.as_bytes()));
        gone.lock().unwrap().recv().unwrap();
        connection.send(LAST_CHUNK);
    });
    let proxy = proxy().admin().upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    client.chunks(CHAT_STREAM.len());
    assert_eq!(proxy.metric("streamgauge_streams_active{upstream=\"up\"}"), 1.0);
    std::thread::sleep(LATE);
    go.send(()).unwrap();
    client.rest_of_response();
    for side in [UPSTREAM_GAPS, CLIENT_GAPS] {
        assert_eq!(histogram(&proxy, side), (EVENTS - 1.0, 0.0), "{side}");
    }
    let (count, sum) = histogram(&proxy, ADDED);
    assert!(count == EVENTS && sum < LATE.as_secs_f64(), "what was written is not in our hands: {sum} s");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn bytes_that_a_client_does_not_read_wait_in_the_proxy() {
    // Far more than the sockets on the path hold.
    const EVENTS: usize = 2000;
    const STUCK: Duration = Duration::from_millis(500);
    let text = "x".repeat(16_000);
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let length = event.len() * EVENTS;
    let sent = Arc::new(AtomicUsize::new(0));
    let sending = Arc::clone(&sent);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        for _ in 0..EVENTS {
            connection.send(chunk(event.as_bytes()));
            sending.fetch_add(1, Ordering::SeqCst);
        }
        connection.send(LAST_CHUNK);
    });
    let proxy = proxy().admin().upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    // Until everything on the path is full.
    let mut before = 0;
    loop {
        std::thread::sleep(STUCK);
        let now = sent.load(Ordering::SeqCst);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    assert!(before < EVENTS, "the client must hold the stream up for this test to mean anything");
    client.chunks(length);
    client.rest_of_response();
    assert_eq!(proxy.record()["outcome"], "complete");
    assert_eq!(histogram(&proxy, ADDED).0, EVENTS as f64);
    let up_to = |seconds: &str| {
        proxy.metric(&format!("streamgauge_added_latency_seconds_bucket{{le=\"{seconds}\",upstream=\"up\"}}"))
    };
    assert!(up_to("134.217728") > up_to("0.262144"), "some waited for as long as the client did");
}
