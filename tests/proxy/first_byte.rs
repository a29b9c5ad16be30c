//! Timeouts for the head of a response, and those that forbid SDKs to repeat the request.

use std::sync::{Mutex, mpsc};

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, Frames, HEADERS, INITIAL_WINDOW_SIZE, PATIENCE, Response, Upstream, proxy,
    sized, upstream,
};

const PATH: &str = "/v1/chat/completions";

const UNSTREAMED: &str = "{\"model\":\"m\",\"messages\":[]}";

/// Reads requests and sends no response.
fn silent() -> Upstream {
    upstream(|connection| while connection.request().is_some() {})
}

fn assert_is_late(response: &Response, key: &str, should_retry: Option<&str>) {
    assert_eq!(response.status(), 504, "{}", response.text());
    assert_eq!(response.error()["code"], "first_byte_timeout");
    let message = response.error()["message"].to_string();
    assert!(message.contains(&format!("({key})")), "{message}");
    assert_eq!(response.header("x-should-retry"), should_retry, "{}", response.head);
}

#[test]
fn unstreamed_response_outlives_the_limit_of_streams() {
    let (tell, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let up = upstream(move |connection| {
        let request = connection.request().unwrap();
        if request.body == UNSTREAMED.as_bytes() && told.lock().unwrap().recv_timeout(PATIENCE).is_ok() {
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
        connection.wait_for_close();
    });
    let limits = "timeouts = { first_byte = \"50ms\", first_byte_unstreamed = \"20s\" }";
    let proxy = proxy().upstream(&up).tables(limits).run();
    let mut whole = proxy.client();
    whole.post(PATH, UNSTREAMED);
    let streamed = proxy.client().post(PATH, CHAT_REQUEST).response();
    assert_is_late(&streamed, "timeouts.first_byte", Some("false"));
    let stored = proxy.client().get("/v1/responses/resp_1?stream=true").response();
    assert_is_late(&stored, "timeouts.first_byte", None);
    tell.send(()).unwrap();
    assert_eq!(whole.response().status(), 200);
}

#[test]
fn late_unstreamed_response_names_its_own_key() {
    let up = silent();
    let proxy = proxy().upstream(&up).tables("timeouts = { first_byte_unstreamed = \"50ms\" }").run();
    let response = proxy.client().post(PATH, UNSTREAMED).response();
    assert_is_late(&response, "timeouts.first_byte_unstreamed", Some("false"));
}

#[test]
fn timeout_of_incomplete_request_allows_a_retry() {
    let up = upstream(|connection| {
        let mut frames = Frames::begin(connection, &[(INITIAL_WINDOW_SIZE, 0)]);
        assert!(frames.wait_for(HEADERS).is_some());
        // No window for its body.
        while frames.next().is_some() {}
    });
    let proxy = proxy().http2(up.address).tables("timeouts = { first_byte = \"50ms\" }").run();
    let response = proxy.client().post(PATH, CHAT_REQUEST).response();
    assert_is_late(&response, "timeouts.first_byte", None);
}
