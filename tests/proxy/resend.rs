//! Decides when a request is sent again, and to which request the first bytes on a connection
//! respond.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Client, Connection, FINAL, Frames, LAST_CHUNK, Response, Upstream,
    chunk, proxy, sized, upstream,
};

const PATH: &str = "/v1/chat/completions";

/// The time for which an upstream works on a request before it fails: far beyond the time in which
/// a close can cross a request.
const WORK: Duration = Duration::from_millis(150);

/// An upstream that responds to the first request of its first connection and leaves the rest of
/// that connection to `then`. Every other connection gets responses. Sends the number of the
/// connection of each request head.
fn upstream_with_second_request(
    then: impl Fn(&mut Connection) + Send + Sync + 'static,
) -> (Upstream, mpsc::Receiver<usize>) {
    let (seen, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        let number = connection.number;
        let response = sized("200 OK", "application/json", CHAT_BODY.as_bytes());
        if number == 0 {
            connection.request().unwrap();
            seen.send(number).unwrap();
            connection.send(&response);
            then(connection);
            return;
        }
        while connection.request().is_some() {
            seen.send(number).unwrap();
            connection.send(&response);
        }
    });
    (up, requests)
}

fn assert_no_response(response: &Response) {
    assert_eq!(response.status(), 502, "{}", response.text());
    assert_eq!(response.error()["code"], "upstream_protocol");
    assert_eq!(response.header("x-should-retry"), Some("false"), "{}", response.head);
}

#[test]
fn request_that_upstream_worked_on_is_not_sent_again() {
    for is_form in [false, true] {
        let (worked, work) = mpsc::channel();
        let (up, _requests) = upstream_with_second_request(move |connection| {
            worked.send(connection.request().unwrap().body).unwrap();
            std::thread::sleep(WORK);
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
        let body = if is_form { "--x--" } else { CHAT_REQUEST };
        let content_type = if is_form { "multipart/form-data; boundary=x" } else { "application/json" };
        client.send(format!(
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_no_response(&client.response());
        assert_eq!(work.try_iter().collect::<Vec<_>>(), [body.as_bytes()], "executed once");
        assert_eq!(up.accepted(), 1);
        assert_eq!(proxy.record()["outcome"], "complete");
        assert_eq!(proxy.record()["outcome"], "upstream_error");
    }
}

#[test]
fn http2_request_that_upstream_worked_on_is_not_sent_again() {
    let up = upstream(|connection| {
        let mut frames = Frames::begin(connection, &[]);
        let stream = frames.request().unwrap();
        frames.head(stream, "text/event-stream");
        frames.data(stream, CHAT_STREAM.as_bytes(), FINAL);
        frames.request().unwrap();
        std::thread::sleep(WORK);
    });
    let proxy = proxy().http2(up.address).run();
    let mut client = proxy.client();
    assert_eq!(client.post(PATH, CHAT_REQUEST).response().text(), CHAT_STREAM);
    assert_no_response(&client.post(PATH, CHAT_REQUEST).response());
    assert_eq!(up.accepted(), 1);
}

#[test]
fn only_unsafe_methods_are_told_not_to_retry() {
    for (request, told) in [
        (format!("GET {PATH} HTTP/1.1\r\nhost: localhost\r\n\r\n"), None),
        (format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"), Some("false")),
    ] {
        let up = upstream(|connection| drop(connection.request()));
        let proxy = proxy().upstream(&up).run();
        let response = proxy.client().send(&request).response();
        assert_eq!((response.status(), response.header("x-should-retry")), (502, told), "{request}");
    }
}

#[test]
fn upstream_that_is_never_reached_leaves_retries_to_client() {
    let mut up = upstream(|_| {});
    up.address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post(PATH, CHAT_REQUEST).response();
    assert_eq!((response.status(), response.header("x-should-retry")), (502, None));
}

#[test]
fn incomplete_request_on_kept_connection_is_sent_again() {
    // More than the sockets hold.
    let large = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "x".repeat(24 << 20));
    let (up, requests) = upstream_with_second_request(|connection| {
        // The upstream closes although the body is still being sent.
        connection.head();
        std::thread::sleep(WORK);
    });
    let proxy = proxy().server("max_request_bytes = 50000000").upstream(&up).run();
    let mut client = proxy.client();
    assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
    assert_eq!(client.post(PATH, &large).response().text(), CHAT_BODY);
    assert_eq!(requests.try_iter().collect::<Vec<_>>(), [0, 1]);
}

/// Sends a chunked upload that is not buffered, and its end only after `go_on`.
fn upload(client: &mut Client, go_on: &mpsc::Receiver<()>) -> Response {
    client.send(
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n\
         transfer-encoding: chunked\r\n\r\n",
    );
    client.send(chunk(b"--x\r\n"));
    go_on.recv().unwrap();
    client.send(LAST_CHUNK);
    client.response()
}

#[test]
fn early_response_to_an_upload_is_relayed_except_a_408() {
    for (early, seen) in [
        ("200 OK", 200),
        ("302 Found", 302),
        ("408 Request Timeout", 502),
        ("401 Unauthorized", 401),
        ("413 Content Too Large", 413),
        ("503 Service Unavailable", 503),
    ] {
        let (written, go_on) = mpsc::channel();
        let (up, _requests) = upstream_with_second_request(move |connection| {
            connection.head().unwrap();
            // Bytes that belong to no request, or to this one.
            connection.send(sized(early, "application/json", b"{\"stale\":1}"));
            written.send(()).unwrap();
            connection.wait_for_close();
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
        let response = upload(&mut client, &go_on);
        assert_eq!(response.status(), seen, "{early}: {}", response.text());
        assert_eq!(response.text().contains("stale"), seen != 502, "{early}");
        assert_eq!(up.accepted(), 1);
    }
}

#[test]
fn early_success_for_a_held_body_is_not_its_response() {
    // More than the sockets hold.
    let large = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "x".repeat(24 << 20));
    let (done, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (up, requests) = upstream_with_second_request(move |connection| {
        connection.head();
        connection.send(sized("200 OK", "application/json", b"{\"stale\":1}"));
        // The upstream reads nothing, so that the request stays unfinished.
        let _ = wait.lock().unwrap().recv();
    });
    let proxy = proxy().server("max_request_bytes = 50000000").upstream(&up).run();
    let mut client = proxy.client();
    assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
    assert_eq!(client.post(PATH, &large).response().text(), CHAT_BODY);
    drop(done);
    assert_eq!(requests.try_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn interim_response_to_unfinished_upload_is_passed_over() {
    for interim in ["100 Continue", "102 Processing", "103 Early Hints"] {
        let (written, go_on) = mpsc::channel();
        let (up, requests) = upstream_with_second_request(move |connection| {
            connection.head().unwrap();
            connection.send(format!("HTTP/1.1 {interim}\r\n\r\n"));
            written.send(()).unwrap();
            connection.read(chunk(b"--x\r\n").len() + LAST_CHUNK.len());
            connection.send(sized("200 OK", "application/json", b"{\"uploaded\":1}"));
            connection.wait_for_close();
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
        assert_eq!(upload(&mut client, &go_on).text(), "{\"uploaded\":1}", "{interim}");
        assert_eq!((up.accepted(), requests.try_iter().count()), (1, 1), "{interim}");
    }
}

#[test]
fn request_with_interim_response_is_not_sent_again() {
    let (up, requests) = upstream_with_second_request(|connection| {
        connection.request().unwrap();
        connection.send("HTTP/1.1 103 Early Hints\r\n\r\n");
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
    let response = client.post(PATH, CHAT_REQUEST).response();
    assert_eq!(response.status(), 502, "{}", response.text());
    assert_eq!((up.accepted(), requests.try_iter().count()), (1, 1));
}

#[test]
fn early_response_on_new_connection_is_relayed() {
    for early in ["200 OK", "413 Content Too Large"] {
        let (written, go_on) = mpsc::channel();
        let up = upstream(move |connection| {
            connection.head().unwrap();
            connection.send(sized(early, "application/json", b"{\"early\":1}"));
            written.send(()).unwrap();
            connection.wait_for_close();
        });
        let proxy = proxy().upstream(&up).run();
        assert_eq!(upload(&mut proxy.client(), &go_on).text(), "{\"early\":1}", "{early}");
    }
}

#[test]
fn request_timeout_on_idle_connection_is_not_the_response() {
    // The machine decides whether the close crosses the request in time: once is enough.
    let crossed = (0..20).any(|_| {
        let (up, requests) = upstream_with_second_request(|connection| {
            connection.head();
            connection.send("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
        let response = client.post(PATH, CHAT_REQUEST).response();
        response.status() == 200 && requests.try_iter().eq([0, 1])
    });
    assert!(crossed, "the 408 of an idle connection reached the client each time");
}

#[test]
fn request_timeout_after_work_is_relayed() {
    // In one piece, and with a head in two.
    for split in [0, 12] {
        let (up, _requests) = upstream_with_second_request(move |connection| {
            connection.request();
            std::thread::sleep(WORK);
            let response = sized("408 Request Timeout", "application/json", b"{}");
            connection.send(&response[..split]);
            std::thread::sleep(Duration::from_millis(if split == 0 { 0 } else { 20 }));
            connection.send(&response[split..]);
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
        assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 408, "{split}");
        assert_eq!(up.accepted(), 1);
    }
}
