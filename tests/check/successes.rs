//! The findings about upstreams that work, and the requests that they get.

use std::sync::mpsc;

use streamgauge::tls::ClientCertificates::{Optional, Required};

use crate::harness::{CHAT_BODY, CHAT_STREAM, Request, Upstream, sized, upstream};
use crate::program::{Folder, responding, tls, up};

/// An upstream with these bytes as its response, and the requests that it gets.
fn listening(response: Vec<u8>) -> (Upstream, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let upstream = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send(&response);
        }
    });
    (upstream, requests)
}

fn json() -> Vec<u8> {
    sized("200 OK", "application/json", CHAT_BODY.as_bytes())
}

#[test]
fn a_plain_upstream_is_asked_what_has_always_been_asked() {
    let folder = Folder::new();
    let (service, requests) = listening(json());
    let ended = folder.check(&up(&format!("http://{}/v1", service.address), ""), &[]);
    assert_eq!(ended.status, 0, "{}", ended.all());
    let request = requests.recv().unwrap();
    assert_eq!(request.line(), "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&request.body).unwrap(),
        serde_json::json!({
            "model": "gpt-asked",
            "messages": [{ "role": "user", "content": "Hello world" }],
            "max_tokens": 16
        })
    );
    assert_eq!(request.header("authorization"), Some("Bearer sk-marker-1"));
    assert_eq!(request.header("x-gateway"), Some("xh-marker-2"));
    assert!(requests.try_recv().is_err(), "once");

    assert!(ended.out.contains("upstream  up: other at"), "the summary comes first: {}", ended.all());
    assert!(ended.out.contains("\nup: ok\n"), "{}", ended.all());
    assert_eq!(ended.line("request"), format!("POST http://{}/v1/chat/completions", service.address));
    assert_eq!(ended.line("way"), format!("straight (no proxy is configured) to {}", service.address));
    let response = ended.line("response");
    assert!(
        response.starts_with("HTTP/1.1 200, gpt-real, 9 + 1 tokens in and out, first byte after "),
        "{response}"
    );
    assert!(!ended.has("TLS") && !ended.has("error"), "{}", ended.all());
    assert!(!ended.out.contains("\n\n\n") && ended.err.is_empty(), "{}", ended.all());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn certificates_of_both_sides_are_shown_and_key_matches_ours() {
    let folder = Folder::new();
    let (service, requests) = listening(json());
    let pair = folder.ca.issue("the-service", &["127.0.0.1"]);
    let ours = "ca = { file = \"ca.crt\" }\ncertificate = { file = \"client.crt\" }\nprivate_key = { file = \"client.key\" }";
    let run = |asks, tls_lines: &str| {
        let address = tls(&folder, &pair, asks, service.address);
        let ended = folder
            .check(&up(&format!("https://{address}/v1"), &format!("[upstreams.up.tls]\n{tls_lines}")), &[]);
        assert_eq!(ended.status, 0, "{}", ended.all());
        assert_eq!(requests.recv().unwrap().header("authorization"), Some("Bearer sk-marker-1"));
        ended
    };
    let ended = run(Some(Required), ours);
    let tls = ended.line("TLS");
    assert!(tls.starts_with("TLS 1.3, TLS_"), "{tls}");
    let certificate = ended.line("certificate");
    assert!(certificate.starts_with("CN=the-service, issued by CN=ours, until "), "{certificate}");
    assert!(!certificate.contains("verified"), "{certificate}");
    let client = ended.line("client cert");
    assert!(client.starts_with("presented CN=the-proxy, serial 5e, until "), "{client}");

    assert!(run(None, ours).line("client cert").contains("one is configured, and it did not request it"));
    let trusting = "ca = { file = \"ca.crt\" }";
    assert_eq!(run(None, trusting).line("client cert"), "it did not request one");
    assert_eq!(run(Some(Optional), trusting).line("client cert"), "it requested one, and none is configured");

    let ended = run(None, "verification_mode = \"none\"");
    assert!(ended.line("certificate").ends_with("; NOTHING OF IT IS VERIFIED"), "{}", ended.all());
    assert!(
        ended.err.contains("tls.verification_mode: nothing of the certificate is verified"),
        "{}",
        ended.err
    );
    let ended = run(None, "ca = { file = \"ca.crt\" }\nverification_mode = \"certificate\"");
    assert!(ended.line("certificate").ends_with("; its name is not verified"), "{}", ended.all());
}

#[test]
fn another_question_is_sent_as_it_is() {
    let folder = Folder::new();
    let (service, requests) = listening(json());
    let configuration = up(&format!("http://{}/v1", service.address), "models = { \"fast\" = \"gpt-mini\" }");
    let asked = |arguments: &[&str]| {
        let ended = folder.check(&configuration, arguments);
        assert_eq!(ended.status, 0, "{}", ended.all());
        requests.recv().unwrap()
    };
    let request = asked(&["--message", "Hi", "--model", "fast"]);
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((&body["model"], &body["messages"][0]["content"]), (&"gpt-mini".into(), &"Hi".into()));
    let text = "{\"input\": \"x\",\n \"model\":\"e\"}";
    folder.write("body.json", text);
    let request = asked(&["--body", "body.json", "--path", "/v1/embeddings"]);
    assert_eq!((request.line(), &request.body[..]), ("POST /v1/embeddings HTTP/1.1", text.as_bytes()));
    for (arguments, reason) in [
        (&["--body", "gone.json"][..], "--body gone.json: "),
        (&["--body", "streamgauge.toml"], "is not JSON"),
        (&["--body", "body.json", "--model", "m"], "cannot be used with"),
        (&["--path", "a b"], "a path has no spaces"),
    ] {
        let ended = folder.check(&configuration, arguments);
        assert!(ended.status == 2 && ended.err.contains(reason), "{reason}: {}", ended.all());
    }
}

#[test]
fn a_stream_is_read_to_its_end() {
    let folder = Folder::new();
    let (service, _requests) = listening(sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes()));
    folder.write("body.json", "{\"model\":\"m\",\"stream\":true,\"messages\":[]}");
    let url = format!("http://{}/v1", service.address);
    let ended = folder.check(&up(&url, ""), &["--body", "body.json"]);
    assert_eq!(ended.status, 0, "{}", ended.all());
    assert!(ended.line("response").contains("gpt-real, 9 + 2 tokens"), "{}", ended.all());
}

#[test]
fn model_for_the_check_is_one_from_configuration_or_openais_own() {
    let folder = Folder::new();
    let (service, requests) = listening(json());
    let url = format!("http://{}/v1", service.address);
    let key = "api_key = { value = \"sk-marker-1\" }";
    for (lines, line, model) in [
        (format!("[upstreams.openai]\nurl = \"{url}\"\n{key}"), "/v1/chat/completions", "gpt-4.1-mini"),
        (
            format!("[upstreams.openai]\nurl = \"{url}\"\n{key}\nmodels = {{ a = \"real\" }}"),
            "/v1/chat/completions",
            "real",
        ),
        (
            format!(
                "[upstreams.azure]\nurl = \"http://{}\"\n{key}\napi_version = \"2024-10-21\"\ndeployments = {{ \"gpt-4o\" = \"mine\" }}",
                service.address
            ),
            "/openai/deployments/mine/chat/completions?api-version=2024-10-21",
            "gpt-4o",
        ),
    ] {
        let ended = folder.check(&lines, &[]);
        assert_eq!(ended.status, 0, "{}", ended.all());
        let request = requests.recv().unwrap();
        assert_eq!(request.line(), format!("POST {line} HTTP/1.1"));
        assert!(ended.line("request").ends_with(line), "{}", ended.all());
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["model"], model);
    }
}

#[test]
fn upstreams_are_shown_in_order_and_one_failure_sets_the_status() {
    let folder = Folder::new();
    let service = responding();
    let mut configuration = "[[routes]]\nupstream = \"u7\"\n".to_owned();
    for number in 0..12 {
        // No server listens for number 3.
        let port = if number == 3 { 9 } else { service.address.port() };
        configuration += &up(&format!("http://127.0.0.1:{port}/v1"), "")
            .replace("upstreams.up", &format!("upstreams.u{number}"));
    }
    let ended = folder.check(&configuration, &[]);
    assert_eq!(ended.status, 1, "{}", ended.all());
    let verdicts: Vec<_> =
        ended.out.lines().filter(|line| line.ends_with(": ok") || line.ends_with("FAILED")).collect();
    let expected: Vec<_> =
        (0..12).map(|number| format!("u{number}: {}", if number == 3 { "FAILED" } else { "ok" })).collect();
    assert_eq!(verdicts, expected);
    assert!(!folder.folder_has("streamgauge.db"), "nothing is kept");

    let one = folder.check(&configuration, &["--upstream", "u7", "--upstream", "u1"]);
    assert_eq!(one.status, 0, "{}", one.all());
    assert!(one.out.starts_with("u7: ok\n") && one.out.contains("\n\nu1: ok\n"), "{}", one.all());
    let unknown = folder.check(&configuration, &["--upstream", "u13"]);
    assert!(
        unknown.status == 2 && unknown.err.contains("there is no upstream \"u13\", only u0, u1"),
        "{}",
        unknown.all()
    );
    assert!(unknown.out.is_empty(), "{}", unknown.all());
}

#[test]
fn mistakes_of_the_configuration_come_before_anything_is_sent() {
    let folder = Folder::new();
    let service = responding();
    let url = format!("http://{}/v1", service.address);
    let ended = folder.check(&up(&url, "urll = 1"), &[]);
    assert!(ended.status == 2 && ended.err.contains("upstreams.up.urll: unknown key"), "{}", ended.all());
    assert!(ended.out.is_empty() && service.accepted() == 0, "{}", ended.all());
    let ended = folder.run(&up(&url, ""), &["check", "--upstream", "up"]);
    assert!(ended.status == 2 && ended.err.contains("--live"), "{}", ended.all());
    let alone = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"\"\n";
    let ended = folder.run(&(alone.to_owned() + &up(&url, "")), &["check"]);
    assert!(ended.status == 0 && service.accepted() == 0, "{}", ended.all());
}

/// An upstream that refuses every body with one of these fields, as services do that do not know
/// it.
fn refusing(fields: &'static [&'static str]) -> (Upstream, mpsc::Receiver<serde_json::Value>) {
    let (sender, bodies) = mpsc::channel();
    let upstream = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let refused = fields.iter().find(|field| !body[**field].is_null());
            sender.send(body).unwrap();
            let error = refused.map(|field| {
                format!("{{\"error\":{{\"message\":\"Unsupported parameter: '{field}' is not supported\"}}}}")
            });
            match error {
                Some(error) => {
                    connection.send(sized("400 Bad Request", "application/json", error.as_bytes()))
                }
                None => connection.send(json()),
            }
        }
    });
    (upstream, bodies)
}

#[test]
fn response_is_limited_in_the_spelling_of_the_service() {
    let folder = Folder::new();
    const BOTH: [&str; 2] = ["max_completion_tokens", "max_tokens"];
    for (fields, tried) in [
        (&[][..], &[Some("max_completion_tokens")][..]),
        (&BOTH[..1], &[Some("max_completion_tokens"), Some("max_tokens")]),
        (&BOTH, &[Some("max_completion_tokens"), Some("max_tokens"), None]),
    ] {
        let (service, bodies) = refusing(fields);
        let configuration = format!(
            "[upstreams.openai]\nurl = \"http://{}/v1\"\napi_key = {{ value = \"sk-marker-1\" }}",
            service.address
        );
        let ended = folder.check(&configuration, &[]);
        assert_eq!(ended.status, 0, "{}", ended.all());
        for limit in tried {
            let body = bodies.recv().unwrap();
            let found = BOTH.into_iter().find(|field| body[*field] == 16);
            assert_eq!(found, *limit, "{body}");
        }
        assert!(bodies.try_recv().is_err(), "{fields:?}");
    }
}

#[test]
fn each_endpoint_is_asked_in_its_own_form() {
    let folder = Folder::new();
    let (service, requests) = listening(json());
    let configuration = up(&format!("http://{}/v1", service.address), "");
    for (path, line, field, limit) in [
        ("messages", "/v1/messages", "messages", Some("max_tokens")),
        ("/v1/messages", "/v1/messages", "messages", Some("max_tokens")),
        ("/responses", "/v1/responses", "input", Some("max_output_tokens")),
        ("v1/completions", "/v1/completions", "prompt", Some("max_tokens")),
        ("embeddings", "/v1/embeddings", "input", None),
    ] {
        let ended = folder.check(&configuration, &["--path", path]);
        assert_eq!(ended.status, 0, "{}", ended.all());
        let request = requests.recv().unwrap();
        assert_eq!(request.line(), format!("POST {line} HTTP/1.1"));
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert!(!body[field].is_null(), "{body}");
        let limits = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        assert_eq!(limits.into_iter().find(|limit| body[*limit] == 16), limit, "{body}");
        assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
    }
}

#[test]
fn secret_of_the_query_is_sent_and_not_shown() {
    let folder = Folder::new();
    let (service, requests) = listening(json());
    let query = "query = { tenant = \"search\", key = { value = \"pw-marker-3\" } }";
    let ended = folder.check(&up(&format!("http://{}/v1", service.address), query), &[]);
    assert_eq!(ended.status, 0, "{}", ended.all());
    let line = requests.recv().unwrap().line().to_owned();
    assert_eq!(line, "POST /v1/chat/completions?tenant=search&key=pw-marker-3 HTTP/1.1");
    assert!(ended.line("request").ends_with("/v1/chat/completions?tenant=search&key=***"), "{}", ended.all());
}
