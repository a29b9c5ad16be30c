//! Promise 6: a secret is sent only to its own upstream. All other headers pass.

use std::sync::mpsc;

use http_body_util::Empty;

use crate::harness::{http2_client, proxy, upstream};

#[test]
fn credentials_and_hop_headers_stay_and_others_pass_in_order() {
    let (sender, heads) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request.head).unwrap();
            connection.send("HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nx-b: 2\r\nset-cookie: c=3\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\nx-a: 1\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let proxy = proxy().upstream(&up).run();
    let response = proxy
        .client()
        .send(
            "GET /v1/models?limit=2&after=%20x HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Zeta: 1\r\nAuthorization: Bearer client-secret\r\n\
             api-key: client-secret\r\nx-api-key: client-secret\r\nCookie: session=client-secret\r\nUser-Agent: test/1\r\n\
             Connection: keep-alive, X-Private\r\nX-Private: 1\r\nTE: trailers\r\nProxy-Authorization: Basic client-secret\r\n\
             OpenAI-Beta: x\r\nX-Alpha: 1\r\nX-Zeta: 2\r\nAccept-Encoding: gzip\r\n\r\n",
        )
        .response();
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
            "user-agent:test/1".into(),
            "openai-beta:x".into(),
            "x-alpha:1".into(),
            "x-zeta:2".into(),
            "accept-encoding:gzip".into(),
            "authorization:Bearer sk-upstream".into(),
        ]
    );
    for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(response.header(gone), None, "{gone} must not pass");
    }
    let cookies: Vec<_> = response.head.lines().filter(|line| line.starts_with("set-cookie")).collect();
    assert_eq!(cookies, ["set-cookie: a=1", "set-cookie: c=3"]);
    assert!(response.header("x-streamgauge-id").is_some_and(|id| id.len() == 36));
}

/// Over HTTP/1.1 names pass in their case, and repeated ones stay where they were.
#[test]
fn names_pass_in_both_directions_as_they_came() {
    const ASKED: &str = "X-Zeta: 1\r\nx-ALPHA: 2\r\nX-zeta: 3\r\nUser-Agent: test/1\r\nX_Odd!#$: 4\r\nX-ZETA: 5\r\nX-Empty: \r\n";
    const RESPONSE_HEADERS: &str = "Date: today\r\nSET-Cookie: a=1\r\nX-Request-ID: r1\r\nCONTENT-Length: 2\r\nX-b: 2\r\nSet-Cookie: c=3\r\nx-B: 4\r\n";
    let (sender, heads) = mpsc::channel();
    let up = upstream(move |connection| {
        sender.send(connection.request().unwrap().head).unwrap();
        connection.send(format!("HTTP/1.1 200 Fine\r\n{RESPONSE_HEADERS}\r\n{{}}"));
    });
    let proxy = proxy().upstream(&up).run();
    let response = proxy
        .client()
        .send(format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{ASKED}Connection: keep-alive\r\n\r\n"))
        .response();
    let address = up.address;
    assert_eq!(
        heads.recv().unwrap(),
        format!(
            "GET /v1/models HTTP/1.1\r\nhost: {address}\r\n{ASKED}authorization: Bearer sk-upstream\r\n\r\n"
        )
    );
    let id = response.header("x-streamgauge-id").unwrap();
    assert_eq!(
        response.head,
        format!("HTTP/1.1 200 Fine\r\n{RESPONSE_HEADERS}x-streamgauge-id: {id}\r\n\r\n")
    );
}

#[test]
fn own_response_headers_are_this_proxys_and_not_another_ones() {
    let up = crate::harness::Upstream::responding(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-streamgauge-id: other\r\nX-Streamgauge-Cost: 9\r\n\r\n",
    );
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().get("/v1/models").response();
    assert_eq!(proxy.record()["id"], response.header("x-streamgauge-id").unwrap());
    assert_eq!(response.head.to_ascii_lowercase().matches("x-streamgauge-").count(), 1, "{}", response.head);
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
    proxy.client().send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-team: spoofed\r\n\r\n").response();
    let request = heads.recv().unwrap();
    assert_eq!(request.header("x-team"), Some("search"));
    assert_eq!(request.header("authorization"), Some("Bearer sk-upstream"));
    assert!(!request.head.contains("spoofed") && !request.head.contains("wrong"));
}

/// The names and values that arrive upstream of a request with these lines, without `host`.
fn arriving(tables: &str, lines: &[&str]) -> Vec<String> {
    let (sender, heads) = mpsc::channel();
    let up = upstream(move |connection| {
        sender.send(connection.request().unwrap().head).unwrap();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    let proxy = proxy().upstream(&up).tables(tables).run();
    let head = format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n{}\r\n\r\n", lines.join("\r\n"));
    proxy.client().send(head).response();
    let head = heads.recv().unwrap();
    head.lines().skip(2).take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn underscores_shadow_no_header_that_ends_here() {
    let lines = [
        "Transfer_Encoding: chunked",
        "Content_Length: 5",
        "Content_Type: text/plain",
        "api_key: sk-client",
        "x_api_key: sk-client",
        "Proxy_Authorization: sk-client",
        "X_Team: theirs",
        "OpenAI_Organization: theirs",
        "x_stays: 1",
    ];
    let tables = "[upstreams.up.headers]\n\"X-Team\" = \"search\"\n\"OpenAI-Organization\" = \"ours\"";
    let own = ["x-team: search", "openai-organization: ours", "authorization: Bearer sk-upstream"];
    let mut arrived = arriving(tables, &lines);
    assert_eq!(arrived.remove(0), "x_stays: 1");
    arrived.sort();
    let mut own = own.to_vec();
    own.sort();
    assert_eq!(arrived, own);
}

#[test]
fn overrides_of_path_and_method_do_not_pass() {
    let lines = [
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "X-HTTP-Method-Override: DELETE",
        "X-HTTP-Method: DELETE",
        "X-Method-Override: DELETE",
        "X_HTTP_Method_Override: DELETE",
        "x-stays: 1",
    ];
    assert_eq!(arriving("", &lines), ["x-stays: 1", "authorization: Bearer sk-upstream"]);
}

#[test]
fn clients_choose_who_is_billed_unless_forbidden() {
    let lines = ["OpenAI-Organization: org-theirs", "OpenAI-Project: proj-theirs"];
    assert_eq!(arriving("", &lines)[..2], lines);
    let credential = "authorization: Bearer sk-upstream";
    assert_eq!(arriving("clients_choose_billing = false", &lines), [credential]);
    let own = "clients_choose_billing = false\nheaders = { \"OpenAI-Project\" = \"proj-ours\" }";
    assert_eq!(arriving(own, &lines), ["openai-project: proj-ours", credential]);
}

#[test]
fn long_heads_over_http2_count_against_the_budget() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let (seen, arrived) = mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        seen.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    });
    let proxy = proxy().upstream(&up).server("max_request_bytes = 1000\nmax_buffered_bytes = 50000").run();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut sender, _) = http2_client(proxy.address).await;
        let request = || {
            let request =
                http::Request::get("http://localhost/v1/models").header("x-long", "a".repeat(30_000));
            request.body(Empty::<bytes::Bytes>::new()).unwrap()
        };
        let first = tokio::spawn(sender.send_request(request()));
        tokio::task::spawn_blocking(move || arrived.recv().unwrap()).await.unwrap();
        assert_eq!(sender.send_request(request()).await.unwrap().status(), 503);
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
    });
}

#[test]
fn traces_of_the_way_here_do_not_pass_unless_they_are_kept() {
    let lines = [
        "CF-Ray: 1",
        "cf-connecting-ip: 1",
        "CDN-Loop: 1",
        "X-Forwarded-For: 1",
        "x_forwarded_proto: 1",
        "Forwarded: for=1",
        "X-Real-IP: 1",
        "Referer: https://app.example/",
        "Origin: http://localhost",
        "Sec-Fetch-Site: same-origin",
        "sec-fetch-mode: cors",
        "True-Client-IP: 1",
        "x-request-id: 1",
        "x-forward: 1",
        "via: 1.1 a",
    ];
    let credential = "authorization: Bearer sk-upstream";
    assert_eq!(arriving("", &lines), ["x-request-id: 1", "x-forward: 1", "via: 1.1 a", credential]);
    let own = arriving("drop_headers = [\"CF-*\", \"x-*-id\"]", &lines);
    let kept =
        ["CDN-Loop: 1", "X-Forwarded-For: 1", "x_forwarded_proto: 1", "Forwarded: for=1", "X-Real-IP: 1"];
    assert_eq!(own[..kept.len()], kept);
    assert!(
        !own.iter().any(|line| line.starts_with("x-request-id") || line.to_lowercase().starts_with("cf-")),
        "{own:?}"
    );
    assert_eq!(arriving("drop_headers = []", &lines).len(), lines.len() + 1);
    // Configured headers belong to the operator.
    let put_on = "drop_headers = [\"*\"]\nheaders = { \"X-Real-IP\" = \"2\" }";
    assert_eq!(arriving(put_on, &lines), ["x-real-ip: 2", credential]);
}

#[test]
fn servers_dropped_headers_apply_to_upstreams_without_a_list() {
    let (sender, heads) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let proxy = proxy()
        .server("drop_headers = [\"x-team*\"]")
        .other("a", up.address)
        .other("b", up.address)
        .tables(
            "drop_headers = []\n[[routes]]\npath = \"/a\"\nupstream = \"a\"\n[[routes]]\nupstream = \"b\"",
        )
        .run();
    for (path, is_dropped) in [("/a/v1/models", true), ("/v1/models", false)] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nX-Team-Name: t\r\nreferer: r\r\n\r\n");
        proxy.client().send(head).response();
        let request = heads.recv().unwrap();
        assert_eq!(request.header("x-team-name").is_none(), is_dropped, "{path}");
        assert_eq!(request.header("referer"), Some("r"), "the list is the whole list");
    }
}

#[test]
fn headers_that_bind_clients_to_the_upstreams_host_end_here() {
    let up = crate::harness::Upstream::responding(
        "HTTP/1.1 200 OK\r\nx-a: 1\r\nalt-svc: h3=\":443\"; ma=86400\r\nx-b: 2\r\nStrict-Transport-Security: max-age=1\r\nnel: 1\r\nx-c: 3\r\ncontent-length: 0\r\n\r\n",
    );
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().get("/v1/models").response();
    let names: Vec<_> =
        response.head.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert_eq!(names[..4], ["x-a", "x-b", "nel", "x-c"], "{}", response.head);
    assert_eq!((response.header("alt-svc"), response.header("strict-transport-security")), (None, None));
}

#[test]
fn event_streams_say_that_they_are_not_to_be_buffered() {
    use crate::harness::{CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, sized};
    let events = |more: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{more}content-length: {}\r\n\r\n{CHAT_STREAM}",
            CHAT_STREAM.len()
        )
        .into_bytes()
    };
    let json = sized("200 OK", "application/json", CHAT_BODY.as_bytes());
    for (response, server, said) in [
        (events(""), "", Some("no")),
        (events("x-accel-buffering: yes\r\n"), "", Some("yes")),
        (events(""), "accel_buffering_header = false", None),
        (json, "", None),
    ] {
        let proxy = proxy().upstream(&crate::harness::Upstream::responding(response)).server(server).run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!(response.header("x-accel-buffering"), said, "{}", response.head);
    }
}
