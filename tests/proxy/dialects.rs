//! Services with an API of their own beside OpenAI's: the URL and the credentials on each path.

use std::sync::mpsc;

use serde_json::{Value, json};

use crate::harness::{CHAT_BODY, CHAT_REQUEST, Proxy, Request, proxy, sized, upstream};

const GENERATED: &str = r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}],
    "usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":8,"totalTokenCount":18},"modelVersion":"gemini-2.5-flash-001"}"#;

/// A proxy with one upstream, which sends `body`, and the requests that it gets.
fn watched(tables: &str, body: &'static str) -> (Proxy, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send(sized("200 OK", "application/json", body.as_bytes()));
        }
    });
    (proxy().tables(&tables.replace("ADDRESS", &up.address.to_string())).run(), requests)
}

/// The headers with credentials and versions that the upstream got.
fn credentials(request: &Request) -> Vec<(&'static str, String)> {
    const NAMES: [&str; 5] = ["authorization", "x-api-key", "x-goog-api-key", "api-key", "anthropic-version"];
    NAMES.into_iter().filter_map(|name| Some((name, request.header(name)?.to_owned()))).collect()
}

fn named(name: &'static str, value: &str) -> (&'static str, String) {
    (name, value.to_owned())
}

#[test]
fn anthropic_gets_its_own_header_except_for_chat_completions() {
    let tables = "[upstreams.anthropic]\nurl = \"http://ADDRESS/v1\"\napi_key = { value = \"sk-ant\" }";
    let (proxy, requests) = watched(tables, CHAT_BODY);
    let own = [named("x-api-key", "sk-ant"), named("anthropic-version", "2023-06-01")];
    let bearer = [named("authorization", "Bearer sk-ant")];
    for (path, expected) in [
        ("/v1/messages", &own[..]),
        ("/v1/messages/count_tokens?beta=true", &own[..]),
        ("/v1/chat/completions", &bearer[..]),
        ("/v1/chat/completions?a=b", &bearer[..]),
    ] {
        assert_eq!(proxy.client().post(path, CHAT_REQUEST).response().status(), 200);
        let request = requests.recv().unwrap();
        assert_eq!(request.line(), format!("POST {path} HTTP/1.1"));
        assert_eq!(credentials(&request), expected, "{path}");
    }
    let text = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nAnthropic-Version: 2024-01-01\r\nx-api-key: mine\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(proxy.client().send(text).response().status(), 200);
    let own = [named("x-api-key", "sk-ant"), named("anthropic-version", "2024-01-01")];
    assert_eq!(credentials(&requests.recv().unwrap()), own, "a client's version passes, its key does not");
}

const GEMINI: &str = "[upstreams.gemini]\nurl = \"http://ADDRESS\"\napi_key = { value = \"AIza\" }\nmodels = { \"fast\" = \"gemini-2.5-flash\" }";

#[test]
fn gemini_has_two_apis_with_a_header_each() {
    let (proxy, requests) = watched(GEMINI, GENERATED);
    let (own, bearer) = (named("x-goog-api-key", "AIza"), named("authorization", "Bearer AIza"));
    for (path, target, credential) in [
        ("/v1/chat/completions", "/v1beta/openai/chat/completions", &bearer),
        ("/v1beta/openai/chat/completions", "/v1beta/openai/chat/completions", &bearer),
        ("/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent", &own),
        (
            "/v1beta/models/fast:streamGenerateContent?alt=sse",
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            &own,
        ),
        ("/v1alpha/cachedContents", "/v1alpha/cachedContents", &own),
    ] {
        assert_eq!(proxy.client().post(path, CHAT_REQUEST).response().status(), 200, "{path}");
        let request = requests.recv().unwrap();
        assert_eq!(request.line(), format!("POST {target} HTTP/1.1"));
        assert_eq!(credentials(&request), std::slice::from_ref(credential), "{path}");
        proxy.record();
    }
    assert_eq!(proxy.client().post("/v1gamma/models", "{}").response().status(), 404);
}

#[test]
fn native_request_is_recorded_with_the_model_of_its_path() {
    let (proxy, _requests) = watched(GEMINI, GENERATED);
    proxy.client().post("/v1beta/models/fast:generateContent", "{\"contents\":[]}").response();
    let record = proxy.record();
    for (key, value) in [
        ("endpoint", json!("generateContent")),
        ("model_requested", json!("fast")),
        ("model", json!("gemini-2.5-flash-001")),
        ("provider", json!("gemini")),
        ("input_tokens", json!(10)),
        ("output_tokens", json!(8)),
    ] {
        assert_eq!(record[key], value, "{key} of {record}");
    }
}

#[test]
fn client_may_use_only_its_models_on_native_paths() {
    let clients = "\n[clients.search]\nkey = { value = \"sg-search-0123456789\" }\nmodels = [\"gemini-2.5-*\"]\nmax_output = 100";
    let (proxy, _requests) = watched(&format!("{GEMINI}{clients}"), GENERATED);
    let post = |model: &str, key: &str| {
        let head =
            format!("POST /v1beta/models/{model} HTTP/1.1\r\nhost: localhost\r\n{key}: sg-search-0123456789");
        let response = proxy.client().send(format!("{head}\r\ncontent-length: 2\r\n\r\n{{}}")).response();
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        (response.status(), body["error"]["code"].clone())
    };
    // The bound of output is in a body that is not read.
    assert_eq!(post("gemini-2.5-pro:generateContent", "x-goog-api-key"), (400, json!("max_output_exceeded")));
    assert_eq!(post("gemini-2.5-pro:countTokens", "x-goog-api-key"), (200, json!(null)));
    assert_eq!(post("gemini-1.5-pro:countTokens", "authorization"), (401, json!("missing_api_key")));
    assert_eq!(post("gemini-1.5-pro:countTokens", "x-goog-api-key"), (403, json!("model_not_allowed")));
    assert_eq!(post("gemini-2.5-pro:embedContent", "x-goog-api-key"), (403, json!("endpoint_not_allowed")));
}

#[test]
fn version_of_an_upstreams_url_is_an_inbound_path() {
    let tables = "[upstreams.cohere]\nprovider = \"other\"\nurl = \"http://ADDRESS/v2\"\napi_key = { value = \"co\" }\ndefault_model = \"command-a\"";
    let body = r#"{"finish_reason":"COMPLETE","message":{"role":"assistant"},"usage":{"billed_units":{"input_tokens":5,"output_tokens":3},"tokens":{"input_tokens":71,"output_tokens":3}}}"#;
    let (proxy, requests) = watched(tables, body);
    assert_eq!(proxy.client().post("/v2/chat", "{\"model\":\"command-r\"}").response().status(), 200);
    let request = requests.recv().unwrap();
    assert_eq!(request.line(), "POST /v2/chat HTTP/1.1");
    assert_eq!(credentials(&request), [named("authorization", "Bearer co")]);
    let record = proxy.record();
    assert_eq!((&record["endpoint"], &record["model_requested"]), (&json!("chat"), &json!("command-r")));
    assert_eq!(record["usage_source"], "reported", "{record}");
    assert_eq!(proxy.client().post("/v3/chat", "{}").response().status(), 404);
    assert_eq!(proxy.client().post("/v2/../v1/chat", "{}").response().status(), 400);
}
