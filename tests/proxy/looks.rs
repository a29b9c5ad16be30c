//! Stored results are counted once, however often they are retrieved.

use serde_json::{Value, json};

use crate::harness::{EVENTS_HEAD, LAST_CHUNK, Proxy, Request, Upstream, chunk, proxy, sized, upstream};

/// The response of a test's upstream to a request.
type Response = Vec<u8>;

fn responding(response: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Upstream {
    upstream(move |connection| {
        while let Some(request) = connection.request() {
            connection.send(response(&request));
        }
    })
}

fn body(value: &Value) -> Response {
    sized("200 OK", "application/json", value.to_string().as_bytes())
}

/// A complete stream.
fn events(events: &[Value]) -> Response {
    [cut(events), LAST_CHUNK.into()].concat()
}

/// A stream without its end.
fn cut(events: &[Value]) -> Response {
    let event = |event: &Value| {
        let name = event["type"].as_str().or(event["event"].as_str()).unwrap();
        chunk(format!("event: {name}\ndata: {event}\n\n").as_bytes())
    };
    let events: Vec<u8> = events.iter().flat_map(event).collect();
    [EVENTS_HEAD.as_bytes(), &events].concat()
}

/// A response with 100 and 50 tokens if it is complete.
fn response(status: &str, more: Value) -> Value {
    let usage = json!({ "input_tokens": 100, "output_tokens": 50, "total_tokens": 150 });
    let is_final = ["completed", "incomplete", "cancelled"].contains(&status);
    let mut response = json!({ "id": "resp_1", "object": "response", "model": "m", "status": status, "error": null,
        "output": [], "usage": is_final.then_some(usage) });
    response.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    response
}

fn in_background(status: &str) -> Value {
    response(status, json!({ "background": true }))
}

/// Sends a request, reads the response to its end, and returns its record.
fn ask(proxy: &Proxy, method: &str, path: &str, sent: &str) -> Value {
    let length = sent.len();
    let mut client = proxy.client();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{sent}"
    ));
    client.rest();
    proxy.record()
}

/// The input tokens of a record. If it has any they must be final; otherwise there must be no
/// source.
fn input(record: &Value) -> Option<u64> {
    let source = if record["input_tokens"].is_null() { "none" } else { "reported" };
    assert_eq!(record["usage_source"], source, "{record}");
    assert_eq!(record["input_tokens"].is_null(), record["output_tokens"].is_null(), "{record}");
    record["input_tokens"].as_u64()
}

const RESPONSES: &str = "/v1/responses";
const ASKED: &str = r#"{"model":"m","input":"Hi"}"#;
const ASKED_IN_BACKGROUND: &str = r#"{"model":"m","input":"Hi","background":true}"#;
const STREAMED_IN_BACKGROUND: &str = r#"{"model":"m","input":"Hi","background":true,"stream":true}"#;

#[test]
fn looks_at_a_response_count_nothing() {
    for (said, left_out) in [(json!({ "background": false }), false), (json!({}), true)] {
        let whole = response("completed", said);
        let streamed = json!({ "type": "response.completed", "response": whole });
        let up = responding(move |request| {
            if request.line().contains("stream=true") {
                events(std::slice::from_ref(&streamed))
            } else {
                body(&whole)
            }
        });
        let proxy = proxy().upstream(&up).run();
        assert_eq!(input(&ask(&proxy, "POST", RESPONSES, ASKED)), Some(100));
        for (method, path) in [
            ("GET", "/v1/responses/resp_1"),
            ("GET", "/v1/responses/resp_1?include[]=reasoning.encrypted_content"),
            ("GET", "/v1/responses/resp_1?stream=true&starting_after=3"),
            ("POST", "/v1/responses/resp_1/cancel"),
            ("GET", "/v1/responses/resp_1/"),
        ] {
            let record = ask(&proxy, method, path, "");
            assert_eq!(input(&record), None, "{method} {path}");
            assert_eq!((&record["model"], &record["outcome"]), (&json!("m"), &json!("complete")), "{record}");
            assert_eq!(record["error"].is_string(), left_out, "{record}");
        }
        assert_eq!(input(&ask(&proxy, "GET", "/v1/responses/resp_1/input_items", "")), None);
        assert_eq!(input(&ask(&proxy, "DELETE", "/v1/responses/resp_1", "")), None);
    }
}

#[test]
fn background_response_counts_at_the_first_look_with_usage() {
    // The retrieval that counts: a fetch, a stream, a cancel; and a service that does not repeat
    // `background`.
    for (method, last) in [
        ("GET", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1?stream=true"),
        ("POST", "/v1/responses/resp_1/cancel"),
    ] {
        for repeats in [true, false] {
            let up = responding(move |request| {
                let state = |status| {
                    if repeats { in_background(status) } else { response(status, json!({})) }
                };
                match request.line() {
                    line if line.starts_with("POST /v1/responses ") => body(&state("queued")),
                    line if line.contains("running") => body(&state("in_progress")),
                    line if line.contains("cancel") => body(&state("cancelled")),
                    line if line.contains("stream") => {
                        events(&[json!({ "type": "response.completed", "response": state("completed") })])
                    }
                    _ => body(&state("completed")),
                }
            });
            let proxy = proxy().upstream(&up).run();
            assert_eq!(input(&ask(&proxy, "POST", RESPONSES, ASKED_IN_BACKGROUND)), None);
            assert_eq!(input(&ask(&proxy, "GET", "/v1/responses/resp_1?running", "")), None);
            assert_eq!(input(&ask(&proxy, method, last, "")), Some(100), "{method} {last}");
            for path in ["/v1/responses/resp_1", "/v1/responses/resp%5F1", "/v1/responses/resp_1?stream=true"]
            {
                let record = ask(&proxy, "GET", path, "");
                assert_eq!((input(&record), &record["error"]), (None, &Value::Null), "{path} after {last}");
            }
        }
    }
}

#[test]
fn broken_background_stream_counts_once_it_is_resumed() {
    let up = responding(|request| {
        let created = json!({ "type": "response.created", "response": in_background("in_progress") });
        let delta = json!({ "type": "response.output_text.delta", "delta": "Hi", "sequence_number": 3 });
        let completed = json!({ "type": "response.completed", "response": in_background("completed") });
        if request.line().starts_with("POST") {
            [cut(&[created, delta]), b"oops\r\n".to_vec()].concat()
        } else {
            events(&[delta, completed])
        }
    });
    let proxy = proxy().upstream(&up).run();
    let record = ask(&proxy, "POST", RESPONSES, STREAMED_IN_BACKGROUND);
    assert_eq!((input(&record), &record["events"]), (None, &json!(2)), "nothing is estimated: {record}");
    assert_ne!(record["outcome"], "complete");
    let resumed = "/v1/responses/resp_1?stream=true&starting_after=2";
    assert_eq!(input(&ask(&proxy, "GET", resumed, "")), Some(100));
    assert_eq!(input(&ask(&proxy, "GET", resumed, "")), None);
    assert_eq!(input(&ask(&proxy, "GET", "/v1/responses/resp_1", "")), None);
}

#[test]
fn complete_background_stream_counts_with_its_request() {
    let up = responding(|request| {
        let created = json!({ "type": "response.created", "response": in_background("in_progress") });
        let completed = json!({ "type": "response.completed", "response": in_background("completed") });
        if request.line().starts_with("POST") {
            events(&[created, completed])
        } else {
            body(&in_background("completed"))
        }
    });
    let proxy = proxy().upstream(&up).run();
    assert_eq!(input(&ask(&proxy, "POST", RESPONSES, STREAMED_IN_BACKGROUND)), Some(100));
    assert_eq!(input(&ask(&proxy, "GET", "/v1/responses/resp_1", "")), None);
}

#[test]
fn response_made_elsewhere_counts_only_if_marked_background() {
    let up = responding(|request| match request.line() {
        line if line.contains("background") => body(&in_background("completed")),
        _ => body(&response("completed", json!({}))),
    });
    let proxy = proxy().upstream(&up).run();
    let record = ask(&proxy, "GET", "/v1/responses/resp_2", "");
    assert_eq!(input(&record), None);
    assert!(record["error"].as_str().unwrap().contains("not counted"), "{record}");
    assert_eq!(input(&ask(&proxy, "GET", "/v1/responses/resp_background", "")), Some(100));
    assert_eq!(input(&ask(&proxy, "GET", "/v1/responses/resp_background", "")), None);
}

#[test]
fn azures_paths_lead_to_the_same_response() {
    let up = responding(|request| match request.line() {
        line if line.starts_with("POST /openai/responses?") => body(&in_background("queued")),
        _ => body(&in_background("completed")),
    });
    let azure = format!(
        "[upstreams.az]\nprovider = \"azure\"\nurl = \"http://{}\"\napi_key = {{ value = \"k\" }}\napi_version = \"2025-04-01-preview\"",
        up.address
    );
    let proxy = proxy().tables(&azure).run();
    assert_eq!(input(&ask(&proxy, "POST", RESPONSES, ASKED_IN_BACKGROUND)), None);
    assert_eq!(
        input(&ask(&proxy, "GET", "/openai/responses/resp_1?api-version=2025-04-01-preview", "")),
        Some(100)
    );
    for path in ["/openai/v1/responses/resp_1", "/v1/responses/resp_1", "/openai/responses/resp_1/cancel"] {
        assert_eq!(input(&ask(&proxy, "GET", path, "")), None, "{path}");
    }
}

/// A run with 31 and 5 tokens if it is complete.
fn run(status: &str) -> Value {
    let usage = json!({ "prompt_tokens": 31, "completion_tokens": 5, "total_tokens": 36 });
    json!({ "id": "run_1", "object": "thread.run", "model": "m", "status": status, "event": format!("thread.run.{status}"),
        "usage": (status == "completed").then_some(usage) })
}

fn step() -> Value {
    let usage = json!({ "prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23 });
    json!({ "id": "step_1", "object": "thread.run.step", "status": "completed", "event": "thread.run.step.completed",
        "usage": usage })
}

fn thread() -> Value {
    json!({ "id": "thread_1", "object": "thread", "event": "thread.created" })
}

#[test]
fn a_run_is_counted_by_the_first_look_that_has_its_usage() {
    let up = responding(|request| match request.line() {
        line if line.contains("/steps/") => body(&step()),
        line if line.contains("running") => body(&run("in_progress")),
        line if line.starts_with("GET") => body(&run("completed")),
        _ => body(&run("queued")),
    });
    let proxy = proxy().upstream(&up).run();
    let path = "/v1/threads/thread_1/runs";
    assert_eq!(input(&ask(&proxy, "POST", path, r#"{"assistant_id":"a"}"#)), None);
    assert_eq!(input(&ask(&proxy, "GET", &format!("{path}/run_1?running"), "")), None);
    assert_eq!(input(&ask(&proxy, "GET", &format!("{path}/run_1/steps/step_1"), "")), None);
    assert_eq!(input(&ask(&proxy, "GET", &format!("{path}/run_1"), "")), Some(31));
    for more in ["", "/steps/step_1"] {
        assert_eq!(input(&ask(&proxy, "GET", &format!("{path}/run_1{more}"), "")), None);
    }
}

#[test]
fn a_run_that_stops_for_a_tool_is_counted_where_it_ends() {
    let up = responding(|request| {
        let delta = json!({ "event": "thread.message.delta", "object": "thread.message.delta", "id": "msg_1",
            "delta": { "content": [{ "type": "text", "text": { "value": "Hi" } }] } });
        let done = json!({ "event": "done" });
        match request.line() {
            line if line.starts_with("POST /v1/threads/runs ") => {
                events(&[thread(), run("queued"), delta, step(), run("requires_action"), done])
            }
            line if line.contains("submit_tool_outputs") => events(&[step(), delta, run("completed"), done]),
            _ => body(&run("completed")),
        }
    });
    let proxy = proxy().upstream(&up).run();
    let started = ask(&proxy, "POST", "/v1/threads/runs", r#"{"assistant_id":"a","stream":true}"#);
    assert_eq!(input(&started), None, "the step is a part of the run");
    let path = "/v1/threads/thread_1/runs/run_1";
    let ended =
        ask(&proxy, "POST", &format!("{path}/submit_tool_outputs"), r#"{"tool_outputs":[],"stream":true}"#);
    assert_eq!(input(&ended), Some(31));
    assert_eq!(input(&ask(&proxy, "GET", path, "")), None);
    assert_eq!(input(&ask(&proxy, "POST", path, r#"{"metadata":{}}"#)), None);
}

#[test]
fn batch_counts_at_the_first_look_after_its_end() {
    let batch = |status: &str, tokens: u64| {
        json!({ "id": "batch_1", "object": "batch", "status": status, "model": "m",
            "usage": { "input_tokens": tokens, "output_tokens": tokens / 2, "total_tokens": tokens + tokens / 2 } })
    };
    for last in ["completed", "expired", "cancelled"] {
        let up = responding(move |request| match request.line() {
            line if line.starts_with("POST /v1/batches ") => body(&batch("validating", 0)),
            line if line.contains("running") => body(&batch("in_progress", 40)),
            line if line.contains("cancel") => body(&batch("cancelling", 40)),
            line if line.starts_with("GET /v1/batches ") => {
                body(&json!({ "object": "list", "data": [batch(last, 100)] }))
            }
            _ => body(&batch(last, 100)),
        });
        let proxy = proxy().upstream(&up).run();
        assert_eq!(input(&ask(&proxy, "POST", "/v1/batches", r#"{"input_file_id":"file_1"}"#)), None);
        assert_eq!(input(&ask(&proxy, "GET", "/v1/batches/batch_1?running", "")), None);
        assert_eq!(input(&ask(&proxy, "POST", "/v1/batches/batch_1/cancel", "")), None);
        assert_eq!(input(&ask(&proxy, "GET", "/v1/batches", "")), None);
        let record = ask(&proxy, "GET", "/v1/batches/batch_1", "");
        assert_eq!((input(&record), &record["endpoint"]), (Some(100), &json!("batches")));
        assert_eq!(record["service_tier"], "batch", "its price is another");
        assert_eq!(input(&ask(&proxy, "GET", "/v1/batches/batch_1", "")), None);
    }
}

#[test]
fn a_video_is_counted_once() {
    let video = |status: &str| {
        json!({ "id": "video_1", "object": "video", "status": status, "model": "m",
            "usage": (status == "completed").then(|| json!({ "input_tokens": 7, "output_tokens": 900 })) })
    };
    let up = responding(move |request| match request.line() {
        line if line.starts_with("POST") => body(&video("queued")),
        _ => body(&video("completed")),
    });
    let proxy = proxy().upstream(&up).run();
    assert_eq!(input(&ask(&proxy, "POST", "/v1/videos", r#"{"model":"m","prompt":"Hi"}"#)), None);
    assert_eq!(input(&ask(&proxy, "GET", "/v1/videos/video_1", "")), Some(7));
    assert_eq!(input(&ask(&proxy, "GET", "/v1/videos/video_1", "")), None);
}

#[test]
fn fetches_of_other_results_count_nothing() {
    let up = responding(|_| {
        body(&json!({ "id": "x", "model": "m", "choices": [{ "message": { "content": "Hi" } }],
            "usage": { "prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6 } }))
    });
    let proxy = proxy().upstream(&up).run();
    for (method, path) in [
        ("GET", "/v1/chat/completions/chatcmpl_1"),
        ("POST", "/v1/chat/completions/chatcmpl_1"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/v1/fine_tuning/jobs/ftjob_1"),
        ("POST", "/v1/fine_tuning/jobs/ftjob_1/cancel"),
        ("GET", "/v1/evals/eval_1/runs/run_1"),
        ("GET", "/v1/organization/usage/completions?start_time=1"),
        ("GET", "/v1/unheard-of"),
    ] {
        assert_eq!(input(&ask(&proxy, method, path, "")), None, "{method} {path}");
    }
}

#[test]
fn workers_know_of_each_others_looks() {
    let up = responding(|_| body(&in_background("completed")));
    let proxy = proxy().server("workers = 4").upstream(&up).run();
    let counted = (0..16).filter_map(|_| input(&ask(&proxy, "GET", "/v1/responses/resp_1", ""))).count();
    assert_eq!(counted, 1);
}

#[test]
fn a_restart_knows_what_is_counted() {
    let up = responding(|request| match request.line() {
        line if line.starts_with("POST") => body(&in_background("queued")),
        _ => body(&in_background("completed")),
    });
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let run = || proxy().env("STREAMGAUGE_LEDGER__PATH", ledger.to_str().unwrap()).upstream(&up).run();
    let first = run();
    assert_eq!(input(&ask(&first, "GET", "/v1/responses/resp_2", "")), Some(100));
    assert_eq!(input(&ask(&first, "POST", RESPONSES, ASKED_IN_BACKGROUND)), None);
    first.stop();
    let second = run();
    assert_eq!(input(&ask(&second, "GET", "/v1/responses/resp_2", "")), None);
    assert_eq!(input(&ask(&second, "GET", "/v1/responses/resp_1", "")), Some(100), "it went on meanwhile");
    assert_eq!(input(&ask(&second, "GET", "/v1/responses/resp_1", "")), None);
}

#[test]
fn a_look_whose_client_leaves_is_not_read_on() {
    let up = upstream(|connection| {
        connection.request();
        connection.send(cut(&[json!({ "type": "response.output_text.delta", "delta": "Hi" })]));
        connection.wait_for_close();
    });
    let proxy = proxy().upstream(&up).tables("on_disconnect = \"drain\"").run();
    let mut client = proxy.client();
    client.get("/v1/chat/completions/chatcmpl_1?stream=true").head();
    client.chunk();
    drop(client);
    let record = proxy.record();
    assert_eq!((&record["outcome"], input(&record)), (&json!("client_disconnected"), None));
}
