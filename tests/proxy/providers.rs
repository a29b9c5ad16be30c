//! DESIGN.md section 3.3: the destination of a request, and its credentials.

use std::sync::mpsc;

use crate::harness::{CHAT_BODY, CHAT_REQUEST, Proxy, Request, proxy, sized, upstream};

fn tables(address: std::net::SocketAddr) -> String {
    format!(
        r#"
        [upstreams.openai]
        provider = "openai"
        url = "http://{address}/v1"
        api_key = {{ value = "sk-openai" }}
        organization = "org-1"
        project = "proj-1"
        [upstreams.dated]
        provider = "azure"
        url = "http://{address}"
        api_version = "2024-10-21"
        api_key = {{ value = "azure-key" }}
        deployments = {{ "gpt-4o" = "my-gpt4o" }}
        [upstreams.v1]
        provider = "azure"
        url = "http://{address}"
        api_key = {{ value = "azure-key" }}
        [upstreams.llama]
        provider = "other"
        url = "http://{address}/api/v1"
        api_key = "none"
        default_model = "llama-default"
        [[routes]]
        path = "/dated"
        upstream = "dated"
        [[routes]]
        path = "/azure"
        upstream = "v1"
        [[routes]]
        model = "llama*"
        upstream = "llama"
        [[routes]]
        upstream = "openai"
        "#
    )
}

fn watched() -> (Proxy, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
    });
    (proxy().tables(&tables(up.address)).run(), requests)
}

#[test]
fn each_provider_gets_its_url_and_its_credentials() {
    let (proxy, requests) = watched();
    for (path, body, line, credential) in [
        (
            "/v1/chat/completions?x=1",
            CHAT_REQUEST,
            "POST /v1/chat/completions?x=1 HTTP/1.1",
            ("authorization", "Bearer sk-openai"),
        ),
        (
            "/dated/v1/chat/completions",
            "{\"model\":\"gpt-4o\"}",
            "POST /openai/deployments/my-gpt4o/chat/completions?api-version=2024-10-21 HTTP/1.1",
            ("api-key", "azure-key"),
        ),
        (
            "/dated/v1/embeddings",
            "{\"model\":\"emb 3\"}",
            "POST /openai/deployments/emb%203/embeddings?api-version=2024-10-21 HTTP/1.1",
            ("api-key", "azure-key"),
        ),
        (
            "/dated/v1/responses",
            "{\"model\":\"gpt-4o\"}",
            "POST /openai/responses?api-version=2024-10-21 HTTP/1.1",
            ("api-key", "azure-key"),
        ),
        (
            "/azure/v1/chat/completions",
            CHAT_REQUEST,
            "POST /openai/v1/chat/completions HTTP/1.1",
            ("api-key", "azure-key"),
        ),
        (
            "/azure/openai/deployments/d/chat/completions?api-version=2024-02-01",
            "{}",
            "POST /openai/deployments/d/chat/completions?api-version=2024-02-01 HTTP/1.1",
            ("api-key", "azure-key"),
        ),
        (
            "/v1/chat/completions",
            "{\"model\":\"llama-3\"}",
            "POST /api/v1/chat/completions HTTP/1.1",
            ("x-none", ""),
        ),
    ] {
        let response = proxy.client().post(path, body).response();
        assert_eq!(response.status(), 200, "{path}: {}", response.text());
        let request = requests.recv().unwrap();
        assert_eq!(request.line(), line);
        let (name, value) = credential;
        assert_eq!(request.header(name).unwrap_or_default(), value);
        if name != "authorization" {
            assert_eq!(request.header("authorization"), None, "{path}");
        }
        if name == "authorization" {
            assert_eq!(request.header("openai-organization"), Some("org-1"));
            assert_eq!(request.header("openai-project"), Some("proj-1"));
        }
    }
}

#[test]
fn records_name_upstream_provider_and_endpoint() {
    let (proxy, _requests) = watched();
    for (path, upstream, provider, endpoint) in [
        ("/v1/chat/completions", "openai", "openai", "chat/completions"),
        ("/dated/v1/embeddings", "dated", "azure", "embeddings"),
        ("/azure/openai/deployments/d/completions", "v1", "azure", "completions"),
        ("/v1/threads/t_1/runs", "openai", "openai", "threads/runs"),
    ] {
        proxy.client().post(path, CHAT_REQUEST).response();
        let record = proxy.record();
        assert_eq!(record["upstream"], upstream);
        assert_eq!(record["provider"], provider);
        assert_eq!(record["endpoint"], endpoint);
    }
}

#[test]
fn model_that_decides_must_be_there_once() {
    let (proxy, _requests) = watched();
    for (path, body, code) in [
        ("/dated/v1/chat/completions", "{}", "model_required"),
        ("/dated/v1/chat/completions", "not json", "model_required"),
        ("/dated/v1/chat/completions", "{\"model\":\"a\",\"model\":\"b\"}", "model_ambiguous"),
        ("/v1/chat/completions", "{\"model\":\"llama-1\",\"model\":\"gpt\"}", "model_ambiguous"),
    ] {
        let response = proxy.client().post(path, body).response();
        assert_eq!(response.status(), 400, "{path} {body}");
        assert_eq!(response.error()["code"], code);
        assert_eq!(response.error()["param"], "model");
    }
}

#[test]
fn no_route_is_an_error_that_names_path_and_model() {
    let up = crate::harness::Upstream::responding("");
    let proxy = proxy().upstream(&up).tables("[[routes]]\nmodel = \"llama*\"\nupstream = \"up\"").run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.status(), 404);
    let error = response.error();
    assert_eq!(error["code"], "no_route");
    assert!(error["message"].as_str().unwrap().contains("gpt-asked"));
}

#[test]
fn parameters_of_the_upstream_win_over_the_clients() {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request.line().to_owned()).unwrap();
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
    });
    let proxy = proxy()
        .tables(&format!(
            "[upstreams.azure]\nurl = \"http://{}\"\napi_key = {{ value = \"k\" }}\napi_version = \"preview\"\n\
             query = {{ \"tenant\" = {{ value = \"t/1\" }} }}",
            up.address
        ))
        .run();
    for (asked, line) in [
        ("/v1/chat/completions", "/openai/v1/chat/completions?api-version=preview&tenant=t%2F1"),
        (
            "/v1/chat/completions?a=1&TENANT=2&api-version=v1",
            "/openai/v1/chat/completions?a=1&api-version=preview&tenant=t%2F1",
        ),
        (
            "/openai/v1/chat/completions?api-version=v1&t%65nant=2",
            "/openai/v1/chat/completions?api-version=v1&tenant=t%2F1",
        ),
    ] {
        assert_eq!(proxy.client().post(asked, CHAT_REQUEST).response().status(), 200);
        assert_eq!(requests.recv().unwrap(), format!("POST {line} HTTP/1.1"));
    }
}
