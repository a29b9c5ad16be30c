//! Promise 3: every request has exactly one usage record. Promise 2: a failure of metering costs a
//! number at most, never a byte.

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, EVENTS_HEAD, LAST_CHUNK, Upstream, chunk, proxy, sized, upstream,
};

#[test]
fn a_record_has_all_the_fields_and_null_for_what_is_not_known() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let proxy = proxy().upstream(&up).run();
    let body = "{\"model\":\"m\",\"user\":\"u-1\",\"safety_identifier\":\"s-1\"}";
    proxy.client().post("/v1/chat/completions", body).response();
    let record = proxy.record();
    let fields: Vec<_> = record.as_object().unwrap().keys().cloned().collect();
    let mut expected = [
        "id",
        "started_at",
        "client",
        "user",
        "upstream",
        "provider",
        "method",
        "endpoint",
        "model_requested",
        "model",
        "stream",
        "status",
        "outcome",
        "usage_source",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cached_input_tokens",
        "cache_write_input_tokens",
        "cache_write_1h_input_tokens",
        "reasoning_tokens",
        "input_audio_tokens",
        "output_audio_tokens",
        "billed_seconds",
        "events",
        "request_bytes",
        "response_bytes",
        "time_to_first_byte_ms",
        "time_to_first_token_ms",
        "time_to_first_event_ms",
        "time_to_last_event_ms",
        "time_to_disconnect_ms",
        "duration_ms",
        "upstream_request_id",
        "error",
        "count",
        "service_tier",
        "tool_calls",
        "reported_cost",
        "group",
        "key_id",
        "tags",
        "time_waiting_ms",
        "attempts",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected, "DESIGN.md section 3.4");
    assert_eq!(record["user"], "s-1");
    assert_eq!(record["stream"], false);
    assert_eq!(record["request_bytes"], body.len());
    assert_eq!(record["input_tokens"], 9);
    for unknown in [
        "cached_input_tokens",
        "billed_seconds",
        "events",
        "time_to_first_token_ms",
        "time_to_disconnect_ms",
        "error",
        "count",
    ] {
        assert!(record[unknown].is_null(), "{unknown}: {}", record[unknown]);
    }
}

#[test]
fn error_inside_a_stream_is_the_upstreams_and_keeps_the_usage() {
    let stream = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"error\"}],\"error\":{\"message\":\"the provider went away\"},\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\ndata: [DONE]\n\n";
    let up = Upstream::responding(
        [EVENTS_HEAD.as_bytes(), &chunk(stream.as_bytes()), LAST_CHUNK.as_bytes()].concat(),
    );
    let proxy = proxy().upstream(&up).run();
    assert_eq!(proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response().text(), stream);
    let record = proxy.record();
    assert_eq!(record["outcome"], "upstream_error");
    assert_eq!(record["error"], "the provider went away");
    assert_eq!(record["usage_source"], "reported");
    assert_eq!(record["total_tokens"], 4);
}

#[test]
fn event_beyond_meter_limit_passes_whole_and_next_is_metered() {
    let huge = format!("data: {{\"text\":\"{}\"}}\n\n", "x".repeat(3 << 20));
    let stream = format!("{huge}{}", crate::harness::CHAT_STREAM);
    let sent = stream.clone();
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        for piece in sent.as_bytes().chunks(50_000) {
            connection.send(chunk(piece));
        }
        connection.send(LAST_CHUNK);
    });
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert!(response.text() == stream, "every byte passes");
    assert_eq!(proxy.record()["total_tokens"], 11);
}

#[test]
fn body_of_many_megabytes_passes_and_usage_at_its_end_is_found() {
    let body = format!(
        "{{\"object\":\"list\",\"data\":[{{\"embedding\":[{}0.5]}}],\"model\":\"emb\",\"usage\":{{\"prompt_tokens\":8,\"total_tokens\":8}}}}",
        "0.123456789,".repeat(900_000)
    );
    let up = Upstream::responding(sized("200 OK", "application/json", body.as_bytes()));
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post("/v1/embeddings", "{\"model\":\"emb\"}").response();
    assert!(response.text() == body);
    let record = proxy.record();
    assert_eq!(record["input_tokens"], 8);
    assert!(record["output_tokens"].is_null());
    assert_eq!(record["endpoint"], "embeddings");
}

#[test]
fn text_that_looks_like_usage_is_no_usage() {
    let stream = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":1}\",\"tool\":{\"usage\":{\"prompt_tokens\":1}}}}]}\n\ndata: [DONE]\n\n";
    let up = Upstream::responding(
        [EVENTS_HEAD.as_bytes(), &chunk(stream.as_bytes()), LAST_CHUNK.as_bytes()].concat(),
    );
    let proxy = proxy().upstream(&up).run();
    proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    let record = proxy.record();
    assert_eq!(record["usage_source"], "estimated");
    assert_eq!(record["input_tokens"], 8, "as estimated, and not as the text has it");
}

#[test]
fn compressed_response_passes_unchanged() {
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    let up = Upstream::responding([head.as_bytes(), &bytes].concat());
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.body(), bytes);
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert_eq!(proxy.record()["outcome"], "complete");
}

#[test]
fn the_user_of_anthropics_requests_is_in_their_metadata() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let proxy = proxy().upstream(&up).run();
    for (path, more, user) in [
        ("/v1/messages", r#""metadata":{"user_id":"u-1"}"#, Some("u-1")),
        ("/v1/messages", r#""metadata":{"user_id":"u-1"},"user":"u-2""#, Some("u-2")),
        ("/v1/messages", r#""metadata":{"user_id":null}"#, None),
        // On this endpoint it is any text of the client's own.
        ("/v1/chat/completions", r#""metadata":{"user_id":"u-1"}"#, None),
    ] {
        proxy.client().post(path, &format!("{{\"model\":\"m\",{more}}}")).response();
        assert_eq!(proxy.record()["user"].as_str(), user, "{path} {more}");
    }
}

#[test]
fn deployment_in_an_azure_path_is_the_requested_model() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let azure = format!(
        "[upstreams.az]\nprovider = \"azure\"\nurl = \"http://{}\"\napi_key = {{ value = \"k\" }}\napi_version = \"2024-10-21\"\n\
         deployments = {{ \"gpt-4o\" = \"my-gpt\", \"gpt-4o-2024-08-06\" = \"my-gpt\" }}\ndefault_model = \"other\"",
        up.address
    );
    let proxy = proxy().tables(&azure).run();
    for (deployment, body, model) in [
        ("my-gpt", r#"{"messages":[]}"#, "gpt-4o"),
        ("my%2Dgpt", r#"{"messages":[]}"#, "gpt-4o"),
        ("emb%203", r#"{"model":null}"#, "emb 3"),
        ("my-gpt", r#"{"model":"said"}"#, "said"),
        ("my-gpt", "", "gpt-4o"),
    ] {
        let path = format!("/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21");
        proxy.client().post(&path, body).response();
        assert_eq!(proxy.record()["model_requested"], model, "{deployment} {body}");
    }
}
