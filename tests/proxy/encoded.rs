//! Request bodies in a content coding, as Codex sends them.

use std::sync::mpsc;

use crate::harness::encoders::{CODINGS, header_value, whole};
use crate::harness::{CHAT_STREAM, Proxy, Request, Response, proxy, sized, upstream};

const CHAT: &str = "{\"model\":\"MODEL\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello there, how are you?\"}],\"stream\":true,\"stream_options\":{\"include_usage\":true},\"user\":\"u-1\"}";

/// A proxy with an alias and a route by the model, whose upstreams pass on what arrives.
fn watched(server: &str, tables: &str) -> (Proxy, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send(sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes()));
        }
    });
    (
        proxy()
            .server(server)
            .upstream(&up)
            .tables(&tables.replace("UPSTREAM", &up.address.to_string()))
            .run(),
        requests,
    )
}

const ROUTES: &str = "models = { \"fast\" = \"real\" }\n[[routes]]\nmodel = \"fast\"\nupstream = \"up\"\n[[routes]]\nmodel = \"plain*\"\nupstream = \"up\"";

fn post(proxy: &Proxy, path: &str, coding: &str, body: &[u8]) -> Response {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-encoding: {coding}\r\n\
         content-digest: sha-256=:x:\r\nx-after: 1\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    proxy.client().send([head.as_bytes(), body].concat()).response()
}

#[test]
fn encoded_body_is_routed_recorded_and_passes_as_it_came() {
    let (proxy, requests) = watched("", ROUTES);
    let text = CHAT.replace("MODEL", "plain-1");
    for coding in CODINGS {
        let body = whole(coding, text.as_bytes());
        let response = post(&proxy, "/v1/chat/completions", header_value(coding), &body);
        assert_eq!(response.status(), 200, "{coding}: {}", response.text());
        let request = requests.recv().unwrap();
        assert!(request.body == body, "{coding}");
        assert_eq!(request.header("content-encoding"), Some(header_value(coding)));
        assert_eq!(request.header("content-digest"), Some("sha-256=:x:"));
        let record = proxy.record();
        assert_eq!(record["model_requested"], "plain-1", "{coding}");
        assert_eq!((&record["user"], &record["request_bytes"]), (&"u-1".into(), &body.len().into()));
    }
    let both = whole("gzip", &whole("zstd", text.as_bytes()));
    assert_eq!(post(&proxy, "/v1/chat/completions", "zstd, gzip", &both).status(), 200);
    assert!(requests.recv().unwrap().body == both);
}

#[test]
fn body_that_must_be_edited_goes_on_decoded() {
    let (proxy, requests) = watched("", ROUTES);
    for coding in CODINGS {
        let body = whole(coding, CHAT.replace("MODEL", "fast").as_bytes());
        assert_eq!(post(&proxy, "/v1/chat/completions", header_value(coding), &body).status(), 200);
        let request = requests.recv().unwrap();
        assert_eq!(
            String::from_utf8(request.body.clone()).unwrap(),
            CHAT.replace("MODEL", "real"),
            "{coding}"
        );
        assert_eq!((request.header("content-encoding"), request.header("content-digest")), (None, None));
        assert_eq!(request.header("content-length"), Some(&*request.body.len().to_string()));
        assert_eq!(request.header("x-after"), Some("1"));
        assert_eq!(proxy.record()["model_requested"], "fast");
    }
}

#[test]
fn usage_is_asked_for_in_an_encoded_body_and_estimated_from_it() {
    let (proxy, requests) = watched("", "include_usage = \"always\"");
    let text = "{\"model\":\"m\",\"messages\":[],\"stream\":true}";
    let response = post(&proxy, "/v1/chat/completions", "zstd", &whole("zstd", text.as_bytes()));
    assert!(!response.text().contains("prompt_tokens"), "what comes of our asking is withheld");
    let body = String::from_utf8(requests.recv().unwrap().body).unwrap();
    assert!(body.contains("\"include_usage\":true"), "{body}");
    assert_eq!(proxy.record()["usage_source"], "reported");
}

#[test]
fn coding_that_is_not_known_is_named_where_the_model_decides() {
    let (proxy, requests) = watched("", ROUTES);
    let response = post(&proxy, "/v1/chat/completions", "x-rot13, gzip", b"?");
    assert_eq!((response.status(), &response.error()["code"]), (415, &"unsupported_encoding".into()));
    assert!(response.text().contains("x-rot13"), "{}", response.text());
    for coding in CODINGS {
        for body in [&b"no such coding"[..], &whole(coding, CHAT.as_bytes())[..30]] {
            let response = post(&proxy, "/v1/chat/completions", header_value(coding), body);
            assert_eq!(
                (response.status(), &response.error()["code"]),
                (400, &"body_undecodable".into()),
                "{coding}"
            );
        }
    }
    assert!(requests.try_recv().is_err());
    // A body that no rule needs passes.
    let (proxy, requests) = watched("", "");
    for coding in ["x-rot13", "zstd"] {
        assert_eq!(post(&proxy, "/v1/chat/completions", coding, b"?!?").status(), 200);
        let request = requests.recv().unwrap();
        assert_eq!((&request.body[..], request.header("content-encoding")), (&b"?!?"[..], Some(coding)));
    }
}

#[test]
fn bombs_are_refused_within_the_limits_of_bodies() {
    let (proxy, requests) = watched("max_request_bytes = \"1MiB\"", "");
    for coding in CODINGS {
        let text = format!("{{\"model\":\"m\",\"a\":\"{}\"}}", "a".repeat(2 << 20));
        let body = whole(coding, text.as_bytes());
        assert!(body.len() < 100_000);
        let response = post(&proxy, "/v1/chat/completions", header_value(coding), &body);
        assert_eq!(
            (response.status(), &response.error()["code"]),
            (413, &"request_too_large".into()),
            "{coding}"
        );
    }
    assert!(requests.try_recv().is_err());
    let (proxy, _requests) = watched("max_request_bytes = \"64MiB\"\nmax_buffered_bytes = \"1MiB\"", "");
    let body = whole("zstd", &vec![b' '; 4 << 20]);
    assert_eq!(post(&proxy, "/v1/chat/completions", "zstd", &body).status(), 503);
    let (proxy, _requests) = watched("max_request_bytes = \"64MiB\"", "");
    let body = whole("zstd", &vec![b' '; 32 << 20]);
    assert_eq!(post(&proxy, "/v1/chat/completions", "zstd", &body).status(), 413, "beyond reason");
}

#[test]
fn encoded_form_is_decoded_where_its_model_is_needed() {
    let (proxy, requests) = watched("", "models = { \"fast\" = \"real\" }");
    let form = |model: &str| {
        format!(
            "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\ndata\r\n--x--\r\n"
        )
    };
    for (model, sent, coding) in
        [("fast", form("real").into_bytes(), None), ("m", whole("gzip", form("m").as_bytes()), Some("gzip"))]
    {
        let body = whole("gzip", form(model).as_bytes());
        let head = format!(
            "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n\
             content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        assert_eq!(proxy.client().send([head.as_bytes(), &body].concat()).response().status(), 200);
        let request = requests.recv().unwrap();
        assert!(request.body == sent, "{model}");
        assert_eq!(request.header("content-encoding"), coding);
        assert_eq!(proxy.record()["model_requested"], model);
    }
}
