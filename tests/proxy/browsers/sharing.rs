//! Pages of listed origins read responses (cross-origin resource sharing).

use std::sync::{Mutex, mpsc};

use bytes::Bytes;

use super::{assert_refused, get, models, over_http2};
use crate::harness::{
    CHAT_REQUEST, CHAT_STREAM, EVENTS_HEAD, LAST_CHUNK, Response, Upstream, chunk, free_address, proxy,
    upstream,
};

const PAGE: &str = "https://app.example";
const LISTED: &str = "origins = [\"https://app.example\", \"app://x\"]";
const CLIENTS: &str =
    "[clients.a]\nkey = { value = \"sk-a\" }\nlimits = [{ requests = 1, per = \"minute\" }]";

/// A request of a page with these lines after the request line.
fn from_page(request: &str, lines: &str) -> String {
    format!("{request} HTTP/1.1\r\nhost: localhost:8080\r\norigin: {PAGE}\r\n{lines}\r\n")
}

fn page_posts(path: &str, lines: &str, body: &str) -> String {
    let lines = format!("content-type: application/json\r\ncontent-length: {}\r\n{lines}", body.len());
    from_page(&format!("POST {path}"), &lines) + body
}

const PREFLIGHT: &str =
    "access-control-request-method: POST\r\naccess-control-request-headers: authorization,content-type\r\n";

/// Asserts that the page may read a response with this head, and its headers.
fn assert_shared(head: &str, case: &str) {
    let values = |name: &str| -> Vec<String> {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    };
    assert_eq!(values("access-control-allow-origin"), [PAGE], "{case}: {head}");
    assert!(values("access-control-allow-credentials").is_empty(), "{case}: {head}");
    let exposed = values("access-control-expose-headers");
    assert_eq!(exposed.len(), 1, "{case}: {head}");
    for name in ["x-streamgauge-id", "x-request-id", "retry-after", "retry-after-ms", "x-should-retry"] {
        assert!(exposed[0].split(", ").any(|other| other == name), "{case}: {head}");
    }
    let vary = values("vary");
    assert!(vary.iter().flat_map(|line| line.split(", ")).any(|name| name == "Origin"), "{case}: {head}");
}

fn assert_not_shared(response: &Response) {
    for name in ["access-control-allow-origin", "access-control-expose-headers"] {
        assert_eq!(response.header(name), None);
    }
}

#[test]
fn preflight_of_a_listed_page_needs_no_key_and_no_record() {
    let up = models();
    let proxy = proxy().upstream(&up).server(LISTED).tables(CLIENTS).run();
    let mut client = proxy.client();
    for path in ["/v1/chat/completions", "/v1/files/f", "/health", "/no/such/path"] {
        let lines = format!("{PREFLIGHT}access-control-request-private-network: true\r\n");
        let response = client.send(from_page(&format!("OPTIONS {path}"), &lines)).response();
        assert_eq!(response.status(), 204, "{path}");
        for (name, value) in [
            ("access-control-allow-origin", PAGE),
            ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
            ("access-control-allow-headers", "authorization, content-type"),
            ("access-control-allow-private-network", "true"),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(response.header(name), Some(value), "{path}");
        }
        assert!(response.header("vary").unwrap().starts_with("Origin, "));
        for name in ["access-control-allow-credentials", "content-length", "x-streamgauge-id"] {
            assert_eq!(response.header(name), None, "{path}");
        }
    }
    assert_eq!(up.accepted(), 0);
    let response = client.send(from_page("GET /v1/models", "authorization: Bearer sk-a\r\n")).response();
    assert_eq!(response.status(), 200);
    assert_eq!(proxy.record()["method"], "GET", "the first record is not a preflight's");
}

#[test]
fn other_preflights_and_options_requests_are_requests() {
    let up = models();
    let hosts = "hosts = [\"gauge.internal\"]";
    let proxy = proxy().upstream(&up).server(LISTED).server(hosts).tables(CLIENTS).run();
    let ask = |lines: &str| {
        let request = format!("OPTIONS /v1/chat/completions HTTP/1.1\r\n{lines}\r\n\r\n");
        proxy.client().send(request).response()
    };
    let evil = ask("host: localhost\r\norigin: https://evil.example\r\naccess-control-request-method: POST");
    assert_refused(&proxy, &evil, 403, "origin_not_allowed");
    assert_not_shared(&evil);
    let rebound =
        ask(&format!("host: evil.example\r\norigin: {PAGE}\r\naccess-control-request-method: POST"));
    assert_refused(&proxy, &rebound, 403, "host_not_allowed");
    let program = ask("host: localhost\r\naccess-control-request-method: POST");
    assert_refused(&proxy, &program, 401, "missing_api_key");
    let plain = ask(&format!("host: localhost\r\norigin: {PAGE}"));
    assert_refused(&proxy, &plain, 401, "missing_api_key");
    assert_eq!(up.accepted(), 0);
}

#[test]
fn listed_page_reads_responses_errors_and_refusals() {
    let up = upstream(|connection| {
        while let Some(request) = connection.request() {
            connection.send(match request.line().split(' ').nth(1) {
                Some("/v1/chat/completions") => {
                    "HTTP/1.1 200 OK\r\nVary: Accept-Encoding\r\nAccess-Control-Allow-Origin: *\r\n\
                     access-control-allow-credentials: true\r\naccess-control-expose-headers: X-Request-ID\r\n\
                     X-RateLimit-Remaining-Tokens: 9\r\ncontent-length: 2\r\n\r\n{}"
                }
                _ => "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}",
            });
        }
    });
    let limited = "[clients.b]\nkey = { value = \"sk-b\" }";
    let proxy = proxy()
        .upstream(&up)
        .other("gone", free_address())
        .server(LISTED)
        .server("max_request_bytes = 1000")
        .tables("[[routes]]\nmodel = \"gone\"\nupstream = \"gone\"\n[[routes]]\nupstream = \"up\"")
        .tables(CLIENTS)
        .tables(limited)
        .run();
    let (a, b) = ("authorization: Bearer sk-a\r\n", "authorization: Bearer sk-b\r\n");
    let (chat, body) = ("/v1/chat/completions", "{\"model\":\"m\"}");
    let large = format!("{{\"model\":\"m\",\"messages\":\"{}\"}}", "x".repeat(2000));
    for (request, status) in [
        (page_posts(chat, a, body), 200),
        (page_posts(chat, a, body), 429),
        (page_posts("/v1/embeddings", b, body), 429),
        (page_posts(chat, "", body), 401),
        (page_posts(chat, b, "{\"model\":\"gone\"}"), 502),
        (page_posts(chat, b, &large), 413),
        (page_posts("/nowhere", b, "{}"), 404),
        (from_page("GET /v1/models", b), 502),
        (from_page("GET /health", ""), 200),
    ] {
        let head = proxy.client().send(&request).head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{head}");
        assert_shared(&head, &request);
    }
    let response = proxy.client().send(page_posts(chat, b, body)).response();
    assert_eq!(response.header("vary"), Some("Accept-Encoding, Origin"));
    assert!(
        response.header("access-control-expose-headers").unwrap().ends_with(", X-RateLimit-Remaining-Tokens")
    );
    let limited = proxy.client().send(page_posts(chat, a, body)).response();
    let exposed = limited.header("access-control-expose-headers").unwrap();
    assert!(limited.header("retry-after").is_some() && exposed.contains("x-ratelimit-remaining-requests"));
}

#[test]
fn listed_page_reads_streams_that_begin_with_comments_too() {
    let (go_on, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let up = upstream(move |connection| {
        while connection.request().is_some() {
            let Ok(()) = wait.lock().unwrap().recv() else { return };
            connection.send(EVENTS_HEAD);
            connection.send(chunk(CHAT_STREAM.as_bytes()));
            connection.send(LAST_CHUNK);
        }
    });
    let request = page_posts("/v1/chat/completions", "", CHAT_REQUEST);
    for (lines, comments) in [("", false), ("keep_alive_comments = \"20ms\"", true)] {
        let proxy = proxy().upstream(&up).server(LISTED).tables(lines).run();
        let mut client = proxy.client();
        client.send(&request);
        if !comments {
            go_on.send(()).unwrap();
        }
        let head = client.head();
        assert!(head.contains("text/event-stream"), "{head}");
        assert_shared(&head, lines);
        if comments {
            assert_eq!(client.chunk(), b": keep-alive\n\n");
            go_on.send(()).unwrap();
        }
        let body = client.body_and_end(&head).0;
        assert!(String::from_utf8(body).unwrap().ends_with(CHAT_STREAM));
        assert_eq!(proxy.record()["total_tokens"], 11);
    }
}

#[test]
fn programs_get_responses_as_they_are_with_vary_for_caches() {
    let cors = "access-control-allow-origin: *";
    let up = Upstream::responding(format!("HTTP/1.1 200 OK\r\n{cors}\r\ncontent-length: 2\r\n\r\n{{}}"));
    let listed = proxy().upstream(&up).server(LISTED).run();
    let post = listed.client().post("/v1/embeddings", "{\"model\":\"m\",\"input\":\"x\"}").response();
    assert_eq!((post.status(), post.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(post.header("vary"), None);
    let listing = listed.client().get("/v1/models").response();
    assert_eq!((listing.status(), listing.header("vary")), (200, Some("Origin")));
    assert_not_shared(&listing);
    let foreign = get(&listed, &["host: localhost", "origin: https://evil.example"]);
    assert_eq!((foreign.status(), foreign.header("vary")), (403, Some("Origin")));
    assert_not_shared(&foreign);

    // Without a list, a page with a key is a program.
    let open = proxy().upstream(&up).tables("[clients.a]\nkey = { value = \"sk-a\" }").run();
    let response = get(&open, &["host: localhost", "origin: https://evil.example", "api-key: sk-a"]);
    assert_eq!((response.status(), response.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(response.header("vary"), None);
}

#[test]
fn listed_page_is_served_over_http2() {
    let up = models();
    let proxy = proxy().upstream(&up).server(LISTED).tables(CLIENTS).run();
    let request = |method: &str, lines: &[(&'static str, &str)]| {
        let mut request =
            http::Request::builder().method(method).uri("http://localhost/v1/models").header("origin", PAGE);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    };
    let preflight =
        [("access-control-request-method", "GET"), ("access-control-request-headers", "authorization")];
    let (granted, body) = over_http2(&proxy, request("OPTIONS", &preflight));
    assert_eq!((granted.status().as_u16(), body), (204, Bytes::new()));
    assert_eq!(granted.headers()["access-control-allow-origin"], PAGE);
    assert_eq!(granted.headers()["access-control-allow-headers"], "authorization");
    assert!(!granted.headers().contains_key("content-length"));
    for (lines, status) in [(&[("authorization", "Bearer sk-a")][..], 200), (&[], 401)] {
        let (response, _) = over_http2(&proxy, request("GET", lines));
        assert_eq!(response.status().as_u16(), status);
        let lines: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        assert_shared(&lines.join("\n"), "HTTP/2");
        assert_eq!(proxy.record()["status"], status);
    }
    assert_eq!(up.accepted(), 1);
}
