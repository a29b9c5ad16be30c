//! Probes of load balancers on the clients' port.

use crate::harness::{Upstream, proxy};

#[test]
fn probes_get_a_response_without_a_key_and_a_record() {
    let up = Upstream::responding("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let proxy = proxy().upstream(&up).tables("[clients.team]\nkey = { value = \"sg-team\" }").run();
    let mut client = proxy.client();
    for path in ["/", "/health", "/healthz", "/healthz?full=1"] {
        let response = client.get(path).response();
        assert_eq!((response.status(), response.text()), (200, "{\"status\":\"ok\"}\n"), "{path}");
        assert_eq!(response.header("x-streamgauge-id"), None);
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 16"), "{head}");
    }
    // HAProxy's request.
    let response = proxy.client().send("GET /health HTTP/1.0\r\n\r\n").response();
    assert_eq!(response.status(), 200);
    client.send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-team\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(proxy.record()["endpoint"], "models", "the first record is not a probe's");
    assert_eq!(up.accepted(), 1);
}

#[test]
fn probes_of_foreign_hosts_and_other_methods_are_requests() {
    let up = Upstream::responding("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let proxy = proxy().upstream(&up).run();
    for (request, code) in [
        ("GET /health HTTP/1.1\r\nhost: evil.example\r\n\r\n", "host_not_allowed"),
        ("GET / HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\n\r\n", "origin_not_allowed"),
        ("POST /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n", "unknown_path"),
        ("GET /healthy HTTP/1.1\r\nhost: localhost\r\n\r\n", "unknown_path"),
    ] {
        let response = proxy.client().send(request).response();
        assert_eq!(response.error()["code"], code, "{request}");
        assert_eq!(proxy.record()["outcome"], "rejected", "{request}");
    }
}
