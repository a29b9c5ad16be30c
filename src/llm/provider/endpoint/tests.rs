use super::*;

#[test]
fn ids_are_left_out_of_the_name() {
    for (path, name) in [
        ("/v1/chat/completions", "chat/completions"),
        ("/v1/chat/completions/", "chat/completions"),
        ("/v1/chat/completions/cc_1/messages", "chat/completions/messages"),
        ("/v1/responses", "responses"),
        ("/v1/responses/resp_123", "responses"),
        ("/v1/responses/resp_123/input_items", "responses/input_items"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/images/generations", "images/generations"),
        ("/v1/audio/transcriptions", "audio/transcriptions"),
        ("/v1/models", "models"),
        ("/v1/models/gpt-4o", "models"),
        ("/v1/models/meta-llama/Llama-3", "models"),
        ("/v1/threads/runs", "threads/runs"),
        ("/v1/threads/t_1/runs", "threads/runs"),
        ("/v1/threads/t_1/runs/r_1/steps/s_1", "threads/runs/steps"),
        ("/v1/messages", "messages"),
    ] {
        assert_eq!(Endpoint::of(path).name, name, "{path}");
    }
}

#[test]
fn azures_paths_have_the_same_names() {
    for path in [
        "/openai/deployments/my-gpt4o/chat/completions",
        "/openai/v1/chat/completions",
        "/openai/chat/completions",
    ] {
        assert_eq!(Endpoint::of(path), Endpoint::of("/v1/chat/completions"), "{path}");
    }
    assert_eq!(Endpoint::of("/openai/responses/resp_1").name, "responses");
}

#[test]
fn unlisted_path_is_other() {
    for path in [
        "",
        "/",
        "/v1",
        "/v1/",
        "/v1/secret-of-client-123",
        "/v1/chat/completions/a/b",
        "/v1/Chat/Completions",
        "/v1/responses//cancel",
        "/v2/chat/completions",
        "/chat/completions",
        "/openai/deployments/x",
    ] {
        assert_eq!(Endpoint::of(path), Endpoint::OTHER, "{path}");
    }
}

#[test]
fn a_body_is_looked_into_only_where_its_model_is_the_one_to_ask() {
    for path in ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/moderations", "/v1/messages"]
    {
        assert!(Endpoint::of(path).takes_json_model(), "{path}");
    }
    // A run without a model uses its assistant's.
    for path in
        ["/v1/threads/runs", "/v1/threads/t_1/runs", "/v1/fine_tuning/jobs", "/v1/realtime/client_secrets"]
    {
        let endpoint = Endpoint::of(path);
        assert!(endpoint.takes_json_model() && !endpoint.takes_default_model(), "{path}");
    }
    for path in ["/v1/audio/transcriptions", "/v1/images/edits", "/v1/videos"] {
        let endpoint = Endpoint::of(path);
        assert!(endpoint.takes_form() && !endpoint.takes_json_model(), "{path}");
    }
    for path in ["/v1/responses/resp_1/cancel", "/v1/files", "/v1/unheard-of"] {
        assert!(!Endpoint::of(path).takes_json_model(), "{path}");
    }
}

#[test]
fn deployment_urls_exist_for_what_azures_sdk_sends_to_one() {
    let with_form: Vec<_> = KNOWN
        .iter()
        .filter(|(_, _, body, _)| Endpoint { body: *body, ..Endpoint::OTHER }.has_deployment_form())
        .collect();
    let mut names: Vec<_> = with_form.iter().map(|(_, name, ..)| *name).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "audio/speech",
            "audio/transcriptions",
            "audio/translations",
            "chat/completions",
            "completions",
            "embeddings",
            "images/edits",
            "images/generations"
        ]
    );
}

#[test]
fn a_name_is_its_pattern_without_the_ids() {
    for (pattern, name, ..) in KNOWN {
        let literal: Vec<_> = pattern.split('/').filter(|segment| !segment.starts_with('*')).collect();
        assert_eq!(literal.join("/"), *name);
        assert_eq!(Endpoint::of(&format!("/v1/{}", pattern.replace('*', "x"))).name, *name, "{pattern}");
    }
}

#[test]
fn no_name_has_an_id_and_their_number_is_bounded() {
    let mut names: Vec<_> = KNOWN.iter().map(|(_, name, ..)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() < 256, "{} labels", names.len());
    for name in names {
        let is_literal = |byte: u8| byte.is_ascii_lowercase() || b"/_:".contains(&byte);
        assert!(name.bytes().all(is_literal), "{name}");
    }
}

#[test]
fn no_pattern_hides_a_later_one() {
    for (at, (pattern, ..)) in KNOWN.iter().enumerate() {
        let path = pattern.replace("**", "a/b").replace('*', "id");
        let found = KNOWN.iter().position(|(pattern, ..)| matches(pattern, &path));
        assert_eq!(found, Some(at), "{pattern} is never found");
    }
}

#[test]
fn the_tables_of_the_api_are_known() {
    for (path, name) in [
        ("/v1/organization/projects/proj_1/api_keys/key_1", "organization/projects/api_keys"),
        ("/v1/organization/usage/completions", "organization/usage/completions"),
        ("/v1/organization/certificates/activate", "organization/certificates/activate"),
        ("/v1/skills/skill_1/versions/2/content", "skills/versions/content"),
        ("/v1/chatkit/sessions/cks_1/cancel", "chatkit/sessions/cancel"),
        ("/v1/realtime/calls/rtc_1/hangup", "realtime/calls/hangup"),
        ("/v1/conversations/conv_1/items/msg_1", "conversations/items"),
        ("/v1/containers/cntr_1/files/cfile_1/content", "containers/files/content"),
        ("/v1/vector_stores/vs_1/files/file_1", "vector_stores/files"),
        ("/v1/evals/eval_1/runs/run_1/output_items/item_1", "evals/runs/output_items"),
        ("/v1/evals/eval_1/runs/run_1/cancel", "evals/runs/cancel"),
        ("/v1/uploads/upload_1/complete", "uploads/complete"),
        ("/v1/videos/video_1/remix", "videos/remix"),
        ("/v1/videos/characters/char_1", "videos/characters"),
        ("/v1/fine_tuning/checkpoints/ft:gpt:1/permissions/cp_1", "fine_tuning/checkpoints/permissions"),
        ("/v1/audio/voices", "audio/voices"),
        ("/v1/messages/batches/msgbatch_1/results", "messages/batches/results"),
        ("/openai/images/generations:submit", "images/generations:submit"),
        ("/openai/v1/video/generations/jobs/job_1", "video/generations/jobs"),
    ] {
        assert_eq!(Endpoint::of(path).name, name, "{path}");
    }
}

fn owner(method: &str, path: &str) -> UsageOwner {
    Endpoint::of(path).usage_owner(&method.parse().unwrap(), path, Some(false))
}

fn shows(kind: StoredKind, id: &str) -> UsageOwner {
    UsageOwner::Stored(Stored { kind, id: Some(id.to_owned()), is_known: true })
}

#[test]
fn usage_belongs_to_the_request_that_made_the_result() {
    for path in
        ["/v1/chat/completions", "/v1/messages", "/v1/unheard-of", "/v1/responses", "/v1/conversations"]
    {
        assert_eq!(owner("POST", path), UsageOwner::Own, "{path}");
        assert_eq!(owner("post", path), UsageOwner::Own, "{path}");
        for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
            assert_eq!(owner(method, path), UsageOwner::Others, "{method} {path}");
        }
    }
    for path in [
        "/v1/chat/completions/cc_1",
        "/v1/chat/completions/cc_1/messages",
        "/v1/responses/resp_1/input_items",
        "/v1/threads/t_1/runs/r_1/steps/s_1",
        "/v1/fine_tuning/jobs/j_1",
        "/v1/evals/e_1/runs/r_1",
    ] {
        assert_eq!(owner("GET", path), UsageOwner::Others, "{path}");
        assert_eq!(owner("POST", path), UsageOwner::Others, "{path}");
    }
    for path in ["/v1/files/f_1/content", "/v1/batches", "/v1/messages/batches/b_1/results"] {
        assert_eq!(owner("GET", path), UsageOwner::Unread, "{path}");
        assert_eq!(owner("POST", path), UsageOwner::Unread, "{path}");
    }
}

#[test]
fn a_stored_result_is_known_by_its_id_on_every_path_to_it() {
    for path in [
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/",
        "/v1/responses/resp%5f1",
        "/v1/responses/resp_1/cancel",
        "/openai/responses/resp_1",
        "/openai/v1/responses/resp_1/cancel",
        "/openai/deployments/d/responses/resp_1",
    ] {
        assert_eq!(owner("GET", path), shows(StoredKind::Response, "resp_1"), "{path}");
    }
    for path in [
        "/v1/threads/t_1/runs/r_1",
        "/v1/threads/t_1/runs/r_1/cancel",
        "/openai/threads/t_1/runs/r_1/submit_tool_outputs",
    ] {
        assert_eq!(owner("POST", path), shows(StoredKind::Run, "r_1"), "{path}");
    }
    assert_eq!(owner("GET", "/v1/batches/b_1"), shows(StoredKind::Batch, "b_1"));
    assert_eq!(owner("GET", "/v1/videos/v_1"), shows(StoredKind::Video, "v_1"));
}

#[test]
fn a_result_may_be_made_in_the_background() {
    let made = |path: &str, background| Endpoint::of(path).usage_owner(&Method::POST, path, background);
    let stored = |kind, is_known| UsageOwner::Stored(Stored { kind, id: None, is_known });
    assert_eq!(made("/v1/responses", Some(false)), UsageOwner::Own);
    assert_eq!(made("/v1/responses", Some(true)), stored(StoredKind::Response, true));
    assert_eq!(made("/v1/responses", None), stored(StoredKind::Response, false));
    assert_eq!(made("/v1/threads/t_1/runs", None), stored(StoredKind::Run, true));
    assert_eq!(made("/v1/videos", Some(false)), stored(StoredKind::Video, true));
    assert_eq!(made("/v1/chat/completions", Some(true)), UsageOwner::Own);
}

#[test]
fn the_deployment_of_a_path_is_told() {
    assert_eq!(deployment("/openai/deployments/my%2Dgpt/audio/speech").as_deref(), Some("my-gpt"));
    for path in
        ["/openai/deployments/x", "/openai/deployments//chat", "/v1/chat/completions", "/openai/responses"]
    {
        assert_eq!(deployment(path), None, "{path}");
    }
}

#[test]
fn native_path_names_method_and_model() {
    let post = &Method::POST;
    for (path, name, is_metered) in [
        ("/v1beta/models/gemini-2.5-flash:generateContent", "generateContent", true),
        ("/v1beta/models/gemini-2.5-flash%3AgenerateContent", "generateContent", true),
        ("/v1alpha/models/a%2Fb:streamGenerateContent/", "streamGenerateContent", true),
        ("/v1beta/models/x:countTokens", "countTokens", true),
        ("/v1beta/models/x:embedContent", "embedContent", false),
        ("/v1beta/models/x:unknown", "other", false),
        ("/v1beta/tunedModels/x:generateContent", "generateContent", true),
        ("/v1beta/openai/chat/completions", "chat/completions", true),
        ("/v1beta/models", "models", false),
        ("/v2/rerank", "rerank", true),
        ("/v2/chat", "chat", true),
        ("/v3/chat", "other", false),
    ] {
        let endpoint = Endpoint::of(path);
        assert_eq!(endpoint.name, name, "{path}");
        assert_eq!(endpoint.is_metered(post, path, false), is_metered, "{path}");
    }
    let path = "/v1beta/models/a%2Fb:generateContent";
    let place = Endpoint::of(path).model_place(post, path, false);
    assert_eq!(place, ModelPlace::Path(Some("a/b".to_owned())));
    assert_eq!(path_model(post, "/google/v1beta/models/m:generateContent", true).as_deref(), Some("m"));
    assert_eq!(path_model(post, "/v1beta/models/m%3agenerateContent", true).as_deref(), Some("m"));
    assert_eq!(path_model(&Method::GET, "/v1beta/models/m", true).as_deref(), Some("m"));
    for (path, is_native) in [
        (path, false),
        ("/v1beta/models/m", true),
        ("/v1beta/models/:generateContent", true),
        ("/v1/models/m:generateContent", true),
    ] {
        assert_eq!(path_model(post, path, is_native), None, "{path}");
    }
    let renamed = renamed_path(post, "/v1beta/models/fast:generateContent", "gemini-2.5-flash");
    assert_eq!(renamed.as_deref(), Some("/v1beta/models/gemini-2.5-flash:generateContent"));
    assert_eq!(renamed_path(post, "/v1/chat/completions", "m"), None);
}

#[test]
fn native_request_that_may_use_tokens_names_its_model_or_none() {
    let place = |method: &Method, path: &str| Endpoint::of(path).model_place(method, path, false);
    for (path, model) in [
        ("/v1beta/models/m:embedContent", Some("m")),
        ("/v1beta/models/m:batchGenerateContent", Some("m")),
        ("/v1beta/tunedModels/m:generateContent", Some("tunedModels/m")),
        ("/v1beta/tunedModels/m%3AgenerateContent", Some("tunedModels/m")),
        ("/v1beta/dynamic/a:generateContent", Some("dynamic/a")),
        ("/v1beta/mod%65ls/m:generateContent", Some("models/m")),
        ("/v1beta/cachedContents", None),
        ("/v1alpha/interactions", None),
    ] {
        assert_eq!(place(&Method::POST, path), ModelPlace::Path(model.map(str::to_owned)), "{path}");
        assert_eq!(place(&Method::GET, path), ModelPlace::Nowhere, "{path}");
    }
    assert_eq!(place(&Method::POST, "/v1beta/files"), ModelPlace::Nowhere);
    let in_body = place(&Method::POST, "/v1beta/openai/chat/completions");
    assert_eq!(in_body, ModelPlace::Body { takes_default: false });
    let is_unread = |path: &str| Endpoint::of(path).is_unread(path);
    assert!(is_unread("/v1beta/tunedModels/m:generateContent") && is_unread("/v1alpha/interactions"));
    assert!(!is_unread("/v1beta/models/m:embedContent") && !is_unread("/v1/unknown"));
}

/// The known patterns for which a request with this method is metered, or is not.
fn patterns(method: &Method, is_metered: bool) -> Vec<&'static str> {
    let is_sought = |pattern: &&str| {
        let path = format!("/v1/{}", pattern.replace("**", "a/b").replace('*', "id"));
        Endpoint::of(&path).is_metered(method, &path, false) == is_metered
    };
    Endpoint::paths().filter(is_sought).collect()
}

#[test]
fn request_that_creates_is_metered_if_its_record_has_tokens() {
    let mut metered = patterns(&Method::POST, true);
    metered.sort_unstable();
    assert_eq!(
        metered,
        [
            "assistants",
            "assistants/*",
            "audio/speech",
            "audio/transcriptions",
            "audio/translations",
            "batches/*/cancel",
            "chat",
            "chat/completions",
            "chat/moderations",
            "classify",
            "complete",
            "completions",
            "decisions",
            "detokenize",
            "embed",
            "embeddings",
            "fim/completions",
            "images/edits",
            "images/generations",
            "images/variations",
            "messages",
            "messages/count_tokens",
            "moderations",
            "ocr",
            "pooling",
            "rerank",
            "reranking",
            "responses",
            "responses/*/cancel",
            "responses/compact",
            "responses/input_tokens",
            "score",
            "threads/*/runs/*/cancel",
            "tokenize",
        ]
    );
    // An unknown method may create something.
    assert_eq!(patterns(&"post".parse().unwrap(), true), patterns(&Method::POST, true));
}

#[test]
fn request_that_reads_is_metered_if_its_response_is_read() {
    for method in [Method::GET, Method::DELETE] {
        for pattern in patterns(&method, false) {
            let (.., tokens) = KNOWN.iter().find(|(known, ..)| *known == pattern).unwrap();
            assert!(*tokens == Tokens::Unread || pattern.starts_with("fine_tuning"), "{method} {pattern}");
        }
    }
    assert!(patterns(&Method::GET, true).contains(&"videos/*"));
    assert!(patterns(&Method::GET, false).contains(&"files/*/content"));
}

#[test]
fn session_is_metered_if_its_url_names_the_model() {
    let is_metered = |path: &str| Endpoint::of(path).is_metered(&Method::GET, path, true);
    for path in ["/v1/realtime", "/openai/realtime", "/v1/responses", "/openai/v1/responses/"] {
        assert!(is_metered(path), "{path}");
    }
    for path in ["/v1/models", "/v1/realtime/calls", "/v1/chat/completions", "/v1/unheard-of"] {
        assert!(!is_metered(path), "{path}");
    }
    let deployment = "/openai/deployments/d/";
    for (rest, metered) in [
        ("chat/completions", true),
        ("extensions/chat/completions", true),
        ("conversations", false),
        ("realtime/client_secrets", false),
    ] {
        let path = format!("{deployment}{rest}");
        assert_eq!(Endpoint::of(&path).is_metered(&Method::POST, &path, false), metered, "{path}");
    }
}

#[test]
fn requests_that_create_use_tokens_of_their_own() {
    let uses_tokens = |method: &str, path: &str| Endpoint::of(path).uses_tokens(&method.parse().unwrap());
    for path in ["/v1/chat/completions", "/v1/audio/transcriptions", "/v1/threads/runs", "/v1/unheard-of"] {
        assert!(
            uses_tokens("POST", path) && uses_tokens("post", path) && !uses_tokens("GET", path),
            "{path}"
        );
    }
    for path in ["/v1/moderations", "/v1/files", "/v1/responses/resp_1/cancel", "/v1/responses/input_tokens"]
    {
        assert!(!uses_tokens("POST", path), "{path}");
    }
}

#[test]
fn metadata_names_the_user_only_at_messages() {
    for (path, names) in [
        ("/v1/messages", true),
        ("/v1/messages/count_tokens", true),
        ("/v1/messages/batches", false),
        ("/v1/chat/completions", false),
    ] {
        assert_eq!(Endpoint::of(path).names_user_in_metadata(), names, "{path}");
    }
}
