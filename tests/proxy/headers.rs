//! Promise 6: no secret leaves but to the upstream it belongs to. And everything else passes.

use std::sync::mpsc;

use crate::support::{proxy, upstream};

#[test]
fn credentials_and_hop_by_hop_headers_stay_here_and_all_others_pass_in_order() {
    let (sender, heads) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request.head).unwrap();
            connection.send("HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nx-b: 2\r\nset-cookie: c=3\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\nx-a: 1\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let proxy = proxy().upstream(&up).run();
    let answer = proxy
        .client()
        .send(
            "GET /v1/models?limit=2&after=%20x HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Zeta: 1\r\nAuthorization: Bearer client-secret\r\n\
             api-key: client-secret\r\nx-api-key: client-secret\r\nCookie: session=client-secret\r\nUser-Agent: test/1\r\n\
             Connection: keep-alive, X-Private\r\nX-Private: 1\r\nTE: trailers\r\nProxy-Authorization: Basic client-secret\r\n\
             OpenAI-Beta: x\r\nX-Alpha: 1\r\nX-Zeta: 2\r\nAccept-Encoding: gzip\r\n\r\n",
        )
        .answer();
    let head = heads.recv().unwrap();
    assert!(!head.contains("client-secret"), "{head}");
    assert!(head.starts_with("GET /v1/models?limit=2&after=%20x HTTP/1.1\r\n"), "{head}");
    let names: Vec<_> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| format!("{}:{}", name.to_ascii_lowercase(), value.trim()))
        .collect();
    assert_eq!(
        names,
        [
            format!("host:{}", up.address),
            "x-zeta:1".into(),
            "x-zeta:2".into(),
            "user-agent:test/1".into(),
            "openai-beta:x".into(),
            "x-alpha:1".into(),
            "accept-encoding:gzip".into(),
            "authorization:Bearer sk-upstream".into(),
        ]
    );
    for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(gone), None, "{gone} must not pass");
    }
    let cookies: Vec<_> = answer.head.lines().filter(|line| line.starts_with("set-cookie")).collect();
    assert_eq!(cookies, ["set-cookie: a=1", "set-cookie: c=3"]);
    assert!(answer.header("x-streamgauge-id").is_some_and(|id| id.len() == 36));
}

#[test]
fn the_answers_id_is_the_records() {
    let up = crate::support::Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let proxy = proxy().upstream(&up).run();
    let answer = proxy.client().get("/v1/models").answer();
    assert_eq!(proxy.record()["id"], answer.header("x-streamgauge-id").unwrap());
}

#[test]
fn configured_headers_go_out_and_credentials_override_them() {
    let (sender, heads) = mpsc::channel();
    let up = upstream(move |connection| {
        let request = connection.request().unwrap();
        sender.send(request).unwrap();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    let proxy = proxy()
        .upstream(&up)
        .tables("[upstreams.up.headers]\n\"X-Team\" = \"search\"\n\"Authorization\" = \"Bearer wrong\"")
        .run();
    proxy.client().send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-team: spoofed\r\n\r\n").answer();
    let request = heads.recv().unwrap();
    assert_eq!(request.header("x-team"), Some("search"));
    assert_eq!(request.header("authorization"), Some("Bearer sk-upstream"));
    assert!(!request.head.contains("spoofed") && !request.head.contains("wrong"));
}
