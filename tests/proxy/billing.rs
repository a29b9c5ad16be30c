//! Billing data besides tokens: the record has it for every form of response.

use serde_json::{Value, json};

use crate::harness::{EVENTS_HEAD, LAST_CHUNK, Upstream, chunk, proxy, sized};

/// The record of a request with this response.
fn record(path: &str, response: Vec<u8>) -> Value {
    let up = Upstream::responding(response);
    let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
    proxy.client().post(path, r#"{"model":"m","stream":true}"#).response();
    proxy.record()
}

fn body(path: &str, body: &str) -> Value {
    record(path, sized("200 OK", "application/json", body.as_bytes()))
}

/// Events with their names, in pieces that do not match line ends.
fn events(path: &str, events: &[(&str, &str)]) -> Value {
    let text: String = events
        .iter()
        .map(|(name, rest)| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n"))
        .collect();
    let pieces: Vec<u8> = text.as_bytes().chunks(53).flat_map(chunk).collect();
    record(path, [EVENTS_HEAD.as_bytes(), &pieces, LAST_CHUNK.as_bytes()].concat())
}

fn chunks(path: &str, payloads: &[&str]) -> Value {
    let text: String = payloads.iter().map(|payload| format!("data: {payload}\n\n")).collect();
    let pieces: Vec<u8> = text.as_bytes().chunks(53).flat_map(chunk).collect();
    record(path, [EVENTS_HEAD.as_bytes(), &pieces, LAST_CHUNK.as_bytes()].concat())
}

#[test]
fn cache_writes_of_one_hour_are_recorded_beside_all() {
    let usage = r#""usage":{"input_tokens":5,"cache_creation_input_tokens":700,"cache_creation":{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":500},"output_tokens":1,"service_tier":"priority""#;
    let found = body("/v1/messages", &format!("{{\"type\":\"message\",\"model\":\"claude\",{usage}}}}}"));
    assert_eq!(
        (&found["cache_write_input_tokens"], &found["cache_write_1h_input_tokens"]),
        (&json!(700), &json!(500))
    );
    assert_eq!(found["service_tier"], "priority");
    let start = format!(r#","message":{{"model":"claude",{usage}}}}}"#);
    let found = events(
        "/v1/messages",
        &[
            ("message_start", &start),
            ("content_block_delta", r#","delta":{"type":"text_delta","text":"Hi"}"#),
            (
                "message_delta",
                r#","usage":{"output_tokens":9,"server_tool_use":{"web_search_requests":2,"web_fetch_requests":1}}"#,
            ),
            ("message_stop", ""),
        ],
    );
    assert_eq!((&found["output_tokens"], &found["cache_write_1h_input_tokens"]), (&json!(9), &json!(500)));
    assert_eq!(found["service_tier"], "priority");
    assert_eq!(found["tool_calls"], json!({"web_search": 2, "web_fetch": 1}));
}

#[test]
fn service_tier_is_the_one_beside_the_usage() {
    let found = body(
        "/v1/chat/completions",
        r#"{"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2},"service_tier":"flex"}"#,
    );
    assert_eq!(found["service_tier"], "flex");
    let found = chunks(
        "/v1/chat/completions",
        &[
            r#"{"model":"m","service_tier":"auto","choices":[{"delta":{"content":"Hi"}}]}"#,
            r#"{"model":"m","service_tier":"auto","choices":[{"delta":{"content":" you"}}]}"#,
            r#"{"model":"m","service_tier":"priority","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
            "[DONE]",
        ],
    );
    assert_eq!(found["service_tier"], "priority");
    let found = events(
        "/v1/responses",
        &[
            ("response.created", r#","response":{"model":"m","service_tier":"auto","usage":null}"#),
            ("response.output_text.delta", r#","delta":"Hi""#),
            (
                "response.completed",
                r#","response":{"service_tier":"default","usage":{"input_tokens":1,"output_tokens":2}}"#,
            ),
        ],
    );
    assert_eq!(found["service_tier"], "default");
    let found = body("/v1/chat/completions", r#"{"model":"m","choices":[],"usage":{"prompt_tokens":1}}"#);
    assert!(found["service_tier"].is_null(), "{found}");
}

const ITEMS: &str = r#"{"type":"reasoning"},{"type":"web_search_call","action":{"type":"search","query":"x"}},{"action":{"type":"open_page"},"type":"web_search_call"},{"type":"web_search_call"},{"type":"file_search_call"},{"type":"code_interpreter_call"},{"type":"image_generation_call"},{"type":"mcp_call"},{"type":"function_call","name":"web_search_call","arguments":"{}"},{"type":"message","content":[{"type":"output_text","text":"web_search_call"}]}"#;

#[test]
fn billed_calls_of_a_response_are_counted_once() {
    let expected = json!({"web_search": 2, "file_search": 1, "code_interpreter": 1});
    let usage = r#""usage":{"input_tokens":1,"output_tokens":2}"#;
    let found =
        body("/v1/responses", &format!(r#"{{"object":"response","model":"m","output":[{ITEMS}],{usage}}}"#));
    assert_eq!(found["tool_calls"], expected);
    // A stream has them twice; some services omit one of them.
    let items: Vec<String> = serde_json::from_str::<Vec<Value>>(&format!("[{ITEMS}]"))
        .unwrap()
        .iter()
        .map(|item| format!(",\"item\":{item}"))
        .collect();
    for (has_done, listed) in [(true, ITEMS), (true, ""), (false, ITEMS)] {
        let last = format!(r#","response":{{"output":[{listed}],{usage}}}"#);
        let mut all = vec![
            ("response.created", r#","response":{"model":"m","output":[]}"#),
            ("response.output_text.delta", r#","delta":"Hi""#),
        ];
        for item in items.iter().filter(|_| has_done) {
            all.push(("response.output_item.added", item));
            all.push(("response.output_item.done", item));
        }
        all.push(("response.completed", &last));
        let found = events("/v1/responses", &all);
        assert_eq!(found["tool_calls"], expected, "{has_done} {listed}");
        assert_eq!(found["output_tokens"], 2);
    }
}

#[test]
fn calls_that_the_service_counts_go_before_items() {
    let found = body(
        "/v1/responses",
        &format!(
            r#"{{"model":"m","output":[{ITEMS}],"tool_usage":{{"web_search":{{"num_requests":7}}}},"usage":{{"input_tokens":1,"output_tokens":2}}}}"#
        ),
    );
    assert_eq!(found["tool_calls"], json!({"web_search": 7, "file_search": 1, "code_interpreter": 1}));
    let found = body(
        "/v1/chat/completions",
        r#"{"model":"m","choices":[{"message":{"content":"x","tool_calls":[{"type":"function"}]}}],"usage":{"prompt_tokens":1,"completion_tokens":2,"num_sources_used":4}}"#,
    );
    assert_eq!(found["tool_calls"], json!({"sources": 4}));
    let found = body(
        "/v1/chat/completions",
        r#"{"model":"m","choices":[],"usage":{"prompt_tokens":1,"server_tool_use":{"web_search_requests":0}}}"#,
    );
    assert!(found["tool_calls"].is_null(), "{found}");
}

#[test]
fn reported_cost_has_the_digits_of_the_service() {
    for (cost, expected) in [
        (r#""cost":0.0002444,"cost_details":{"upstream_inference_cost":0.1}"#, "0.0002444"),
        (r#""cost":{"input_tokens_cost":1e-05,"total_cost":2.80e-08}"#, "2.80e-08"),
        (r#""cost_in_usd_ticks":3530500"#, "0.00035305"),
    ] {
        let usage = format!(r#""usage":{{"prompt_tokens":1,"completion_tokens":2,{cost}}}"#);
        let found = body("/v1/chat/completions", &format!(r#"{{"model":"m","choices":[],{usage}}}"#));
        assert_eq!(found["reported_cost"], expected);
        let last = format!(r#"{{"choices":[{{"delta":{{"content":""}}}}],{usage}}}"#);
        let first = r#"{"model":"m","choices":[{"delta":{"content":"Hi"}}]}"#;
        let found = chunks("/v1/chat/completions", &[first, &last, "[DONE]"]);
        assert_eq!(found["reported_cost"], expected);
    }
}
