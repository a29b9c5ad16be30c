//! Requests of each kind, so that no metric stays empty: streams and bodies, two clients with users
//! and without, two upstreams, several models, and all kinds of failures.

use std::net::SocketAddr;

use crate::harness::Client;

/// The clients' keys.
pub const SEARCH: &str = "the-key-of-search";
pub const SUPPORT: &str = "the-key-of-support";

/// The path, the key, the members of the body beside the messages, and the status.
const SERVED: [(&str, &str, &str, u16); 14] = [
    (
        "/v1/chat/completions",
        SEARCH,
        r#""model":"gpt-a:events=9,pace=3ms,cached=2,reasoning=4","stream":true,"user":"ada""#,
        200,
    ),
    ("/v1/chat/completions", SUPPORT, r#""model":"gpt-b:events=5,pace=3ms","stream":true"#, 200),
    ("/beta/v1/chat/completions", SEARCH, r#""model":"gpt-b:events=17","user":"grace""#, 200),
    (
        "/beta/v1/responses",
        SUPPORT,
        r#""model":"gpt-c:events=11,pace=3ms","stream":true,"user":"it's \"her\"","input":"a b c""#,
        200,
    ),
    ("/both/v1/chat/completions", SEARCH, r#""model":"gpt-a:events=3""#, 200),
    ("/v1/embeddings", SEARCH, r#""model":"embed","input":["a b","c"]"#, 200),
    ("/v1/chat/completions", SUPPORT, r#""model":"gpt-b:usage=none,events=6","stream":true"#, 200),
    ("/beta/v1/chat/completions", SEARCH, r#""model":"gpt-a:fault=cut@4,pace=2ms","stream":true"#, 200),
    ("/v1/chat/completions", SEARCH, r#""model":"gpt-a:fault=silence@4","stream":true"#, 200),
    ("/v1/chat/completions", SEARCH, r#""model":"gpt-a:status=500""#, 500),
    ("/beta/v1/chat/completions", SUPPORT, r#""model":"gpt-a:status=429""#, 429),
    ("/v1/chat/completions", SUPPORT, r#""model":"gpt-a:status=422""#, 422),
    ("/beta/v1/chat/completions", SEARCH, r#""model":"gpt-a:fault=reset""#, 502),
    ("/v1/chat/completions", "the-key-of-nobody", r#""model":"gpt-a""#, 401),
];

/// Clients that leave after the first event: a header line of the request, and the model.
const LEFT: [(&str, &str); 3] = [
    ("x-streamgauge-on-disconnect: cancel\r\n", "gpt-a:events=100000,pace=5ms"),
    ("x-streamgauge-on-disconnect: cancel\r\n", "gpt-b:events=100000,pace=5ms,usage=every"),
    ("x-streamgauge-on-disconnect: drain\r\n", "gpt-b:events=20,pace=5ms"),
];

/// Sends them one after the other, each read to its end. Returns their number.
pub fn send(proxy: SocketAddr) -> usize {
    for (path, key, members, status) in SERVED {
        let response = request(proxy, path, key, "", members).response();
        assert_eq!(response.status(), status, "{path} {members}");
    }
    for (head, model) in LEFT {
        drop(stream(proxy, head, model));
    }
    SERVED.len() + LEFT.len()
}

/// An endless stream that has begun, until it is dropped.
pub fn endless_stream(proxy: SocketAddr) -> Client {
    stream(proxy, "", "gpt-a:events=1000000,pace=20ms")
}

/// A stream whose first event has arrived.
fn stream(proxy: SocketAddr, head: &str, model: &str) -> Client {
    let members = format!(r#""model":"{model}","stream":true"#);
    let mut client = request(proxy, "/v1/chat/completions", SEARCH, head, &members);
    assert!(client.head().starts_with("HTTP/1.1 200"), "{model}");
    assert!(!client.chunk().is_empty(), "{model}");
    client
}

fn request(proxy: SocketAddr, path: &str, key: &str, head: &str, members: &str) -> Client {
    let body = format!(r#"{{{members},"messages":[{{"role":"user","content":"how deep is it"}}]}}"#);
    let mut client = Client::connect(proxy);
    client.send(format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n{head}content-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    client
}
