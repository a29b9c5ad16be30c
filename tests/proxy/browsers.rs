//! Requests that web pages make browsers send: refused unless the operator listed the host and the
//! page.

mod sharing;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use crate::harness::{CHAT_REQUEST, Proxy, Response, Upstream, http2_client, proxy, sized};

fn models() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", b"{}"))
}

/// Requests the models over HTTP/1.1, with these lines after the request line.
fn get(proxy: &Proxy, lines: &[&str]) -> Response {
    let head = lines.join("\r\n");
    proxy.client().send(format!("GET /v1/models HTTP/1.1\r\n{head}\r\n\r\n")).response()
}

/// Asserts that a refusal has its code, and a record with it.
fn assert_refused(proxy: &Proxy, response: &Response, status: u16, code: &str) -> String {
    let (error, record) = (response.error(), proxy.record());
    assert_eq!((response.status(), error["code"].as_str()), (status, Some(code)), "{error}");
    assert_eq!((&record["outcome"], &record["status"]), (&"rejected".into(), &status.into()), "{record}");
    assert!(record["upstream"].is_null() && record["error"].as_str().unwrap().starts_with(code), "{record}");
    error["message"].as_str().unwrap().to_owned()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn foreign_host_is_refused_with_the_line_to_write() {
    let up = models();
    let proxy = proxy().upstream(&up).server("hosts = [\"gauge.internal\", \"*.llm.example\"]").run();
    for host in [
        "127.0.0.1:8080",
        "[::1]",
        "10.0.0.7:80",
        "localhost",
        "LOCALHOST.:8080",
        "a.localhost",
        "Gauge.Internal:8080",
        "a.llm.example",
    ] {
        assert_eq!(get(&proxy, &[&format!("host: {host}")]).status(), 200, "{host}");
        assert_eq!(proxy.record()["outcome"], "complete");
    }
    for (host, says) in [
        ("evil.example", "hosts = [\"evil.example\"] in [server]"),
        ("localhost.evil.example:8080", "hosts = [\"localhost.evil.example\"]"),
        ("127.0.0.1.nip.io", "[server]"),
        ("llm.example", "[server]"),
        ("gauge.internal.evil.example", "[server]"),
        ("0x7f.1", "[server]"),
        ("127.1", "[server]"),
        ("2130706433", "[server]"),
        ("host.docker.internal:8080", "hosts = [\"host.docker.internal\"]"),
        ("gauge.llm.svc.cluster.local", "\"gauge.llm.svc\""),
    ] {
        let response = get(&proxy, &[&format!("host: {host}")]);
        let message = assert_refused(&proxy, &response, 403, "host_not_allowed");
        assert!(message.contains(says), "{host}: {message}");
    }
    let absolute = proxy
        .client()
        .send("GET http://evil.example/v1/models HTTP/1.1\r\nhost: evil.example\r\n\r\n")
        .response();
    assert_refused(&proxy, &absolute, 403, "host_not_allowed");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn host_that_is_none_or_several_gets_400() {
    let up = models();
    let proxy = proxy().upstream(&up).server("hosts = [\"*\"]").run();
    for lines in [
        &["x: y"][..],
        &["host:"],
        &["host: a", "host: a"],
        &["host: localhost", "Host: evil.example"],
        &["host: a b"],
        &["host: a, b"],
        &["host: user@localhost"],
        &["host: localhost:99999"],
        &["host: [::1"],
        &["host: ::1"],
        &["host: a/b"],
        &["host: localhost\u{e9}"],
    ] {
        let response = get(&proxy, lines);
        assert_refused(&proxy, &response, 400, "invalid_host");
    }
    for (target, host) in [
        ("http://localhost/v1/models", "evil.example"),
        ("http://user@localhost/v1/models", "localhost"),
        ("http://localhost:81/v1/models", "localhost:82"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let response = proxy.client().send(head).response();
        assert_refused(&proxy, &response, 400, "invalid_host");
    }
    assert_eq!(up.accepted(), 0);
    let old = proxy.client().send("GET /v1/models HTTP/1.0\r\n\r\n").response();
    assert_eq!(old.status(), 200, "HTTP/1.0 has no Host");
}

#[test]
fn pages_that_are_not_listed_are_refused() {
    let up = models();
    let proxy = proxy().upstream(&up).server("origins = [\"https://app.example\", \"app://x\"]").run();
    let host = "host: localhost:8080";
    for line in [
        "origin: https://app.example",
        "origin: HTTPS://APP.EXAMPLE:443",
        "origin: app://x",
        "origin: http://localhost:8080",
        "sec-fetch-site: none",
        "sec-fetch-site: same-origin",
        "sec-fetch-mode: cors",
    ] {
        assert_eq!(get(&proxy, &[host, line]).status(), 200, "{line}");
        assert_eq!(proxy.record()["outcome"], "complete");
    }
    let served = up.accepted();
    for origin in [
        "null",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "http://localhost:3000",
        "chrome-extension://abc",
    ] {
        let body = format!(
            "POST /v1/chat/completions HTTP/1.1\r\n{host}\r\norigin: {origin}\r\ncontent-type: text/plain\r\n\
             content-length: {}\r\n\r\n{CHAT_REQUEST}",
            CHAT_REQUEST.len()
        );
        let response = proxy.client().send(body).response();
        let message = assert_refused(&proxy, &response, 403, "origin_not_allowed");
        assert!(message.contains("origins") && message.contains("[server]"), "{message}");
    }
    for line in ["sec-fetch-site: cross-site", "sec-fetch-site: same-site"] {
        assert_refused(&proxy, &get(&proxy, &[host, line]), 403, "cross_site");
    }
    let both = [host, "origin: https://app.example", "origin: https://evil.example"];
    assert_refused(&proxy, &get(&proxy, &both), 403, "origin_not_allowed");
    let preflight = "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\n\
                     access-control-request-method: POST\r\n\r\n";
    assert_refused(&proxy, &proxy.client().send(preflight).response(), 403, "origin_not_allowed");
    assert_eq!(up.accepted(), served);
}

#[test]
fn websocket_of_a_foreign_page_is_refused() {
    let up = models();
    let proxy = proxy().upstream(&up).run();
    let ask = |lines: &str| {
        let head = format!(
            "GET /v1/realtime?model=m HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        );
        proxy.client().send(head).response()
    };
    let foreign = ask("host: localhost\r\norigin: https://evil.example\r\n");
    assert_refused(&proxy, &foreign, 403, "origin_not_allowed");
    assert_refused(&proxy, &ask("host: evil.example\r\n"), 403, "host_not_allowed");
    assert_eq!(up.accepted(), 0);
}

#[test]
fn clients_keys_admit_any_host_and_page_unless_listed() {
    let up = models();
    let clients = "[clients.a]\nkey = { value = \"sk-a\" }";
    let foreign = [
        "host: gauge.example",
        "origin: https://evil.example",
        "sec-fetch-site: cross-site",
        "api-key: sk-a",
    ];
    let open = proxy().upstream(&up).tables(clients).run();
    assert_eq!(get(&open, &foreign).status(), 200);
    assert_eq!(open.record()["client"], "a");
    assert_eq!(get(&open, &foreign[..3]).status(), 401);

    let listed = proxy().upstream(&up).server("hosts = [\"gauge.internal\"]").tables(clients).run();
    assert_refused(&listed, &get(&listed, &foreign), 403, "host_not_allowed");
    let listed = proxy().upstream(&up).server("origins = [\"https://app.example\"]").tables(clients).run();
    let response = get(&listed, &foreign);
    assert_refused(&listed, &response, 403, "origin_not_allowed");
    let stranger = get(&listed, &foreign[..3]);
    assert_refused(&listed, &stranger, 403, "origin_not_allowed");
}

/// The response to a request over HTTP/2, with its body.
fn over_http2(proxy: &Proxy, request: http::Request<()>) -> (http::Response<()>, Bytes) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut sender, _) = http2_client(proxy.address).await;
        let response = sender.send_request(request.map(|()| Full::new(Bytes::new()))).await.unwrap();
        let (head, body) = response.into_parts();
        (http::Response::from_parts(head, ()), body.collect().await.unwrap().to_bytes())
    })
}

/// The status and the error's code of a request over HTTP/2.
fn code_over_http2(proxy: &Proxy, request: http::Request<()>) -> (u16, Value) {
    let (head, body) = over_http2(proxy, request);
    let body: Value = serde_json::from_slice(&body).unwrap();
    (head.status().as_u16(), body["error"]["code"].clone())
}

#[test]
fn http2_authority_and_host_are_judged_like_host() {
    let up = models();
    let proxy = proxy().upstream(&up).run();
    let request = |uri: &str, headers: &[(&'static str, &str)]| {
        let mut request = http::Request::get(uri).version(http::Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    };
    let localhost = "http://localhost/v1/models";
    for (uri, headers, status, code) in [
        (localhost, &[][..], 200, ""),
        (localhost, &[("host", "localhost")], 200, ""),
        ("http://evil.example/v1/models", &[], 403, "host_not_allowed"),
        (localhost, &[("origin", "https://evil.example")], 403, "origin_not_allowed"),
        (localhost, &[("sec-fetch-site", "cross-site")], 403, "cross_site"),
        (localhost, &[("host", "evil.example")], 400, "invalid_host"),
        ("http://user@localhost/v1/models", &[], 400, "invalid_host"),
    ] {
        let (found, error) = code_over_http2(&proxy, request(uri, headers));
        assert_eq!((found, error.as_str().unwrap_or_default()), (status, code), "{uri} {headers:?}");
        assert_eq!(proxy.record()["status"], status);
    }
    assert_eq!(up.accepted(), 1);
}

#[test]
fn http2_takes_as_many_headers_as_http1() {
    let up = models();
    let proxy = proxy().upstream(&up).run();
    for (count, status) in [(100, 200), (101, 431)] {
        let mut request = http::Request::get("http://localhost/v1/models");
        for _ in 0..count {
            request = request.header("x-many", "1");
        }
        let (found, error) = code_over_http2(&proxy, request.body(()).unwrap());
        assert_eq!(found, status, "{count}: {error}");
        assert_eq!(proxy.record()["status"], status);
    }
}
