//! Permissions of a client: its models, its endpoints, and the time of its keys.

use std::sync::mpsc;

use serde_json::Value;

use crate::harness::{Client, Proxy, Request, Response, Upstream, proxy, sized, upstream};

/// A proxy whose upstream passes on what arrives. `UPSTREAM` in `tables` is its address.
fn watched(tables: &str) -> (Proxy, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send(sized("200 OK", "application/json", b"{}"));
        }
    });
    let tables = tables.replace("UPSTREAM", &up.address.to_string());
    (proxy().upstream(&up).tables(&tables).run(), requests)
}

/// Two clients, of which one may ask for some models only.
const CLIENTS: &str = r#"
models = { "gpt-alias" = "o3" }
[clients.search]
key = { value = "sg-search-0123456789" }
models = ["gpt-5*", "gpt-alias"]
[clients.all]
key = { value = "sg-all-0123456789abc" }
"#;

fn request(client: &mut Client, method: &str, path: &str, key: &str, head: &str, body: &str) -> Response {
    let length = body.len();
    client
        .send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n{head}content-length: {length}\r\n\r\n{body}"
        ))
        .response()
}

fn search(proxy: &Proxy, method: &str, path: &str, head: &str, body: &str) -> Response {
    request(&mut proxy.client(), method, path, "sg-search-0123456789", head, body)
}

fn chat(model: &str) -> String {
    format!("{{\"model\":\"{model}\",\"messages\":[]}}")
}

/// Checks a refusal, its record, and that the upstream saw nothing.
fn is_refused(proxy: &Proxy, requests: &mpsc::Receiver<Request>, response: &Response, code: &str) {
    assert_eq!(response.status(), 403, "{}", response.text());
    let error = response.error();
    assert_eq!(error["code"], code, "{error}");
    assert_eq!(error["type"], "streamgauge_error");
    let param = if code == "endpoint_not_allowed" { Value::Null } else { "model".into() };
    assert_eq!(error["param"], param, "{error}");
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["client"]), (&"rejected".into(), &"search".into()), "{record}");
    assert!(requests.try_recv().is_err(), "the upstream saw a refused request");
}

#[test]
fn client_asks_for_its_models_only_before_aliases() {
    let (proxy, requests) = watched(CLIENTS);
    for model in ["gpt-5", "gpt-5-mini", "gpt-alias"] {
        let response = search(&proxy, "POST", "/v1/chat/completions", "", &chat(model));
        assert_eq!(response.status(), 200, "{model}: {}", response.text());
        requests.recv().unwrap();
        assert_eq!(proxy.record()["model_requested"], model);
    }
    for model in ["o3", "gpt-4o", "GPT-5"] {
        let response = search(&proxy, "POST", "/v1/chat/completions", "", &chat(model));
        let error = response.error();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("gpt-5*, gpt-alias") && message.contains(model), "{message}");
        is_refused(&proxy, &requests, &response, "model_not_allowed");
    }
    let all =
        request(&mut proxy.client(), "POST", "/v1/chat/completions", "sg-all-0123456789abc", "", &chat("o3"));
    assert_eq!(all.status(), 200, "{}", all.text());
}

#[test]
fn model_that_cannot_be_read_is_refused() {
    // Without an alias, nothing else needs the model.
    let (proxy, requests) = watched(&CLIENTS.replacen("models = { \"gpt-alias\" = \"o3\" }", "", 1));
    let form = "--b\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\nx\r\n--b--\r\n";
    for (method, path, head, body) in [
        // The default model of the upstream is not one of the client's.
        ("POST", "/v1/embeddings", "content-encoding: aws-chunked\r\n", &*chat("gpt-5")),
        ("POST", "/v1/embeddings", "content-encoding: gzip\r\n", "not gzip"),
        ("POST", "/v1/embeddings", "", "not JSON"),
        ("POST", "/v1/audio/transcriptions", "content-type: multipart/form-data; boundary=b\r\n", form),
    ] {
        let response = search(&proxy, method, path, head, body);
        is_refused(&proxy, &requests, &response, "model_unknown");
    }
    let response = search(&proxy, "POST", "/v1/chat/completions", "", "{\"messages\":[]}");
    is_refused(&proxy, &requests, &response, "model_not_allowed");
    let twice = "{\"model\":\"gpt-5\",\"model\":\"o3\"}";
    let response = search(&proxy, "POST", "/v1/chat/completions", "", twice);
    assert_eq!((response.status(), &response.error()["code"]), (400, &"model_ambiguous".into()));
    proxy.record();
    // A form is read up to its model.
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ngpt-5\r\n--b--\r\n";
    let head = "content-type: multipart/form-data; boundary=b\r\n";
    let response = search(&proxy, "POST", "/v1/audio/transcriptions", head, form);
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(String::from_utf8_lossy(&requests.recv().unwrap().body), form);
}

#[test]
fn websocket_names_its_model_in_the_query() {
    let (proxy, requests) = watched(CLIENTS);
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let response = search(&proxy, "GET", "/v1/realtime?model=gpt-5-realtime", upgrade, "");
    assert_eq!(response.status(), 200, "{}", response.text());
    requests.recv().unwrap();
    proxy.record();
    for (path, code) in [
        ("/v1/realtime?model=o3-realtime", "model_not_allowed"),
        ("/v1/realtime?model=&deployment=o3", "model_not_allowed"),
        ("/v1/realtime", "model_not_allowed"),
        // Its messages name the model, whatever the URL says.
        ("/v1/responses?model=gpt-5", "model_unknown"),
    ] {
        let response = search(&proxy, "GET", path, upgrade, "");
        is_refused(&proxy, &requests, &response, code);
    }
    for path in ["/v1/realtime?model=gpt-5&model=o3", "/v1/realtime?model=gpt-5&deployment=o3"] {
        let response = search(&proxy, "GET", path, upgrade, "");
        assert_eq!(response.error()["code"], "model_ambiguous", "{path}");
        proxy.record();
    }
}

#[test]
fn azure_deployment_stands_for_its_models() {
    let (proxy, requests) = watched(&format!(
        "{CLIENTS}[upstreams.azure]\nurl = \"http://UPSTREAM\"\napi_version = \"2024-10-21\"\napi_key = {{ value = \"az\" }}\n\
         deployments = {{ \"gpt-5-x\" = \"dep-a\", \"o3\" = \"dep-b\", \"gpt-5-y\" = \"dep-b\" }}\n\
         [[routes]]\nupstream = \"azure\""
    ));
    for deployment in ["dep-a", "dep-b", "gpt-5-own", "dep%2Da"] {
        let path = format!("/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21");
        // Azure ignores the model in the body.
        let response = search(&proxy, "POST", &path, "", &chat("o3"));
        assert_eq!(response.status(), 200, "{deployment}: {}", response.text());
        requests.recv().unwrap();
        proxy.record();
    }
    for deployment in ["dep-c", "o3", "dep-a%20"] {
        let path = format!("/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21");
        let response = search(&proxy, "POST", &path, "", &chat("gpt-5"));
        is_refused(&proxy, &requests, &response, "model_not_allowed");
    }
}

#[test]
fn united_list_of_models_has_only_those_of_the_client() {
    let list = br#"{"object":"list","data":[{"id":"gpt-5","object":"model"},{"id":"o3","object":"model"}]}"#;
    let up = Upstream::responding(sized("200 OK", "application/json", list));
    let tables =
        format!("{CLIENTS}[[routes]]\nmodel = \"o*\"\nupstream = \"up\"\n[[routes]]\nupstream = \"up\"\n");
    let proxy = proxy().upstream(&up).tables(&tables).run();
    for (key, expected) in [
        ("sg-all-0123456789abc", &["gpt-5", "gpt-alias", "o3"][..]),
        ("sg-search-0123456789", &["gpt-5", "gpt-alias"]),
    ] {
        let response = request(&mut proxy.client(), "GET", "/v1/models", key, "", "");
        assert_eq!(response.status(), 200, "{}", response.text());
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        let mut ids: Vec<_> =
            body["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected);
    }
}

#[test]
fn list_of_one_upstream_has_only_the_models_of_a_limited_client() {
    let list =
        br#"{ "object":"list","data":[{"id":"gpt-5","object":"model"}, {"id":"o3","object":"model"}] }"#;
    let up = Upstream::responding(sized("200 OK", "application/json", list));
    let proxy = proxy().upstream(&up).tables(CLIENTS).run();
    let get = |key: &str| request(&mut proxy.client(), "GET", "/v1/models", key, "", "");
    assert_eq!(get("sg-all-0123456789abc").body(), list, "it passes untouched");
    let response = get("sg-search-0123456789");
    assert_eq!(response.status(), 200, "{}", response.text());
    assert!(response.text().contains("gpt-5") && !response.text().contains("\"o3\""), "{}", response.text());
    assert!(response.text().contains("gpt-alias"), "{}", response.text());
    assert_eq!(get("sg-unknown-0123456789").status(), 401);
}

#[test]
fn endpoints_that_are_not_metered_need_all() {
    let (proxy, requests) = watched(CLIENTS);
    for (method, path) in [
        ("POST", "/v1/batches"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files/f/content"),
        ("POST", "/v1/unheard/of"),
        ("GET", "/v1/unheard/of"),
        ("POST", "/v1/conversations"),
        ("POST", "/v1/evals/e/runs"),
        ("POST", "/v1/fine_tuning/jobs"),
        // Their tokens are used elsewhere, or arrive with a later request.
        ("POST", "/v1/realtime/sessions"),
        ("POST", "/v1/realtime/client_secrets"),
        ("POST", "/v1/realtime?model=gpt-5"),
        ("POST", "/v1/threads/runs"),
        ("POST", "/v1/threads/t/runs/r/submit_tool_outputs"),
        ("POST", "/v1/videos"),
        ("POST", "/openai/deployments/gpt-5/conversations"),
    ] {
        let response = search(&proxy, method, path, "", &chat("gpt-5"));
        is_refused(&proxy, &requests, &response, "endpoint_not_allowed");
    }
    for (method, path) in [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/gpt-5"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/chat/completions"),
    ] {
        let response = search(&proxy, method, path, "", "");
        assert_eq!(response.status(), 200, "{method} {path}: {}", response.text());
        requests.recv().unwrap();
        proxy.record();
    }
    // The path names a model.
    let response = search(&proxy, "GET", "/v1/models/o3", "", "");
    is_refused(&proxy, &requests, &response, "model_not_allowed");
    let (proxy, _requests) = watched(&with_all_endpoints());
    for path in ["/v1/batches", "/v1/files", "/v1/unheard/of"] {
        assert_eq!(search(&proxy, "POST", path, "", "{}").status(), 200, "{path}");
    }
}

fn with_all_endpoints() -> String {
    CLIENTS.replacen("models = [\"gpt-5*\"", "endpoints = \"all\"\nmodels = [\"gpt-5*\"", 1)
}

#[test]
fn response_in_the_background_needs_all_endpoints() {
    let (proxy, requests) = watched(CLIENTS);
    for body in [
        r#"{"model":"gpt-5","background":true}"#,
        r#"{"model":"gpt-5","background":true,"background":false}"#,
        r#"{"model":"gpt-5","backgr\u006fund":1}"#,
    ] {
        let response = search(&proxy, "POST", "/v1/responses", "", body);
        assert!(response.text().contains("background = true"), "{}", response.text());
        is_refused(&proxy, &requests, &response, "endpoint_not_allowed");
    }
    // A body that cannot be read may say so too.
    let response = search(&proxy, "POST", "/v1/responses", "", "not JSON");
    is_refused(&proxy, &requests, &response, "endpoint_not_allowed");
    for body in [r#"{"model":"gpt-5"}"#, r#"{"model":"gpt-5","background":false}"#] {
        assert_eq!(search(&proxy, "POST", "/v1/responses", "", body).status(), 200, "{body}");
        requests.recv().unwrap();
    }
    let (proxy, _requests) = watched(&with_all_endpoints());
    let body = r#"{"model":"gpt-5","background":true}"#;
    assert_eq!(search(&proxy, "POST", "/v1/responses", "", body).status(), 200);
}

#[test]
fn record_has_id_of_the_key_and_expired_key_is_refused() {
    let (proxy, requests) = watched(
        r#"
[clients.search]
keys = [
  { value = "sg-search-0123456789" },
  { sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", until = "2999-01-01" },
  { value = "sg-old-key-0123456789", until = 2026-01-01 },
]
"#,
    );
    let ask = |key: &str| request(&mut proxy.client(), "POST", "/v1/chat/completions", key, "", &chat("m"));
    assert_eq!(ask("test").status(), 200);
    requests.recv().unwrap();
    assert_eq!(proxy.record()["key_id"], "9f86d081");
    assert_eq!(ask("sg-search-0123456789").status(), 200);
    let record = proxy.record();
    assert_eq!(record["client"], "search");
    assert_ne!(record["key_id"], "9f86d081");
    let expired = ask("sg-old-key-0123456789");
    assert_eq!(expired.status(), 401);
    let error = expired.error();
    assert_eq!(error["code"], "invalid_api_key");
    assert!(error["message"].as_str().unwrap().contains("This API key has expired."), "{error}");
    assert_eq!(proxy.record()["key_id"], Value::Null);
}
