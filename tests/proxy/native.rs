//! Forms of usage that are not OpenAI's own, and forms that are not known yet.

use serde_json::{Value, json};

use crate::harness::{EVENTS_HEAD, LAST_CHUNK, Upstream, chunk, proxy, sized};

const COUNTS: [&str; 7] = [
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "billed_seconds",
    "usage_source",
];

/// The record of a request with this response, all of which passes.
fn record(path: &str, head: &str, body: &str) -> Value {
    let (response, stream) = match head {
        "text/event-stream" => {
            let pieces: Vec<u8> = body.as_bytes().chunks(47).flat_map(chunk).collect();
            ([EVENTS_HEAD.as_bytes(), &pieces, LAST_CHUNK.as_bytes()].concat(), true)
        }
        _ => (sized("200 OK", head, body.as_bytes()), false),
    };
    let up = Upstream::responding(response);
    let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
    let request = json!({"model": "asked", "stream": stream}).to_string();
    assert_eq!(proxy.client().post(path, &request).response().body(), body.as_bytes());
    proxy.record()
}

fn body(text: &str) -> Value {
    record("/v1/generateContent", "application/json", text)
}

fn events(payloads: &[&str]) -> Value {
    let text: String = payloads.iter().map(|payload| format!("data: {payload}\r\n\r\n")).collect();
    record("/v1/generateContent", "text/event-stream", &text)
}

/// Asserts that the record has these counts and no others.
fn has(record: &Value, expected: Value) {
    for count in COUNTS {
        assert_eq!(record[count], expected[count], "{count} of {record}");
    }
}

const GEMINI: &str = r#""usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":8,"totalTokenCount":41,"cachedContentTokenCount":4,"thoughtsTokenCount":23,"toolUsePromptTokenCount":5,"serviceTier":"flex"},"modelVersion":"gemini-2.5-flash""#;

fn gemini() -> Value {
    json!({"input_tokens": 10, "output_tokens": 8, "total_tokens": 41, "cached_input_tokens": 4, "reasoning_tokens": 23,
        "usage_source": "reported"})
}

#[test]
fn gemini_is_metered_in_a_body_a_stream_and_a_streamed_list() {
    let first = r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]}}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":1,"totalTokenCount":11},"modelVersion":"gemini-2.5-flash"}"#;
    let last = format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"text":"you"}}]}},"finishReason":"STOP"}}],{GEMINI}}}"#
    );
    let bare = r#"{"usageMetadata":{"trafficType":"ON_DEMAND"}}"#;
    for record in [
        body(&last),
        events(&[first, &last]),
        events(&[first, first, &last, bare]),
        body(&format!("[{first},\r\n{last}]")),
        body(&format!("[{last},{bare}]")),
    ] {
        has(&record, gemini());
        assert_eq!((&record["model"], &record["service_tier"]), (&json!("gemini-2.5-flash"), &json!("flex")));
    }
    let streamed = events(&[first, &last]);
    assert!(streamed["time_to_first_token_ms"].is_number(), "{streamed}");
    let none = body(
        r#"{"candidates":[{"usageMetadata":{"promptTokenCount":9}}],"metadata":{"usageMetadata":{"promptTokenCount":9}}}"#,
    );
    assert_eq!(none["usage_source"], "none", "elsewhere it is no usage");
}

#[test]
fn gemini_interactions_are_metered() {
    let usage = r#""usage":{"total_input_tokens":10,"total_output_tokens":8,"total_thought_tokens":23,"total_cached_tokens":4,"total_tool_use_tokens":2,"total_tokens":41}"#;
    has(&body(&format!(r#"{{"model":"gemini-3","outputs":[],{usage}}}"#)), gemini());
    let record = events(&[
        r#"{"event_type":"interaction.start","interaction":{"model":"gemini-3"}}"#,
        r#"{"event_type":"content.delta","delta":{"type":"text","text":"Hi"}}"#,
        &format!(r#"{{"event_type":"interaction.complete","interaction":{{"model":"gemini-3",{usage}}}}}"#),
    ]);
    has(&record, gemini());
    assert_eq!(record["model"], "gemini-3");
}

#[test]
fn cohere_is_metered_by_its_tokens_else_by_what_it_bills() {
    let tokens = json!({"input_tokens": 507, "output_tokens": 10, "cached_input_tokens": 448, "usage_source": "reported"});
    let billed = json!({"input_tokens": 12, "output_tokens": 7, "usage_source": "reported"});
    let both = r#"{"billed_units":{"input_tokens":12,"output_tokens":7},"tokens":{"input_tokens":507,"output_tokens":10},"cached_tokens":448}"#;
    let only = r#"{"billed_units":{"input_tokens":12.0,"output_tokens":7}}"#;
    for (usage, expected) in [(both, &tokens), (only, &billed)] {
        has(
            &body(&format!(r#"{{"id":"1","message":{{"role":"assistant","content":[]}},"usage":{usage}}}"#)),
            expected.clone(),
        );
        has(&body(&format!(r#"{{"text":"Hi","meta":{usage}}}"#)), expected.clone());
        let record = events(&[
            r#"{"type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_calls":[]}}}"#,
            r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hi"}}}}"#,
            &format!(r#"{{"type":"message-end","delta":{{"finish_reason":"COMPLETE","usage":{usage}}}}}"#),
            "[DONE]",
        ]);
        has(&record, expected.clone());
        assert!(record["time_to_first_token_ms"].is_number(), "{record}");
        let end = format!(
            r#"{{"is_finished":true,"event_type":"stream-end","finish_reason":"COMPLETE","response":{{"response_id":"r","text":"Hi there","meta":{usage}}}}}"#
        );
        let first = events(&[
            r#"{"is_finished":false,"event_type":"stream-start","generation_id":"g"}"#,
            r#"{"is_finished":false,"event_type":"text-generation","text":"Hi"}"#,
            r#"{"is_finished":false,"event_type":"text-generation","text":" there"}"#,
            &end,
        ]);
        has(&first, expected.clone());
        assert_eq!(first["outcome"], "complete");
        assert!(first["time_to_first_token_ms"].is_number(), "{first}");
    }
    let rerank =
        body(r#"{"results":[],"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1}}}"#);
    assert_eq!(rerank["tool_calls"], json!({"search_units": 1}));
}

#[test]
fn usage_of_a_message_that_only_began_is_partial() {
    let start =
        r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":9,"output_tokens":1}}}"#;
    let text = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#;
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let end = r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":3}}"#;
    for (payloads, source) in [
        (&[start, text][..], "partial"),
        (&[start, text, error], "partial"),
        (&[start, text, end], "reported"),
        (&[start, text, r#"{"type":"message_stop"}"#], "reported"),
    ] {
        assert_eq!(events(payloads)["usage_source"], source, "{payloads:?}");
    }
}

#[test]
fn body_that_cannot_be_read_says_so() {
    let usage = r#""model":"m","usage":{"prompt_tokens":9,"completion_tokens":1}"#;
    let deep = format!("{}{}", "[".repeat(130), "]".repeat(130));
    for text in
        [format!(r#"{{{usage},"a":{deep}}}"#), format!("{{{usage}}}x"), format!(r#"{{{usage},"a":NaN}}"#)]
    {
        let record = body(&text);
        assert_eq!(record["outcome"], "complete");
        assert!(record["error"].is_string() && record["output_tokens"].is_null(), "{record}");
    }
    assert!(body("a page").get("error").is_none_or(Value::is_null), "no JSON was promised");
}

#[test]
fn an_error_of_groq_in_its_own_field_is_an_error() {
    let record = events(&[
        r#"{"choices":[{"delta":{"content":"Hi"}}]}"#,
        r#"{"choices":[],"x_groq":{"error":"the model is overloaded"}}"#,
        "[DONE]",
    ]);
    assert_eq!(
        (&record["outcome"], &record["error"]),
        (&json!("upstream_error"), &json!("the model is overloaded"))
    );
}

#[test]
fn thinking_tokens_and_seconds_without_a_type_are_read() {
    let thinking = body(
        r#"{"type":"message","usage":{"input_tokens":1,"output_tokens":31,"output_tokens_details":{"thinking_tokens":24}}}"#,
    );
    has(
        &thinking,
        json!({"input_tokens": 1, "output_tokens": 31, "reasoning_tokens": 24, "usage_source": "reported"}),
    );
    let seconds = record(
        "/v1/audio/transcriptions",
        "application/json",
        r#"{"text":"Hi","usage":{"seconds":9.5,"cost":0.001}}"#,
    );
    has(&seconds, json!({"billed_seconds": 9.5, "usage_source": "reported"}));
    assert_eq!(seconds["reported_cost"], "0.001");
}

#[test]
fn usage_of_which_a_part_is_unknown_is_partial_and_says_so() {
    for (usage, source) in [
        (r#"{"total_tokens":18,"new_input_tokens":11,"new_output_tokens":7}"#, "partial"),
        (r#"{"input_tokens":11,"generated_tokens":7}"#, "partial"),
        (r#"{"counts":{"tokens_in":11}}"#, "none"),
        (r#"{"prompt_units":11,"completion_units":7,"total_tokens":18}"#, "partial"),
        (r#"{"input_tokens":11,"output_count":7}"#, "partial"),
    ] {
        let up = Upstream::responding(sized(
            "200 OK",
            "application/json",
            format!(r#"{{"usage":{usage}}}"#).as_bytes(),
        ));
        let proxy = proxy().upstream(&up).run();
        proxy.client().post("/v1/other", "{}").response();
        let record = proxy.record();
        assert_eq!(record["usage_source"], source, "{record}");
        let error = record["error"].as_str().unwrap_or_default();
        assert!(error.contains("names that the meter does not know"), "{record}");
    }
    // Complete usage, or usage that is known to be a part, raises no alarm.
    for usage in [
        r#"{"total_tokens":18}"#,
        r#"{"prompt_tokens":8,"total_tokens":8,"image_tokens":3}"#,
        r#"{"input_tokens":11,"output_tokens":7,"strange_tokens":9,"details":{"odd_tokens":1}}"#,
        r#"{"prompt_tokens":8,"input_count":1,"input_characters":9,"output_seconds":3}"#,
        r#"{"prompt_tokens":8,"tokens_per_second":31.0,"max_tokens":100,"new_tokens":0}"#,
        r#"{"cache_read_input_tokens":0,"output_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":3}}"#,
    ] {
        let record = body(&format!(r#"{{"usage":{usage}}}"#));
        assert_eq!(
            (&record["usage_source"], &record["error"]),
            (&json!("reported"), &Value::Null),
            "{usage}"
        );
    }
    // A later complete report replaces it.
    let settled = events(&[
        r#"{"choices":[],"usage":{"odd_tokens":3,"total_tokens":3}}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#,
    ]);
    assert_eq!((&settled["usage_source"], &settled["error"]), (&json!("reported"), &Value::Null));
}

#[test]
fn byte_order_mark_before_json_is_skipped() {
    let record = body("\u{feff}{\"model\":\"m\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}");
    has(&record, json!({"input_tokens": 1, "output_tokens": 2, "usage_source": "reported"}));
    assert_eq!(record["model"], "m");
}

/// An event of a legacy completion.
fn text(index: u64, finish: &str, usage: &str) -> String {
    format!(
        r#"{{"choices":[{{"text":"x","index":{index},"finish_reason":{finish}}}],"model":"m","object":"text_completion"{usage}}}"#
    )
}

fn used(input: u64, output: u64) -> String {
    format!(
        r#","usage":{{"completion_tokens":{output},"prompt_tokens":{input},"total_tokens":{}}}"#,
        input + output
    )
}

fn completions(payloads: &[String]) -> Value {
    let text: String = payloads.iter().map(|payload| format!("data: {payload}\n\n")).collect();
    record("/v1/completions", "text/event-stream", &(text + "data: [DONE]\n\n"))
}

#[test]
fn usage_of_each_choice_of_a_completion_is_added_up() {
    let expected =
        json!({"input_tokens": 12, "output_tokens": 5, "total_tokens": 17, "usage_source": "reported"});
    has(
        &completions(&[
            text(0, "null", ""),
            text(1, "null", ""),
            text(1, "\"stop\"", &used(5, 2)),
            text(0, "\"length\"", &used(7, 3)),
        ]),
        expected.clone(),
    );
    // llama.cpp's list in a response that is not streamed.
    let list = format!("[{},{}]", text(0, "\"stop\"", &used(5, 2)), text(1, "\"stop\"", &used(7, 3)));
    has(&record("/v1/completions", "application/json", &list), expected);
}

#[test]
fn usage_so_far_of_a_completion_is_not_added_up() {
    let last = r#"{"choices":[],"object":"text_completion"#.to_owned() + "\"" + &used(12, 5) + "}";
    let expected =
        json!({"input_tokens": 12, "output_tokens": 5, "total_tokens": 17, "usage_source": "reported"});
    // Usage of each choice so far, and then of all.
    has(
        &completions(&[
            text(0, "null", &used(7, 1)),
            text(1, "null", &used(5, 1)),
            text(0, "\"stop\"", &used(7, 3)),
            text(1, "\"stop\"", &used(5, 2)),
            last.clone(),
        ]),
        expected.clone(),
    );
    // Usage of each choice at its end, and then of all.
    has(
        &completions(&[text(0, "\"stop\"", &used(7, 3)), text(1, "\"stop\"", &used(5, 2)), last]),
        expected.clone(),
    );
    // Usage of all so far, in every event.
    has(
        &completions(&[
            text(0, "null", &used(12, 1)),
            text(1, "null", &used(12, 2)),
            text(0, "\"stop\"", &used(12, 4)),
            text(1, "\"stop\"", &used(12, 5)),
        ]),
        expected,
    );
}
