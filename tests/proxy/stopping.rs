//! Stop: running work finishes, and every record is written before the end.

use std::sync::mpsc;

use streamgauge::config::reload::ReloadKind;

use crate::harness::{CHAT_REQUEST, CHAT_STREAM, EVENTS_HEAD, LAST_CHUNK, chunk, proxy, upstream};

#[test]
fn a_drain_lets_a_stream_finish_and_takes_no_new_connection() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(&CHAT_STREAM.as_bytes()[..10]));
        wait.lock().unwrap().recv().unwrap();
        connection.send(chunk(&CHAT_STREAM.as_bytes()[10..]));
        connection.send(LAST_CHUNK);
    });
    let mut proxy = proxy().upstream(&up).run();
    let mut idle = proxy.client();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    let mut got = client.chunks(10);

    let running = proxy.running.take().unwrap();
    running.stop().drain();
    assert_eq!(idle.rest(), b"", "an idle connection is closed");
    // The close of the idle one shows that the drain has begun.
    assert!(std::net::TcpStream::connect(proxy.address).is_err(), "nothing listens any more");
    let reload = running.reload().request(ReloadKind::Reload).expect("the thread runs");
    reload.blocking_recv().expect_err("a process that stops takes over no configuration");
    go_on.send(()).unwrap();
    got.extend(client.chunks(CHAT_STREAM.len() - 10));
    assert_eq!(got, CHAT_STREAM.as_bytes());
    assert_eq!(client.chunk(), b"");
    assert_eq!(client.rest(), b"", "the connection ends with its response");
    running.finish().unwrap();
    assert_eq!(proxy.record()["outcome"], "complete");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn stream_that_outlasts_the_drain_is_cut_and_recorded() {
    let up = upstream(|connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.wait_for_close();
    });
    let proxy = proxy().server("drain_timeout = \"100ms\"").upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    let records = proxy.stop();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["outcome"], "cut");
    assert!(records[0]["error"].as_str().unwrap().contains("stopped"));
}
