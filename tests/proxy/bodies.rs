//! A request's body: edited only if it must be, buffered only if its contents are needed.

use std::sync::mpsc;

use crate::harness::{CHAT_BODY, Proxy, Request, Upstream, proxy, sized, upstream};

/// An upstream that responds, and passes on the requests it gets.
fn watched() -> (Upstream, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
    });
    (up, requests)
}

fn with_alias(up: &Upstream) -> Proxy {
    proxy().upstream(up).tables("[upstreams.up.models]\nfast = \"real-fast\"").run()
}

#[test]
fn a_body_that_needs_no_edit_arrives_as_it_was_sent() {
    let (up, requests) = watched();
    let proxy = with_alias(&up);
    for body in [
        "{ \"messages\" : [],\n\"model\":\"gpt\\u002dx\", \"model_\": 1e400, \"x\":\"\\ud83d\\ude00\", \"dup\":1,\"dup\":2 }\n",
        "not json at all",
        "[1,2]",
        "{\"model\": 7}",
        "{\"model\":\"a\",\"model\":\"b\"}",
    ] {
        let response = proxy.client().post("/v1/chat/completions", body).response();
        assert_eq!(response.status(), 200, "{body}: {}", response.text());
        assert_eq!(requests.recv().unwrap().body, body.as_bytes());
    }
}

#[test]
fn alias_or_missing_model_is_set_with_other_bytes_unchanged() {
    let (up, requests) = watched();
    let proxy = with_alias(&up);
    for (sent, arrives) in [
        (
            "{\"n\" :1.0, \"model\" : \"fast\" , \"z\":[ ]}",
            "{\"n\" :1.0, \"model\" : \"real-fast\" , \"z\":[ ]}",
        ),
        ("{ \"n\":1}", "{\"model\":\"default-model\", \"n\":1}"),
        ("{}", "{\"model\":\"default-model\"}"),
        ("{\"model\":null,\"n\":1}", "{\"model\":\"default-model\",\"n\":1}"),
    ] {
        proxy.client().post("/v1/chat/completions", sent).response();
        let request = requests.recv().unwrap();
        assert_eq!(String::from_utf8(request.body.clone()).unwrap(), arrives);
        assert_eq!(request.header("content-length"), Some(arrives.len().to_string().as_str()));
    }
}

#[test]
fn a_form_passes_while_it_comes() {
    let (seen, parts) = mpsc::channel();
    let up = upstream(move |connection| {
        let head = connection.head().unwrap();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        seen.send(connection.read(b"5\r\nfirst\r\n".len())).unwrap();
        seen.send(connection.read(b"6\r\nsecond\r\n0\r\n\r\n".len())).unwrap();
        connection.send(sized("200 OK", "application/json", b"{}"));
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.send("POST /v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    assert_eq!(parts.recv().unwrap(), b"5\r\nfirst\r\n", "before the client has sent the rest");
    client.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(parts.recv().unwrap(), b"6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(proxy.record()["request_bytes"], 11);
}

#[test]
fn a_form_with_a_length_keeps_it() {
    let (up, requests) = watched();
    let proxy = proxy().upstream(&up).run();
    proxy.client().send("POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 4\r\n\r\nform").response();
    let request = requests.recv().unwrap();
    assert_eq!(request.header("content-length"), Some("4"));
    assert_eq!(request.body, b"form");
}

#[test]
fn response_may_come_while_the_request_is_being_sent() {
    let up = upstream(|connection| {
        connection.head().unwrap();
        connection.read(b"5\r\nfirst\r\n".len());
        connection
            .send("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig");
        connection.wait_for_close();
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.send("POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (413, "big"));
}

#[test]
fn a_client_that_expects_to_be_asked_is_asked() {
    let (up, requests) = watched();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.send("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 13\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 100"));
    client.send("{\"model\":\"m\"}");
    assert_eq!(client.response().status(), 200);
    let request = requests.recv().unwrap();
    assert_eq!(request.header("expect"), None);
    assert_eq!(request.body, b"{\"model\":\"m\"}");
}

#[test]
fn a_request_without_a_body_has_none_upstream() {
    let (up, requests) = watched();
    let proxy = proxy().upstream(&up).run();
    proxy.client().get("/v1/models").response();
    let request = requests.recv().unwrap();
    assert_eq!(request.header("content-length"), None);
    assert_eq!(request.header("transfer-encoding"), None);
    proxy
        .client()
        .send("POST /v1/responses/r_1/cancel HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
        .response();
    assert_eq!(requests.recv().unwrap().header("content-length"), Some("0"));
}

/// Sends a chat request with these lines in its head, and returns its status and its record.
fn chat(proxy: &Proxy, method: &str, lines: &str, body: &[u8]) -> (u16, serde_json::Value) {
    let head = format!(
        "{method} /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: {}\r\n\r\n",
        body.len()
    );
    let mut client = proxy.client();
    let status = client.send([head.as_bytes(), body].concat()).response().status();
    (status, proxy.record())
}

#[test]
fn a_header_that_is_stripped_hides_no_body() {
    let (up, requests) = watched();
    let proxy = with_alias(&up);
    for lines in [
        "connection: content-encoding\r\ncontent-encoding: gzip\r\n",
        "connection: close, Content-Encoding\r\ncontent-encoding: x-unknown\r\n",
        "connection: content-type\r\ncontent-type: multipart/form-data\r\n",
        "content-encoding: identity\r\n",
        "content-encoding: Identity, identity\r\n",
        "content-encoding:\r\n",
        "content-type: audio/wav\r\n",
        "content-type: multipart/form-data; boundary=x\r\ncontent-type: application/json\r\n",
        "content-type: application/json; charset=utf-16\r\n",
        "connection: content-length\r\n",
    ] {
        let (status, record) = chat(&proxy, "POST", lines, b"{\"model\":\"fast\"}");
        assert_eq!((status, &record["model_requested"]), (200, &"fast".into()), "{lines}");
        let request = requests.recv().unwrap();
        assert_eq!(request.body, b"{\"model\":\"real-fast\"}", "{lines}");
        assert!(!lines.starts_with("connection: content-type") || request.header("content-type").is_none());
        assert!(!lines.contains("gzip") || request.header("content-encoding").is_none());
    }
    let coded = b"\x1f\x8b{\"model\":\"fast\"}";
    let (status, record) = chat(&proxy, "POST", "content-encoding: gzip\r\n", coded);
    assert_eq!(status, 400, "what cannot be read is refused where there are aliases");
    assert!(record["model_requested"].is_null());
}

#[test]
fn a_byte_order_mark_hides_no_body() {
    let (up, requests) = watched();
    let proxy = with_alias(&up);
    let (_, record) = chat(&proxy, "POST", "", b"\xef\xbb\xbf{\"model\":\"fast\"}");
    assert_eq!(record["model_requested"], "fast");
    assert_eq!(requests.recv().unwrap().body, b"\xef\xbb\xbf{\"model\":\"real-fast\"}");
    chat(&proxy, "POST", "", b"\xef\xbb\xbf{}");
    assert_eq!(requests.recv().unwrap().body, b"\xef\xbb\xbf{\"model\":\"default-model\"}");
}

#[test]
fn json_in_utf_16_or_utf_32_is_refused() {
    let (up, _requests) = watched();
    let proxy = with_alias(&up);
    let routed = self::proxy().upstream(&up).tables("[[routes]]\nmodel = \"fast\"\nupstream = \"up\"").run();
    let text = "{\"model\":\"fast\"}";
    let wide = |encode: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(encode).collect::<Vec<_>>();
    let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
    for body in [
        little.clone(),
        big.clone(),
        [&b"\xff\xfe"[..], &little].concat(),
        [&b"\xfe\xff"[..], &big].concat(),
        text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(),
        text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(),
    ] {
        for proxy in [&proxy, &routed] {
            let (status, record) =
                chat(proxy, "POST", "content-type: application/json; charset=utf-16\r\n", &body);
            assert_eq!((status, &record["outcome"]), (400, &"rejected".into()));
            assert!(record["error"].as_str().unwrap().starts_with("body_not_utf8"), "{record}");
        }
    }
    assert_eq!(up.accepted(), 0);
}

#[test]
fn an_unknown_method_is_metered_as_what_it_is() {
    let up = Upstream::responding(sized("200 OK", "text/event-stream", STREAM_WITHOUT_USAGE.as_bytes()));
    let proxy = proxy().upstream(&up).run();
    for method in ["POST", "post", "Post", "QUERY"] {
        let request =
            b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":true}";
        let (status, record) = chat(&proxy, method, "", request);
        assert_eq!((status, &record["method"]), (200, &method.into()));
        assert_eq!(record["usage_source"], "estimated", "{method}: {record}");
        assert!(record["output_tokens"].as_u64() > Some(0), "{method}: {record}");
    }
}

/// The stream of services that do not report usage.
const STREAM_WITHOUT_USAGE: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello there\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
