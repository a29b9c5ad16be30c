//! Promise 7: bad input and bad upstreams get an OpenAI-style error that says what to do.

use std::net::TcpListener;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, EVENTS_HEAD, Upstream, chunk, proxy, sized, upstream,
};

#[test]
fn an_upstream_that_does_not_listen_is_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = proxy().other("up", nobody).run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.status(), 502);
    let error = response.error();
    assert_eq!(error["code"], "upstream_unreachable");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`up`") && message.contains("connection refused"), "{message}");
    assert!(!message.contains("sk-upstream"), "{message}");
    let record = proxy.record();
    assert_eq!(record["outcome"], "upstream_error");
    assert_eq!(record["status"], 502);
    assert_eq!(record["upstream"], "up");
    assert_eq!(record["model_requested"], "gpt-asked");
}

#[test]
fn an_upstream_that_breaks_http_is_refused() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
    ] {
        let up = upstream(move |connection| {
            connection.request();
            connection.send(garbage);
        });
        let proxy = proxy().upstream(&up).run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!(response.status(), 502, "{garbage:?}");
        assert_eq!(response.error()["code"], "upstream_protocol", "{garbage:?}");
        assert_eq!(proxy.record()["outcome"], "upstream_error");
    }
}

#[test]
fn upstream_that_closes_without_response_is_not_retried() {
    let up = upstream(|connection| {
        connection.request();
    });
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.status(), 502);
    assert_eq!(response.error()["code"], "upstream_protocol");
    assert_eq!(up.accepted(), 1, "a request on a new connection is not repeated");
}

#[test]
fn dead_kept_connection_is_replaced_and_request_resent_once() {
    let (asked, bodies) = std::sync::mpsc::channel();
    let up = upstream(move |connection| {
        let request = connection.request().unwrap();
        asked.send(request.body).unwrap();
        connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        if connection.number == 0 {
            // The second request arrives, and the connection is closed without a byte.
            let request = connection.request().unwrap();
            asked.send(request.body).unwrap();
        } else {
            connection.wait_for_close();
        }
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.post("/v1/chat/completions", CHAT_REQUEST).response().text(), CHAT_BODY);
    }
    assert_eq!(up.accepted(), 2);
    let bodies: Vec<_> = bodies.try_iter().collect();
    assert_eq!(bodies, [CHAT_REQUEST.as_bytes(); 3]);
    assert_eq!([proxy.record()["status"].clone(), proxy.record()["status"].clone()], [200, 200]);
}

#[test]
fn kept_connection_broken_inside_a_response_is_not_retried() {
    let up = upstream(move |connection| {
        connection.request().unwrap();
        connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        connection.request().unwrap();
        connection.send("HTTP/1.1 200");
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    assert_eq!(client.post("/v1/chat/completions", CHAT_REQUEST).response().status(), 200);
    let response = client.post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.status(), 502);
    assert_eq!(up.accepted(), 1);
}

#[test]
fn malformed_chunk_after_good_ones_ends_the_stream_at_once() {
    let first = CHAT_STREAM.split_inclusive("\n\n").next().unwrap();
    let up = upstream(move |connection| {
        connection.request();
        connection.send([EVENTS_HEAD.as_bytes(), &chunk(first.as_bytes()), b"not a size\r\n"].concat());
        connection.wait_for_close();
    });
    let proxy = proxy().upstream(&up).run();
    let text = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).cut_response();
    assert!(text.starts_with(first) && text.contains("upstream_protocol"), "{text}");
    assert_eq!(proxy.record()["outcome"], "upstream_error");
}

#[test]
fn an_upstream_that_dies_in_mid_stream_ends_in_an_error_event() {
    let first = CHAT_STREAM.split_inclusive("\n\n").next().unwrap();
    let half = "data: {\"id\":\"c\",\"cho";
    for (sent, separator) in [
        (first.to_owned(), ""),
        (format!("{first}{half}"), "\n\n"),
        (format!("{first}{half}\n"), "\n"),
        (format!("{first}: comment\n\n"), ""),
    ] {
        let bytes = chunk(sent.as_bytes());
        let up = upstream(move |connection| {
            connection.request();
            connection.send(EVENTS_HEAD);
            connection.send(&bytes);
        });
        let proxy = proxy().upstream(&up).run();
        let text = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).cut_response();
        let added = text.strip_prefix(&sent).expect("what came is unchanged");
        let event =
            added.strip_prefix(separator).unwrap_or_else(|| panic!("{sent:?} is followed by {added:?}"));
        let event = event.strip_prefix("data: ").and_then(|event| event.strip_suffix("\n\n")).unwrap();
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!(event["error"]["type"], "streamgauge_error");
        assert_eq!(event["error"]["code"], "upstream_truncated");
        let record = proxy.record();
        assert_eq!(record["outcome"], "truncated");
        assert_eq!(record["status"], 200);
        assert_eq!(record["response_bytes"], sent.len(), "our own event is not the upstream's");
    }
}

#[test]
fn an_upstream_that_falls_silent_in_mid_stream_is_timed_out() {
    let up = upstream(|connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(CHAT_STREAM.split_inclusive("\n\n").next().unwrap().as_bytes()));
        connection.wait_for_close();
    });
    let proxy = proxy().upstream(&up).tables("[upstreams.up.timeouts]\nidle = \"50ms\"").run();
    let text = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).cut_response();
    assert!(text.contains("\"code\":\"idle_timeout\""), "{text}");
    assert_eq!(proxy.record()["outcome"], "timed_out");
}

#[test]
fn a_json_body_that_breaks_off_is_cut_and_not_given_a_false_end() {
    let bodies: [(&str, &str); 2] =
        [("content-length: 100", "{\"id\":"), ("transfer-encoding: chunked", "6\r\n{\"id\":\r\n")];
    for (framing, body) in bodies {
        let up = upstream(move |connection| {
            connection.request();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}\r\n\r\n{body}"
            ));
        });
        let proxy = proxy().upstream(&up).run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!(response.body, None, "{framing}");
        assert_eq!(proxy.record()["outcome"], "truncated");
    }
}

#[test]
fn upstream_that_never_responds_times_out() {
    let up = upstream(|connection| {
        connection.request();
        connection.wait_for_close();
    });
    for (timeouts, code) in
        [("first_byte = \"50ms\"", "first_byte_timeout"), ("total = \"50ms\"", "total_timeout")]
    {
        let proxy = proxy().upstream(&up).tables(&format!("[upstreams.up.timeouts]\n{timeouts}")).run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!(response.status(), 504);
        assert_eq!(response.error()["code"], code);
        assert_eq!(proxy.record()["outcome"], "timed_out");
    }
}

#[test]
fn a_tls_upstream_that_speaks_something_else_is_a_tls_error() {
    let up = upstream(|connection| {
        connection.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let proxy = proxy()
        .tables(&format!(
            "[upstreams.up]\nprovider = \"other\"\nurl = \"https://{}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"",
            up.address
        ))
        .run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.status(), 502);
    assert_eq!(response.error()["code"], "upstream_tls");
}

#[test]
fn a_path_that_is_not_the_apis_says_what_paths_are() {
    let up = Upstream::responding(sized("200 OK", "application/json", b"{}"));
    let proxy = proxy().upstream(&up).run();
    for path in ["/", "/chat/completions", "/favicon.ico", "/openai/deployments/x/chat/completions"] {
        let response = proxy.client().post(path, CHAT_REQUEST).response();
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(response.error()["code"], "unknown_path");
        assert_eq!(proxy.record()["outcome"], "rejected");
    }
    for path in [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1//x",
        "/v1/a\\..\\b",
        "/v1/..%3fx",
        "/v1/%2e%2e%23x",
        "/v1/%252e%252e/admin",
        "/v1/%c0%ae%c0%ae/admin",
    ] {
        let response = proxy.client().get(path).response();
        assert_eq!(response.error()["code"], "unsafe_path", "{path}");
    }
    assert_eq!(up.accepted(), 0);
}

#[test]
fn a_method_that_is_not_an_apis_is_refused() {
    let up = Upstream::responding("");
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().send("TRACE /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").response();
    assert_eq!(response.status(), 405);
    assert!(response.header("allow").is_some());
    assert_eq!(proxy.record()["method"], "TRACE");
}

#[test]
fn client_without_known_key_is_refused_before_body_is_read() {
    let up = Upstream::responding(sized("200 OK", "application/json", b"{}"));
    let proxy = proxy().upstream(&up).tables("[clients.search]\nkey = { value = \"sk-search\" }").run();
    for (header, status, code) in [
        ("x: y", 401, "missing_api_key"),
        ("authorization: Bearer sk-other", 401, "invalid_api_key"),
        ("authorization: Bearer sk-search", 200, ""),
        ("api-key: sk-search", 200, ""),
    ] {
        let mut client = proxy.client();
        let length = if status == 200 { 2 } else { 1000 };
        client.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{header}\r\ncontent-length: {length}\r\n\r\n{{}}"
        ));
        let response = client.response();
        assert_eq!(response.status(), status, "{header}");
        let record = proxy.record();
        if status == 401 {
            assert_eq!(response.error()["code"], code);
            assert!(!response.text().contains("sk-"), "no key in the message");
            assert_eq!(record["client"], "anonymous");
        } else {
            assert_eq!(record["client"], "search");
        }
    }
}
