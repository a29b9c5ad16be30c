//! At every endpoint the model that routes read is the one that is renamed and the one that is
//! recorded.

use std::sync::mpsc;

use serde_json::Value;
use streamgauge::llm::provider::Endpoint;

use crate::harness::{Proxy, Request, proxy, sized, upstream};

/// A proxy with an alias whose upstream passes on what arrives.
fn watched(tables: &str) -> (Proxy, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send(sized("200 OK", "application/json", b"{}"));
        }
    });
    let tables = format!(
        "models = {{ \"alias\" = \"real\" }}\n{}",
        tables.replace("UPSTREAM", &up.address.to_string())
    );
    (proxy().upstream(&up).tables(&tables).run(), requests)
}

const BODY: &str = "{\"model\":\"MODEL\",\"session\":{\"type\":\"realtime\",\"model\":\"SESSION\"}}";

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn model_read_by_routes_is_renamed_and_recorded_everywhere() {
    let routes = "[upstreams.rest]\nprovider = \"other\"\nurl = \"http://UPSTREAM/rest\"\napi_key = \"none\"\ndefault_model = \"m\"\n\
                  [[routes]]\nmodel = \"alias\"\nupstream = \"up\"\n[[routes]]\nupstream = \"rest\"";
    let (by_model, requests) = watched(routes);
    let (plain, plain_requests) = watched("");
    let mut count = 0;
    let paths = Endpoint::paths().map(|pattern| pattern.replace("**", "a/b").replace('*', "id_1"));
    for path in paths.chain(["unheard/of".to_owned()]) {
        let path = format!("/v1/{path}");
        let in_session = path.ends_with("/client_secrets");
        let named = |model: &str| match in_session {
            true => BODY.replace("MODEL", "alias").replace("SESSION", model),
            false => BODY.replace("MODEL", model).replace("SESSION", "alias"),
        };
        let response = by_model.client().post(&path, &named("alias")).response();
        assert_eq!(response.status(), 200, "{path}: {}", response.text());
        let request = requests.recv().unwrap();
        assert!(
            request.line().starts_with("POST /v1/"),
            "{path} must be routed by its model: {}",
            request.line()
        );
        assert_eq!(String::from_utf8_lossy(&request.body), named("real"), "{path}");
        assert_eq!(by_model.record()["model_requested"], "alias", "{path}");

        // Without a route that needs it, it is read or not, in either case for all purposes.
        plain.client().post(&path, &named("alias")).response();
        let is_renamed = plain_requests.recv().unwrap().body == named("real").as_bytes();
        let recorded = plain.record()["model_requested"].clone();
        assert_eq!(recorded, if is_renamed { Value::from("alias") } else { Value::Null }, "{path}");
        count += usize::from(is_renamed);
    }
    assert!(count >= 20, "{count} endpoints name a model");
}

#[test]
fn endpoints_whose_model_has_no_default_get_none() {
    let (proxy, requests) = watched("");
    for path in [
        "threads/runs",
        "threads/t/runs",
        "fine_tuning/jobs",
        "assistants/a",
        "realtime/sessions",
        "realtime/client_secrets",
    ] {
        let body = "{\"x\":1,\"session\":{}}";
        proxy.client().post(&format!("/v1/{path}"), body).response();
        assert_eq!(String::from_utf8_lossy(&requests.recv().unwrap().body), body, "{path}");
    }
    proxy.client().post("/v1/fim/completions", "{}").response();
    assert_eq!(String::from_utf8_lossy(&requests.recv().unwrap().body), "{\"model\":\"default-model\"}");
}

#[test]
fn aliases_apply_on_azure_paths_except_to_deployment_names() {
    let tables = "[upstreams.azure]\nprovider = \"azure\"\nurl = \"http://UPSTREAM\"\napi_key = { value = \"k\" }\n\
                  models = { \"alias\" = \"real\" }\n[[routes]]\nmodel = \"alias\"\nupstream = \"azure\"";
    let (proxy, requests) = watched(tables);
    for (path, model) in [
        ("/openai/v1/chat/completions", "real"),
        ("/openai/responses?api-version=2025-03-01-preview", "real"),
        ("/openai/deployments/d/chat/completions?api-version=2024-10-21", "alias"),
    ] {
        let response = proxy.client().post(path, "{\"model\":\"alias\"}").response();
        assert_eq!(response.status(), 200, "{path}: {}", response.text());
        assert_eq!(
            String::from_utf8_lossy(&requests.recv().unwrap().body),
            format!("{{\"model\":\"{model}\"}}"),
            "{path}"
        );
        assert_eq!(proxy.record()["model_requested"], "alias", "{path}");
    }
}

#[test]
fn json_at_endpoints_that_take_forms_is_renamed() {
    let (proxy, requests) = watched("");
    for path in ["/v1/images/edits", "/v1/videos", "/v1/audio/transcriptions"] {
        for content_type in
            ["content-type: application/json\r\n", "content-type: application/x-www-form-urlencoded\r\n", ""]
        {
            let body = "{\"model\":\"alias\"}";
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\n{content_type}content-length: {}\r\n\r\n",
                body.len()
            );
            assert_eq!(proxy.client().send(head + body).response().status(), 200);
            assert_eq!(
                String::from_utf8_lossy(&requests.recv().unwrap().body),
                "{\"model\":\"real\"}",
                "{path} {content_type}"
            );
            assert_eq!(proxy.record()["model_requested"], "alias");
        }
        // Raw sound is not JSON, and is not buffered.
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: audio/wav\r\ncontent-length: 4\r\n\r\nRIFF"
        );
        proxy.client().send(head).response();
        assert_eq!(requests.recv().unwrap().body, b"RIFF");
        assert!(proxy.record()["model_requested"].is_null());
    }
}
