//! Usage is estimated if none is reported, and only then.

use serde_json::Value;

use crate::harness::{EVENTS_HEAD, LAST_CHUNK, Upstream, chunk, proxy, sized, upstream};

/// 8 tokens: 3 begin the response, 3 frame a message, its role and its text are one each.
const REQUEST: &str = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;

fn delta(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    )
}

/// A response that is an event stream.
fn whole(events: impl AsRef<[u8]>) -> Vec<u8> {
    [EVENTS_HEAD.as_bytes(), &chunk(events.as_ref()), LAST_CHUNK.as_bytes()].concat()
}

/// The record of an exchange whose response is an event stream.
fn streamed(path: &str, request: &str, events: &str) -> Value {
    let up = Upstream::responding(whole(events));
    let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
    let response = proxy.client().post(path, request).response();
    assert_eq!(response.text(), events, "the bytes pass as they are");
    proxy.record()
}

/// The record of an exchange whose response is JSON.
fn record_of(path: &str, request: &str, status: u16, body: &str) -> Value {
    let up = Upstream::responding(sized(&format!("{status} Status"), "application/json", body.as_bytes()));
    let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
    assert_eq!(proxy.client().post(path, request).response().text(), body);
    proxy.record()
}

fn counts(record: &Value) -> (&str, Option<u64>, Option<u64>, Option<u64>) {
    let count = |key: &str| record[key].as_u64();
    let source = record["usage_source"].as_str().unwrap();
    (source, count("input_tokens"), count("output_tokens"), count("total_tokens"))
}

#[test]
fn a_stream_without_usage_is_estimated() {
    let events =
        [delta("The"), delta(" river"), delta(" does not"), delta(" wait."), "data: [DONE]\n\n".into()];
    let record = streamed("/v1/chat/completions", REQUEST, &events.concat());
    assert_eq!(counts(&record), ("estimated", Some(8), Some(6), Some(14)));
    assert_eq!((&record["outcome"], &record["model"]), (&"complete".into(), &"gpt-4o".into()));
    assert!(record["cached_input_tokens"].is_null(), "what is not known is null");
}

#[test]
fn a_client_that_leaves_before_usage_leaves_an_estimate() {
    for (passed, output) in [(0, 0), (1, 1), (3, 4)] {
        let events = [delta("The"), delta(" river"), delta(" does not"), delta(" wait.")][..passed].concat();
        // A comment first, so that there is something to wait for.
        let events = format!(": begun\n\n{events}");
        let sent = events.clone();
        let up = upstream(move |connection| {
            connection.request();
            connection.send(EVENTS_HEAD);
            connection.send(chunk(sent.as_bytes()));
            connection.wait_for_close();
        });
        let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
        let mut client = proxy.client();
        client.post("/v1/chat/completions", REQUEST).head();
        client.chunks(events.len());
        drop(client);
        let record = proxy.record();
        assert_eq!(record["outcome"], "client_disconnected");
        assert_eq!(counts(&record), ("estimated", Some(8), Some(output), Some(8 + output)), "after {passed}");
    }
}

#[test]
fn client_that_leaves_before_the_response_has_no_usage() {
    let (arrived, arrival) = std::sync::mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        arrived.send(()).unwrap();
        connection.wait_for_close();
    });
    let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", REQUEST);
    arrival.recv().unwrap();
    drop(client);
    assert_eq!(counts(&proxy.record()), ("none", None, None, None));
}

#[test]
fn reported_counts_are_never_mixed_with_estimated_ones() {
    for (usage, counted) in [
        (r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, (Some(0), Some(0), Some(0))),
        (r#"{"completion_tokens":7}"#, (None, Some(7), None)),
        (r#"{"total_tokens":7}"#, (None, None, Some(7))),
    ] {
        let events =
            format!("{}data: {{\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n", delta("Hello"));
        let record = streamed("/v1/chat/completions", REQUEST, &events);
        let (source, input, output, total) = counts(&record);
        assert_eq!((source, (input, output, total)), ("reported", counted), "{usage}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_estimated() {
    let up = upstream(|connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(delta("Hello").as_bytes()));
    });
    let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
    proxy.client().post("/v1/chat/completions", REQUEST).response();
    let record = proxy.record();
    assert_eq!(record["outcome"], "truncated");
    assert_eq!(counts(&record), ("estimated", Some(8), Some(1), Some(9)));
}

#[test]
fn every_kind_of_output_is_counted() {
    let chat = |delta: &str| format!("data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{delta}}}]}}\n\n");
    let responses =
        |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{rest}}}\n\n");
    for (what, path, events, output) in [
        (
            "reasoning",
            "chat/completions",
            chat(r#"{"reasoning_content":"Hello"}"#) + &chat(r#"{"content":"Hello"}"#),
            2,
        ),
        (
            "reasoning under two keys",
            "chat/completions",
            chat(r#"{"reasoning":"Hello","reasoning_content":"Hello"}"#),
            1,
        ),
        ("a refusal", "chat/completions", chat(r#"{"refusal":"Hello"}"#), 1),
        // Its name and arguments, and 7 tokens around them.
        (
            "a tool call",
            "chat/completions",
            chat(r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"get","arguments":""}}]}"#)
                + &chat(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}"#)
                + &chat(r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}"#),
            7 + 1 + 5,
        ),
        ("parts", "chat/completions", chat(r#"{"content":[{"type":"text","text":"Hello"}]}"#), 1),
        (
            "a legacy completion",
            "completions",
            "data: {\"model\":\"m\",\"choices\":[{\"text\":\"Hello\"}]}\n\n".into(),
            1,
        ),
        ("escapes", "chat/completions", chat(r#"{"content":"Hel\u006co"}"#), 1),
        (
            "a character in two events",
            "chat/completions",
            chat(r#"{"content":"\ud83d"}"#) + &chat(r#"{"content":"\ude00"}"#),
            1,
        ),
        (
            "a response",
            "responses",
            responses("response.created", r#""response":{"model":"m","status":"in_progress","usage":null}"#)
                + &responses("response.output_text.delta", r#""delta":"Hello""#)
                + &responses("response.output_text.delta", r#""delta":" world""#)
                // The relayed text is repeated.
                + &responses("response.output_text.done", r#""text":"Hello world""#),
            // One token ends it.
            2 + 1,
        ),
        (
            "a response's call",
            "responses",
            responses(
                "response.output_item.added",
                r#""item":{"type":"function_call","name":"get","arguments":""}"#,
            ) + &responses("response.function_call_arguments.delta", r#""delta":"{}""#)
                + &responses(
                    "response.output_item.done",
                    r#""item":{"type":"function_call","name":"get","arguments":"{}"}"#,
                ),
            7 + 1 + 1 + 1,
        ),
        (
            "Anthropic's blocks",
            "messages",
            responses("content_block_delta", r#""delta":{"type":"thinking_delta","thinking":"Hello"}"#)
                + &responses("content_block_delta", r#""delta":{"type":"text_delta","text":"Hello"}"#)
                + &responses(
                    "content_block_delta",
                    r#""delta":{"type":"input_json_delta","partial_json":"{}"}"#,
                ),
            3,
        ),
    ] {
        let record = streamed(&format!("/v1/{path}"), r#"{"model":"m","stream":true}"#, &events);
        // The request has no text, so that its input is not known.
        assert_eq!(counts(&record), ("estimated", None, Some(output), None), "{what}");
    }
}

#[test]
fn bodies_without_usage_are_estimated() {
    for (path, request, body, counted) in [
        (
            "chat/completions",
            REQUEST,
            r#"{"model":"gpt-4o","choices":[{"message":{"role":"assistant","content":"Hello"}}]}"#,
            (Some(8), Some(1), Some(9)),
        ),
        (
            "completions",
            r#"{"model":"m","prompt":"Hello"}"#,
            r#"{"model":"m","choices":[{"text":"Hello"}],"usage":null}"#,
            (Some(1), Some(1), Some(2)),
        ),
        (
            "responses",
            r#"{"model":"m","input":"Hello"}"#,
            r#"{"model":"m","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hello"}]}]}"#,
            (Some(8), Some(2), Some(10)),
        ),
        (
            "messages",
            r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#,
            r#"{"model":"m","type":"message","content":[{"type":"text","text":"Hello"}]}"#,
            (Some(8), Some(1), Some(9)),
        ),
        (
            "embeddings",
            r#"{"model":"m","input":["Hello"]}"#,
            r#"{"model":"m","data":[{"embedding":[1]}]}"#,
            (Some(1), None, Some(1)),
        ),
    ] {
        let record = record_of(&format!("/v1/{path}"), request, 200, body);
        let (source, input, output, total) = counts(&record);
        assert_eq!((source, (input, output, total)), ("estimated", counted), "{path}");
    }
}

#[test]
fn response_without_content_has_no_estimate() {
    let chat = "/v1/chat/completions";
    for (what, path, status, body) in [
        ("a refusal", chat, 400, r#"{"error":{"message":"no"}}"#),
        ("a failure", chat, 500, r#"{"model":"m","choices":[{"message":{"content":"Hello"}}]}"#),
        ("an error under 200", chat, 200, r#"{"error":{"message":"no"}}"#),
        ("not a response of the API", chat, 200, r#"{"hello":"world"}"#),
        ("no JSON", chat, 200, "Hello"),
        (
            "a pending response",
            "/v1/responses",
            200,
            r#"{"model":"m","status":"queued","output":[],"usage":null}"#,
        ),
        ("an endpoint without tokens", "/v1/moderations", 200, r#"{"model":"m","results":[]}"#),
        (
            "an endpoint that is not known",
            "/v1/somewhere",
            200,
            r#"{"model":"m","choices":[{"text":"Hello"}]}"#,
        ),
    ] {
        let record = record_of(path, REQUEST, status, body);
        assert_eq!(counts(&record), ("none", None, None, None), "{what}");
    }
    let record = streamed(chat, REQUEST, "data: {\"error\":{\"message\":\"no\"}}\n\n");
    assert_eq!(counts(&record), ("none", None, None, None), "an error in place of the first token");
}

#[test]
fn text_before_an_error_is_estimated() {
    let record = streamed(
        "/v1/chat/completions",
        REQUEST,
        &(delta("Hello") + "data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
    );
    assert_eq!((&record["outcome"], &record["error"]), (&"upstream_error".into(), &"overloaded".into()));
    assert_eq!(counts(&record), ("estimated", Some(8), Some(1), Some(9)));
}

#[test]
fn a_refused_request_has_no_usage() {
    let up = Upstream::responding(sized("200 OK", "application/json", b"{}"));
    let proxy =
        proxy().upstream(&up).tables("[clients.a]\nkey = { value = \"secret-key-of-a-client\" }").run();
    proxy.client().post("/v1/chat/completions", REQUEST).response();
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["usage_source"]), (&"rejected".into(), &"none".into()));
}

#[test]
fn record_waiting_for_its_estimate_is_written_at_the_stop() {
    let up = Upstream::responding(whole(delta("Hello")));
    let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
    let mut client = proxy.client();
    // The first one unpacks the encoding's tables, which takes as long as a stop may.
    client.post("/v1/chat/completions", REQUEST).response();
    proxy.record();
    for _ in 0..50 {
        client.post("/v1/chat/completions", REQUEST).response();
    }
    drop(client);
    let records = proxy.stop();
    assert_eq!(records.len(), 50);
    assert!(records.iter().all(|record| record["usage_source"] == "estimated"));
}

/// The CPU time of a thread of this process, in ticks of 10 ms.
fn ticks(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let of = |task: std::path::PathBuf| {
        let comm = std::fs::read_to_string(task.join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.join("stat")).ok().filter(|_| comm.trim() == name)?;
        // The name before it may have any characters.
        let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect();
        Some(fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
    };
    tasks.filter_map(of).sum()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn prompts_of_one_letter_cost_little_and_are_counted_as_skipped() {
    const PROMPTS: usize = 40;
    let text = "a".repeat((1 << 20) - 200);
    let prompt =
        format!(r#"{{"model":"gpt-4o","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let up = Upstream::responding(whole([delta("The"), "data: [DONE]\n\n".into()].concat()));
    let proxy = proxy().upstream(&up).admin().tables("include_usage = \"never\"").run();
    for _ in 0..PROMPTS {
        assert_eq!(proxy.client().post("/v1/chat/completions", &prompt).response().status(), 200);
    }
    for _ in 0..PROMPTS {
        assert_eq!(counts(&proxy.record()), ("none", None, None, None));
    }
    assert_eq!(proxy.metric("streamgauge_estimates_skipped_total"), PROMPTS as f64);
    // A release build takes less than 100 ticks.
    assert!(ticks("estimates") < 300, "{} ticks", ticks("estimates"));
    proxy.client().post("/v1/chat/completions", REQUEST).response();
    assert_eq!(counts(&proxy.record()), ("estimated", Some(8), Some(1), Some(9)));
}
