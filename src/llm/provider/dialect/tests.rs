use super::*;
use crate::llm::provider::QueryValue;

fn dialect(provider: Provider, url: &str, version: &str) -> Dialect {
    let deployments = [("gpt-4o", "my gpt4o/x"), ("empty", ""), ("up", "..")];
    Dialect::new(
        provider,
        BaseUrl::parse(url).unwrap(),
        ApiVersion::parse(version).unwrap(),
        deployments.map(|(model, deployment)| (model.to_owned(), deployment.to_owned())),
    )
}

fn openai() -> Dialect {
    dialect(Provider::OpenAi, "https://api.openai.com/v1", "v1")
}

fn azure(version: &str) -> Dialect {
    dialect(Provider::Azure, "https://r.openai.azure.com", version)
}

fn inbound(target: &str) -> Inbound<'_> {
    match target.split_once('?') {
        Some((path, query)) => Inbound { path, query: Some(query), is_session: false },
        None => Inbound { path: target, query: None, is_session: false },
    }
}

/// The outbound target without a model, which only a deployment URL needs.
fn target(dialect: &Dialect, of: &str) -> Result<String, TargetError> {
    dialect.target(&inbound(of), None)
}

#[test]
fn a_plain_upstream_gets_the_rest_behind_its_url() {
    for (from, to) in [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/models/meta%2fllama?x=%20&&y", "/v1/models/meta%2fllama?x=%20&&y"),
        ("/v1/unheard-of/", "/v1/unheard-of/"),
        ("/v1/", "/v1/"),
        ("/v1/models?", "/v1/models?"),
        ("/v1/models?api-version=1", "/v1/models?api-version=1"),
    ] {
        assert_eq!(target(&openai(), from).unwrap(), to);
    }
    let other = dialect(Provider::Other, "http://llm.internal/", "v1");
    assert_eq!(target(&other, "/v1/chat/completions").unwrap(), "/chat/completions");
}

#[test]
fn azure_v1_gets_the_rest_below_openai_v1() {
    assert_eq!(
        target(&azure("v1"), "/v1/responses/r_1?api-version=preview").unwrap(),
        "/openai/v1/responses/r_1?api-version=preview"
    );
    let behind_a_gateway = dialect(Provider::Azure, "https://apim.example/llm/", "v1");
    assert_eq!(target(&behind_a_gateway, "/v1/models").unwrap(), "/llm/openai/v1/models");
}

#[test]
fn named_version_of_azure_v1_stands_in_the_query() {
    for version in ["preview", "latest"] {
        for (from, to) in [
            ("/v1/responses", "/openai/v1/responses?api-version="),
            ("/v1/models?limit=2&API-Version=v1&x", "/openai/v1/models?limit=2&x&api-version="),
        ] {
            assert_eq!(target(&azure(version), from).unwrap(), format!("{to}{version}"));
        }
        // An Azure SDK sends the version itself.
        let own = "/openai/v1/models?api-version=v1";
        assert_eq!(target(&azure(version), own).unwrap(), own);
    }
}

#[test]
fn parameters_of_the_upstream_are_on_every_target() {
    let query = || FixedQuery::new([("tenant".to_owned(), QueryValue::Plain("t 1".to_owned()))]);
    for (dialect, from, to) in [
        (openai(), "/v1/models?tenant=2", "/v1/models?tenant=t%201"),
        (azure("v1"), "/openai/v1/models?x=1", "/openai/v1/models?x=1&tenant=t%201"),
        (azure("2024-10-21"), "/v1/models", "/openai/models?api-version=2024-10-21&tenant=t%201"),
    ] {
        assert_eq!(target(&dialect.with_query(query()), from).unwrap(), to);
    }
}

#[test]
fn a_dated_azure_gets_the_deployment_of_the_model() {
    let azure = azure("2024-10-21");
    for (from, model, to) in [
        (
            "/v1/chat/completions",
            "gpt-4.1",
            "/openai/deployments/gpt-4.1/chat/completions?api-version=2024-10-21",
        ),
        ("/v1/embeddings?x=1", "e", "/openai/deployments/e/embeddings?x=1&api-version=2024-10-21"),
        (
            "/v1/audio/speech",
            "gpt-4o",
            "/openai/deployments/my%20gpt4o%2Fx/audio/speech?api-version=2024-10-21",
        ),
    ] {
        assert_eq!(azure.target(&inbound(from), Some(model)).unwrap(), to);
    }
}

#[test]
fn a_dated_azure_without_a_deployment_form_needs_no_model() {
    let azure = azure("2024-10-21");
    for (from, to) in [
        ("/v1/responses", "/openai/responses?api-version=2024-10-21"),
        ("/v1/files?purpose=batch", "/openai/files?purpose=batch&api-version=2024-10-21"),
        ("/v1/models/x", "/openai/models/x?api-version=2024-10-21"),
        ("/v1/unheard-of", "/openai/unheard-of?api-version=2024-10-21"),
    ] {
        assert!(!azure.needs_model(&inbound(from)), "{from}");
        assert_eq!(target(&azure, from).unwrap(), to);
    }
}

#[test]
fn the_configured_version_wins_over_the_clients() {
    let azure = azure("2024-10-21");
    for query in ["api-version=2023-05-15", "API%2Dversion=x&api-version=y", "api-version", ""] {
        let inbound = Inbound { path: "/v1/models", query: Some(query), is_session: false };
        assert_eq!(azure.target(&inbound, None).unwrap(), "/openai/models?api-version=2024-10-21", "{query}");
    }
    assert_eq!(
        target(&azure, "/v1/models?a&api-version=x&&b=%2f").unwrap(),
        "/openai/models?a&&b=%2f&api-version=2024-10-21"
    );
}

#[test]
fn an_azure_sdks_path_passes_as_it_is() {
    for version in ["v1", "2024-10-21"] {
        for same in [
            "/openai/deployments/a%20b/chat/completions?api-version=2023-05-15",
            "/openai/v1/responses",
            "/openai/models",
        ] {
            assert!(!azure(version).needs_model(&inbound(same)));
            assert_eq!(target(&azure(version), same).unwrap(), same);
        }
    }
}

#[test]
fn only_azure_deployment_urls_need_the_model() {
    let chat = inbound("/v1/chat/completions");
    assert!(azure("2024-10-21").needs_model(&chat));
    assert!(!azure("v1").needs_model(&chat));
    assert!(!openai().needs_model(&chat));
    for none in [None, Some(""), Some("empty")] {
        assert_eq!(azure("2024-10-21").target(&chat, none), Err(TargetError::ModelRequired), "{none:?}");
    }
}

#[test]
fn the_body_bears_the_deployment_where_the_url_does_not() {
    let (chat, responses) = (inbound("/v1/chat/completions"), inbound("/v1/responses"));
    assert_eq!(azure("v1").body_model(&chat, "gpt-4o"), "my gpt4o/x");
    assert_eq!(azure("2024-10-21").body_model(&responses, "gpt-4o"), "my gpt4o/x");
    assert_eq!(azure("2024-10-21").body_model(&chat, "gpt-4o"), "gpt-4o");
    assert_eq!(azure("v1").body_model(&inbound("/openai/v1/responses"), "gpt-4o"), "gpt-4o");
    assert_eq!(openai().body_model(&chat, "gpt-4o"), "gpt-4o", "only Azure has deployments");
}

#[test]
fn paths_of_another_dialect_are_unknown() {
    for path in [
        "/",
        "/v1",
        "/v2/models",
        "/chat/completions",
        "/openai/deployments/x/chat/completions",
        "/v1x/models",
    ] {
        assert_eq!(target(&openai(), path), Err(TargetError::UnknownPath), "{path}");
    }
    for path in ["/openai", "/openaix/models", "/deployments/x"] {
        assert_eq!(target(&azure("2024-10-21"), path), Err(TargetError::UnknownPath), "{path}");
    }
}

#[test]
fn nothing_leaves_the_upstreams_own_path() {
    for dialect in [openai(), azure("v1"), azure("2024-10-21")] {
        for path in [
            "/v1/../admin",
            "/v1/%2e%2E/admin",
            "/v1//x",
            "/openai/..%2fx",
            "/v1/a\\b",
            "/v1/a b",
            "",
            "v1/x",
        ] {
            assert_eq!(target(&dialect, path), Err(TargetError::UnsafePath), "{path:?}");
        }
        let split = Inbound { path: "/v1/models", query: Some("a b"), is_session: false };
        assert_eq!(dialect.target(&split, None), Err(TargetError::UnsafePath), "a space ends the target");
    }
}

#[test]
fn a_model_cannot_leave_the_deployments() {
    let azure = azure("2024-10-21");
    for model in ["..", ".", "up", "../x", "a/../b", "a//b", "a/", "/a", "a\r\nb", "a\\b", "..;x"] {
        assert_eq!(
            azure.target(&inbound("/v1/embeddings"), Some(model)),
            Err(TargetError::UnsafePath),
            "{model:?}"
        );
    }
}

#[test]
fn azure_s_old_versions_are_known_to_refuse_stream_options() {
    let refuses = |dialect: &Dialect, of: &str| dialect.refuses_stream_options(&inbound(of));
    assert!(refuses(&azure("2024-02-01"), "/v1/chat/completions"));
    assert!(
        !refuses(&azure("2024-10-21"), "/v1/chat/completions?api-version=2024-02-01"),
        "its own version wins"
    );
    for version in ["2024-02-01", "2024-10-21", "v1"] {
        let path = "/openai/deployments/d/chat/completions";
        assert!(refuses(&azure(version), &format!("{path}?x=1&API-Version=2024-05-01-preview")));
        assert!(!refuses(&azure(version), &format!("{path}?api-version=2024-10-21")));
        assert!(!refuses(&azure(version), path));
    }
    assert!(!refuses(&openai(), "/v1/chat/completions?api-version=2024-02-01"));
}

#[test]
fn realtime_session_query_has_the_upstreams_name_of_the_model() {
    let to =
        |dialect: &Dialect, from: &str, model: &str| dialect.target(&inbound(from), Some(model)).unwrap();
    let from = "/v1/realtime?x=%20&model=gpt-4o&y";
    assert_eq!(to(&openai(), from, "gpt-4o"), from, "nothing to change");
    assert_eq!(to(&openai(), from, "a b"), "/v1/realtime?model=a%20b&x=%20&y", "an alias");
    assert_eq!(to(&azure("v1"), from, "gpt-4o"), "/openai/v1/realtime?model=my%20gpt4o%2Fx&x=%20&y");
    assert_eq!(
        to(&azure("2024-10-01-preview"), from, "gpt-4o"),
        "/openai/realtime?deployment=my%20gpt4o%2Fx&x=%20&y&api-version=2024-10-01-preview"
    );
    let named = "/v1/realtime?deployment=d";
    assert_eq!(to(&azure("2024-10-21"), named, "d"), "/openai/realtime?deployment=d&api-version=2024-10-21");
    for without in ["/v1/realtime?intent=transcription", "/v1/realtime"] {
        assert_eq!(to(&openai(), without, "default"), without);
    }
    let own = "/openai/realtime?api-version=1&deployment=d";
    assert_eq!(to(&azure("v1"), own, "d"), own, "an Azure SDK's own path");
    assert_eq!(to(&azure("v1"), own, "m"), "/openai/realtime?deployment=m&api-version=1", "an alias");
    assert_eq!(to(&azure("v1"), "/openai/v1/realtime?model=d", "gpt-4o"), "/openai/v1/realtime?model=gpt-4o");
    assert_eq!(to(&azure("v1"), "/openai/realtime?x", "default"), "/openai/realtime?x");
    let twice = "/v1/realtime?model=a&x&model=b";
    assert_eq!(to(&openai(), twice, "a"), "/v1/realtime?model=a&x", "readers must not differ");
    assert_eq!(
        super::super::query_model("/azure/v1/realtime", Some("x&model=a%2Fb"), false).as_deref(),
        Some("a/b")
    );
    assert_eq!(
        super::super::query_model("/openai/realtime", Some("deployment=d"), false).as_deref(),
        Some("d")
    );
    assert_eq!(super::super::query_model("/v1/models", Some("model=m"), false), None);
}

#[test]
fn path_of_the_proxys_own_is_of_the_api_or_below_the_url() {
    for (dialect, path, target) in [
        (openai(), "/v1/models", "/v1/models"),
        (openai(), "/health", "/v1/health"),
        (dialect(Provider::Other, "http://llm.internal/", "v1"), "/health", "/health"),
        (azure("2024-10-21"), "/v1/models", "/openai/models?api-version=2024-10-21"),
        (azure("v1"), "/openai/v1/models", "/openai/v1/models"),
    ] {
        assert_eq!(dialect.target_below(path).unwrap(), target, "{path}");
    }
    assert_eq!(openai().target_below("/a/../b"), Err(TargetError::UnsafePath));
}

#[test]
fn model_in_the_path_is_read_and_renamed() {
    use super::super::{path_model, renamed_path};
    let (get, delete, post) = (http::Method::GET, http::Method::DELETE, http::Method::POST);
    for (path, model) in [
        ("/v1/models/gpt-4o", Some("gpt-4o")),
        ("/azure/v1/models/gpt%2D4o/", Some("gpt-4o")),
        ("/v1/models/meta/llama%2f3", Some("meta/llama/3")),
        ("/openai/models/d", Some("d")),
        ("/openai/v1/models/d", Some("d")),
        ("/v1/models/", None),
        ("/v1/models", None),
        ("/v1beta/models/gemini", None),
        ("/v1/models/%ff", None),
    ] {
        assert_eq!(path_model(&get, path, false).as_deref(), model, "{path}");
        assert_eq!(path_model(&delete, path, false).as_deref(), model, "{path}");
        assert_eq!((path_model(&post, path, false), renamed_path(&post, path, "x")), (None, None), "{path}");
        assert_eq!(model.and_then(|model| renamed_path(&get, path, model)), None, "{path}");
    }
    let renamed = |path| renamed_path(&get, path, "org/real 1").unwrap();
    assert_eq!(renamed("/a/v1/models/fast"), "/a/v1/models/org/real%201");
    assert_eq!(renamed("/v1/models/x%2Fy/"), "/v1/models/org/real%201/");
    assert_eq!(renamed_path(&get, "/v1/chat/completions", "m"), None);
}

#[test]
fn a_session_of_responses_may_name_its_model_in_the_query() {
    let to = |dialect: &Dialect, from: &str, model: &str| {
        dialect.target(&Inbound { is_session: true, ..inbound(from) }, Some(model)).unwrap()
    };
    let from = "/v1/responses?x=1&model=gpt-4o";
    assert_eq!(to(&openai(), from, "gpt-4o"), from);
    assert_eq!(to(&openai(), from, "real"), "/v1/responses?model=real&x=1", "an alias");
    assert_eq!(to(&openai(), "/v1/responses", "default"), "/v1/responses");
    assert_eq!(to(&azure("v1"), from, "gpt-4o"), "/openai/v1/responses?model=my%20gpt4o%2Fx&x=1");
    let dated = "/openai/responses?model=my%20gpt4o%2Fx&x=1&api-version=2025-04-01-preview";
    assert_eq!(to(&azure("2025-04-01-preview"), from, "gpt-4o"), dated);
    assert_eq!(openai().target(&inbound(from), Some("real")).unwrap(), from, "no session");
    let query = Some("model=m");
    assert_eq!(super::super::query_model("/azure/openai/v1/responses", query, true).as_deref(), Some("m"));
    assert_eq!(super::super::query_model("/v1/responses", query, false), None);
    assert_eq!(super::super::query_model("/v1/responses/r", query, true), None);
}
