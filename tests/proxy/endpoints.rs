//! Every endpoint of the API, with the responses of real services: the bytes pass, the record names
//! the endpoint, and the counts are those of the response.

use serde_json::{Value, json};

use crate::harness::{EVENTS_HEAD, LAST_CHUNK, Upstream, chunk, proxy, sized};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const FORM: &str = "multipart/form-data; boundary=x";
const FORM_BODY: &str =
    "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ngpt-4o-transcribe\r\n--x--\r\n";

/// One exchange: the client's request, and the upstream's response.
struct Exchange<'a> {
    method: &'a str,
    path: &'a str,
    request: (&'a str, &'a str),
    response: (&'a str, Vec<u8>),
}

impl<'a> Exchange<'a> {
    /// A JSON request with a JSON response.
    fn json(path: &'a str, body: &str) -> Self {
        let request = (JSON, r#"{"model":"m"}"#);
        Self { method: "POST", path, request, response: (JSON, body.into()) }
    }

    /// A JSON request with a response of events.
    fn events(path: &'a str, body: &str) -> Self {
        Self {
            response: (EVENTS, body.into()),
            request: (JSON, r#"{"model":"m","stream":true}"#),
            ..Self::json(path, "")
        }
    }

    fn form(self) -> Self {
        Self { request: (FORM, FORM_BODY), ..self }
    }

    fn method(self, method: &'a str) -> Self {
        Self { method, ..self }
    }

    /// The record. The bytes must have passed.
    fn record(self) -> Value {
        let (content_type, body) = &self.response;
        let response = if *content_type == EVENTS {
            // In pieces that do not match line ends.
            let pieces = body.chunks(61).flat_map(chunk).collect::<Vec<u8>>();
            [EVENTS_HEAD.as_bytes(), &pieces, LAST_CHUNK.as_bytes()].concat()
        } else {
            sized("200 OK", content_type, body)
        };
        let up = Upstream::responding(response);
        let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
        let (kind, sent) = if self.method == "GET" { ("", "") } else { self.request };
        let (method, path, length) = (self.method, self.path, sent.len());
        let mut client = proxy.client();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{sent}"
        ));
        assert!(client.response().body() == body, "{path}: every byte passes");
        proxy.record()
    }

    /// Asserts that the record has these fields, and no others of usage.
    fn records(self, endpoint: &str, source: &str, expected: Value) {
        let path = self.path;
        let record = self.record();
        assert_eq!(
            (&record["endpoint"], &record["usage_source"]),
            (&json!(endpoint), &json!(source)),
            "{path}: {record}"
        );
        assert_eq!(record["outcome"], "complete", "{path}: {record}");
        for key in [
            "input_tokens",
            "output_tokens",
            "total_tokens",
            "cached_input_tokens",
            "cache_write_input_tokens",
            "reasoning_tokens",
            "input_audio_tokens",
            "output_audio_tokens",
            "billed_seconds",
        ] {
            assert_eq!(record[key], expected[key], "{path}: {key} of {record}");
        }
    }
}

/// Events with a name, as `responses` and similar endpoints have them.
fn named(events: &[(&str, &str)]) -> String {
    events
        .iter()
        .map(|(name, rest)| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n"))
        .collect()
}

#[test]
fn chat_completions() {
    let usage = r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":2},"completion_tokens_details":{"reasoning_tokens":3,"audio_tokens":1,"accepted_prediction_tokens":0}}"#;
    let expected = json!({ "input_tokens": 11, "output_tokens": 7, "total_tokens": 18, "cached_input_tokens": 4,
        "input_audio_tokens": 2, "reasoning_tokens": 3, "output_audio_tokens": 1 });
    let body =
        format!("{{\"model\":\"m\",\"choices\":[{{\"message\":{{\"content\":\"Hi\"}}}}],\"usage\":{usage}}}");
    Exchange::json("/v1/chat/completions", &body).records("chat/completions", "reported", expected.clone());
    // With moderation, a chunk follows the one with usage.
    let events = format!(
        "data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"Hi\"}}}}],\"usage\":null}}\n\n\
         data: {{\"model\":\"m\",\"choices\":[],\"usage\":{usage}}}\n\n\
         data: {{\"choices\":[],\"moderation\":{{\"flagged\":false}}}}\n\ndata: [DONE]\n\n"
    );
    Exchange::events("/v1/chat/completions", &events).records("chat/completions", "reported", expected);
}

#[test]
fn legacy_completions() {
    let expected = json!({ "input_tokens": 5, "output_tokens": 1, "total_tokens": 6 });
    let usage = r#""usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}"#;
    let body = format!("{{\"model\":\"m\",\"choices\":[{{\"text\":\"Hi\"}}],{usage}}}");
    Exchange::json("/v1/completions", &body).records("completions", "reported", expected.clone());
    let events = format!(
        "data: {{\"choices\":[{{\"text\":\"Hi\"}}]}}\n\ndata: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n"
    );
    Exchange::events("/v1/completions", &events).records("completions", "reported", expected);
}

#[test]
fn responses_that_end_in_any_way() {
    let usage = r#""usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":1},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":13}"#;
    let expected = json!({ "input_tokens": 9, "output_tokens": 4, "total_tokens": 13, "cached_input_tokens": 1, "reasoning_tokens": 2 });
    for status in ["completed", "incomplete"] {
        let body =
            format!("{{\"model\":\"m\",\"status\":\"{status}\",\"error\":null,\"output\":[],{usage}}}");
        Exchange::json("/v1/responses", &body).records("responses", "reported", expected.clone());
        let last = format!("response.{status}");
        let rest =
            format!(",\"response\":{{\"model\":\"m\",\"status\":\"{status}\",\"error\":null,{usage}}}");
        let events = named(&[
            ("response.created", r#","response":{"model":"m","status":"in_progress","usage":null}"#),
            ("response.output_text.delta", r#","delta":"Hi""#),
            (&last, &rest),
        ]);
        Exchange::events("/v1/responses", &events).records("responses", "reported", expected.clone());
    }
}

#[test]
fn failed_response_is_an_upstream_error_and_keeps_its_usage() {
    for (usage, source) in
        [("null", "none"), (r#"{"input_tokens":9,"output_tokens":0,"total_tokens":9}"#, "reported")]
    {
        let rest = format!(
            ",\"response\":{{\"model\":\"m\",\"status\":\"failed\",\"error\":{{\"code\":\"server_error\",\"message\":\"it broke\"}},\"usage\":{usage}}}"
        );
        let events = named(&[
            ("response.created", r#","response":{"model":"m","usage":null}"#),
            ("response.failed", &rest),
        ]);
        let record = Exchange::events("/v1/responses", &events).record();
        assert_eq!((&record["outcome"], &record["error"]), (&json!("upstream_error"), &json!("it broke")));
        assert_eq!(record["usage_source"], source);
    }
}

#[test]
fn embeddings_whose_usage_comes_after_megabytes() {
    let numbers = "0.0023064255,".repeat(200_000);
    let body = format!(
        "{{\"object\":\"list\",\"data\":[{{\"embedding\":[{numbers}0]}}],\"model\":\"m\",\"usage\":{{\"prompt_tokens\":8,\"total_tokens\":8}}}}"
    );
    Exchange::json("/v1/embeddings", &body).records(
        "embeddings",
        "reported",
        json!({ "input_tokens": 8, "total_tokens": 8 }),
    );
}

#[test]
fn transcriptions() {
    let path = "/v1/audio/transcriptions";
    let usage = r#""usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":4,"audio_tokens":10},"output_tokens":5,"total_tokens":19}"#;
    let expected =
        json!({ "input_tokens": 14, "output_tokens": 5, "total_tokens": 19, "input_audio_tokens": 10 });
    let body = format!("{{\"text\":\"Hi\",{usage}}}");
    Exchange::json(path, &body).form().records("audio/transcriptions", "reported", expected.clone());
    // The recorded stream: lines end with CRLF, and there are no names.
    let events = format!(
        "data: {{\"type\":\"transcript.text.delta\",\"delta\":\"Hi\"}}\r\n\r\n\
         data: {{\"type\":\"transcript.text.done\",\"text\":\"Hi\",{usage}}}\r\n\r\ndata: [DONE]\r\n\r\n"
    );
    Exchange::events(path, &events).form().records("audio/transcriptions", "reported", expected);
    let by_time = r#"{"text":"Hi","usage":{"type":"duration","seconds":7.5}}"#;
    Exchange::json(path, by_time).form().records(
        "audio/transcriptions",
        "reported",
        json!({ "billed_seconds": 7.5 }),
    );
    for text in
        ["Hi\n", "1\n00:00:00,000 --> 00:00:01,000\nHi\n\n", "WEBVTT\n\n00:00.000 --> 00:01.000\nHi\n"]
    {
        let mut exchange = Exchange::json(path, text).form();
        exchange.response.0 = "text/plain; charset=utf-8";
        exchange.records("audio/transcriptions", "none", json!({}));
    }
}

#[test]
fn translations_and_moderations_have_no_tokens() {
    Exchange::json("/v1/audio/translations", r#"{"text":"Hi"}"#).form().records(
        "audio/translations",
        "none",
        json!({}),
    );
    Exchange::json("/v1/moderations", r#"{"id":"modr","model":"m","results":[{"flagged":false}]}"#).records(
        "moderations",
        "none",
        json!({}),
    );
}

#[test]
fn speech_is_sound_or_events() {
    let mut sound = Exchange::json("/v1/audio/speech", "");
    // The sound contains the text of usage.
    sound.response = ("audio/mpeg", b"{\"usage\":{\"input_tokens\":1}}\xff\xfb\x00".repeat(100));
    sound.records("audio/speech", "none", json!({}));
    let events = named(&[
        ("speech.audio.delta", r#","audio":"//uQxAAA""#),
        ("speech.audio.done", r#","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}"#),
    ]);
    let expected = json!({ "input_tokens": 14, "output_tokens": 101, "total_tokens": 115 });
    Exchange::events("/v1/audio/speech", &events).records("audio/speech", "reported", expected);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn images_add_up_what_each_finished_picture_took() {
    let usage = r#""usage":{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":1000,"total_tokens":1050}"#;
    let once = json!({ "input_tokens": 50, "output_tokens": 1000, "total_tokens": 1050 });
    let body = format!("{{\"data\":[{{\"b64_json\":\"{}\"}}],{usage}}}", "A".repeat(2 << 20));
    Exchange::json("/v1/images/generations", &body).records("images/generations", "reported", once.clone());
    Exchange::json("/v1/images/edits", &body).form().records("images/edits", "reported", once);
    Exchange::json("/v1/images/generations", r#"{"data":[{"url":"https://x/y.png"}]}"#).records(
        "images/generations",
        "none",
        json!({}),
    );

    let twice = json!({ "input_tokens": 100, "output_tokens": 2000, "total_tokens": 2100 });
    for (path, kind) in [("images/generations", "image_generation"), ("images/edits", "image_edit")] {
        let picture = format!(",\"b64_json\":\"{}\",{usage}", "A".repeat(2 << 20));
        let (partial, completed) = (format!("{kind}.partial_image"), format!("{kind}.completed"));
        let events =
            named(&[(&partial, r#","b64_json":"AAAA""#), (&completed, &picture), (&completed, &picture)]);
        Exchange::events(&format!("/v1/{path}"), &events).records(path, "reported", twice.clone());
    }
}

#[test]
fn assistants_runs_are_counted_once() {
    let step = r#"{"object":"thread.run.step","usage":{"prompt_tokens":20,"completion_tokens":3,"total_tokens":23}}"#;
    let run = r#"{"object":"thread.run","model":"m","usage":{"prompt_tokens":31,"completion_tokens":5,"total_tokens":36,"prompt_token_details":{"cached_tokens":2}}}"#;
    let expected =
        json!({ "input_tokens": 31, "output_tokens": 5, "total_tokens": 36, "cached_input_tokens": 2 });
    Exchange::json("/v1/threads/thread_1/runs/run_1", run).method("GET").records(
        "threads/runs",
        "reported",
        expected.clone(),
    );
    let events = format!(
        "event: thread.run.step.completed\ndata: {step}\n\nevent: thread.run.completed\ndata: {run}\n\nevent: done\ndata: [DONE]\n\n"
    );
    Exchange::events("/v1/threads/thread_1/runs", &events).records("threads/runs", "reported", expected);
}

#[test]
fn files_and_batches_pass_unread() {
    // These responses report usage of other requests, and may be requested repeatedly.
    let usage = r#"{"id":"x","model":"m","usage":{"input_tokens":5,"output_tokens":1,"total_tokens":6}}"#;
    for (path, endpoint) in [
        ("/v1/files", "files"),
        ("/v1/files/file_1/content", "files/content"),
        ("/v1/batches", "batches"),
        ("/v1/messages/batches/b/results", "messages/batches/results"),
    ] {
        Exchange::json(path, usage).method("GET").records(endpoint, "none", json!({}));
    }
    Exchange::json("/v1/files", usage).form().records("files", "none", json!({}));
    Exchange::json("/v1/batches", usage).records("batches", "none", json!({}));
}

#[test]
fn anthropics_messages_are_merged_field_by_field() {
    let body = r#"{"type":"message","model":"claude","content":[],"usage":{"input_tokens":12,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":6}}"#;
    let expected = json!({ "input_tokens": 12, "output_tokens": 6, "cached_input_tokens": 4, "cache_write_input_tokens": 3 });
    Exchange::json("/v1/messages", body).records("messages", "reported", expected.clone());
    let events = named(&[
        (
            "message_start",
            r#","message":{"model":"claude","usage":{"input_tokens":19,"cache_creation_input_tokens":3,"cache_read_input_tokens":0,"output_tokens":1}}"#,
        ),
        ("content_block_delta", r#","delta":{"type":"text_delta","text":"Hi"}"#),
        ("ping", ""),
        (
            "message_delta",
            r#","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":12,"cache_read_input_tokens":4,"output_tokens":6}"#,
        ),
        ("message_stop", ""),
    ]);
    Exchange::events("/v1/messages", &events).records("messages", "reported", expected);
}

#[test]
fn unknown_path_is_metered_if_its_response_has_a_known_form() {
    let usage = r#"{"model":"m","usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}"#;
    let expected = json!({ "input_tokens": 5, "output_tokens": 1, "total_tokens": 6 });
    Exchange::json("/v1/something/new", usage).records("other", "reported", expected.clone());
    Exchange::events("/v1/something/new", &format!("data: {usage}\n\n"))
        .records("other", "reported", expected);
    Exchange::json("/v1/something/new", r#"{"cost":{"usage":{"prompt_tokens":5}}}"#).records(
        "other",
        "none",
        json!({}),
    );
}

#[test]
fn error_inside_a_response_of_200_is_no_success() {
    let chat = "/v1/chat/completions";
    let usage = r#""usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}"#;
    let delta = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    let both = format!(
        "data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"\"}}}}],\"error\":{{\"code\":502,\"message\":\"it broke\"}},{usage}}}\n\n"
    );
    for (what, exchange, source) in [
        (
            "an error event",
            Exchange::events(
                chat,
                &format!("{delta}event: error\ndata: {{\"error\":{{\"message\":\"it broke\"}}}}\n\n"),
            ),
            "estimated",
        ),
        (
            "an event that is no JSON",
            Exchange::events(chat, &format!("{delta}event: error\ndata: it broke\n\n")),
            "estimated",
        ),
        (
            "an error in a chunk's place",
            Exchange::events(chat, "data: {\"error\":{\"message\":\"it broke\"}}\n\n"),
            "none",
        ),
        ("an error in a chunk with usage", Exchange::events(chat, &both), "reported"),
        (
            "an error after usage",
            Exchange::events(
                chat,
                &format!(
                    "data: {{\"choices\":[],{usage}}}\n\ndata: {{\"error\":{{\"message\":\"it broke\"}}}}\n\n"
                ),
            ),
            "reported",
        ),
        (
            "vLLM's",
            Exchange::events(chat, "data: {\"object\":\"error\",\"message\":\"it broke\",\"code\":400}\n\n"),
            "none",
        ),
        (
            "TGI's",
            Exchange::events(chat, "data:{\"error\":\"it broke\",\"error_type\":\"overloaded\"}\n\n"),
            "none",
        ),
        (
            "llama.cpp's",
            Exchange::events(chat, &format!("{delta}error: {{\"code\":500,\"message\":\"it broke\"}}\n\n")),
            "estimated",
        ),
        (
            "Anthropic's",
            Exchange::events(
                "/v1/messages",
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"it broke\"}}\n\n",
            ),
            "none",
        ),
        (
            "a response's",
            Exchange::events(
                "/v1/responses",
                "event: error\ndata: {\"type\":\"error\",\"code\":null,\"message\":\"it broke\"}\n\n",
            ),
            "none",
        ),
        (
            "a body where a stream was asked for",
            Exchange {
                response: (JSON, br#"{"error":{"message":"it broke"}}"#.to_vec()),
                ..Exchange::events(chat, "")
            },
            "none",
        ),
        (
            "a body with usage",
            Exchange::json(
                chat,
                &format!("{{\"model\":\"m\",\"error\":{{\"message\":\"it broke\"}},{usage}}}"),
            ),
            "reported",
        ),
        (
            "Gemini's list",
            Exchange::json(chat, r#"[{"error":{"code":503,"message":"it broke","status":"UNAVAILABLE"}}]"#),
            "none",
        ),
        (
            "Gemini's list in a stream",
            Exchange::events(chat, "data: [{\"error\":{\"message\":\"it broke\"}}]\n\n"),
            "none",
        ),
    ] {
        // The code in the error is 400.
        let outcome = if what == "vLLM's" { "invalid_request" } else { "upstream_error" };
        let record = exchange.record();
        assert_eq!(
            (&record["outcome"], &record["error"]),
            (&json!(outcome), &json!("it broke")),
            "{what}: {record}"
        );
        assert_eq!(record["usage_source"], source, "{what}: {record}");
        assert_eq!(record["status"], 200, "{what}");
    }
}
