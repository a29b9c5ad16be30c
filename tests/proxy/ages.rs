//! Upstream connections that exceed their age: they finish running requests, and get no new ones.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Connection, EVENTS_HEAD, FINAL, Frames, LAST_CHUNK, PATIENCE,
    Proxy, chunk, proxy, sized, until, upstream,
};

const PATH: &str = "/v1/chat/completions";
const UNSTREAMED: &str = "{\"model\":\"m\",\"messages\":[]}";
const YOUNG: &str = "max_connection_age = \"200ms\"";

/// After such a silence, a connection that is no longer [`YOUNG`] gets no request.
const SILENCE: Duration = Duration::from_secs(1);

/// The gate at which the responses to streams wait for the test.
type Gate = Mutex<mpsc::Receiver<()>>;

fn gate() -> (mpsc::Sender<()>, Gate) {
    let (open, gate) = mpsc::channel();
    (open, Mutex::new(gate))
}

fn wait(gate: &Gate) {
    gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
}

/// Sends requests one after the other until `is_over`.
fn load(proxy: &Proxy, mut is_over: impl FnMut() -> bool) {
    let mut client = proxy.client();
    until(PATIENCE, "another connection", || {
        assert_eq!(client.post(PATH, UNSTREAMED).response().status(), 200);
        is_over().then_some(())
    });
}

fn serve_http1(connection: &mut Connection, gate: &Gate) {
    while let Some(request) = connection.request() {
        if request.body == CHAT_REQUEST.as_bytes() {
            connection.send(EVENTS_HEAD);
            wait(gate);
            connection.send([&chunk(CHAT_STREAM.as_bytes())[..], LAST_CHUNK.as_bytes()].concat());
        } else {
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
    }
}

#[test]
fn old_http1_connection_is_replaced_and_finishes_its_stream() {
    let (open, gate) = gate();
    let up = upstream(move |connection| serve_http1(connection, &gate));
    let proxy = proxy().upstream(&up).tables(YOUNG).run();
    let mut stream = proxy.client();
    stream.post(PATH, CHAT_REQUEST);
    let head = stream.head();
    // The stream has the first connection; the load begins with the second.
    load(&proxy, || up.accepted() > 2);
    open.send(()).unwrap();
    assert_eq!(stream.body_and_end(&head).0, CHAT_STREAM.as_bytes());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn old_http2_connection_is_replaced_and_finishes_its_stream() {
    let (open, gate) = gate();
    let up = upstream(move |connection| {
        let is_first = connection.number == 0;
        if is_first {
            connection.read_within(SILENCE);
        }
        let mut frames = Frames::begin(connection, &[]);
        let begun = is_first.then(|| frames.request().unwrap());
        if let Some(stream) = begun {
            frames.head(stream, "text/event-stream");
        }
        while let Some(stream) = frames.request() {
            frames.head(stream, "application/json");
            frames.data(stream, CHAT_BODY.as_bytes(), FINAL);
        }
        if let Some(stream) = begun {
            wait(&gate);
            frames.data(stream, CHAT_STREAM.as_bytes(), FINAL);
            frames.0.read_within(PATIENCE);
            frames.0.wait_for_close();
        }
    });
    let proxy = proxy().http2(up.address).tables(YOUNG).run();
    let mut stream = proxy.client();
    stream.post(PATH, CHAT_REQUEST);
    let head = stream.head();
    load(&proxy, || up.accepted() > 1);
    open.send(()).unwrap();
    assert_eq!(stream.body_and_end(&head).0, CHAT_STREAM.as_bytes());
}

#[test]
fn connection_of_any_age_is_used_again_where_there_is_no_limit() {
    let (_open, gate) = gate();
    let up = upstream(move |connection| serve_http1(connection, &gate));
    let proxy = proxy().upstream(&up).tables("max_connection_age = \"\"").run();
    let begun = std::time::Instant::now();
    load(&proxy, || begun.elapsed() > Duration::from_millis(300));
    assert_eq!(up.accepted(), 1);
}
