use super::*;
use crate::codec::sse::EventDecoder;

fn decide(stream: &[u8]) -> FirstEvent {
    let (mut decoder, mut decision) = (EventDecoder::new(), FirstEvent::default());
    decoder.push(stream, &mut decision);
    decision
}

fn data(data: &str) -> FirstEvent {
    decide(format!("data: {data}\n\n").as_bytes())
}

const UNDECIDED: &[&str] = &[
    r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress","error":null,"usage":null}}"#,
    r#"{"response":{"error":{"code":"none"}},"type":"response.in_progress"}"#,
    r#"{"type":"response.queued"}"#,
    r#"{"type":"message_start","message":{"usage":{"input_tokens":1}}}"#,
    r#"{"type":"ping"}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}"#,
    r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#,
    r#"{ "choices" : [ ] }"#,
    r#"{"choices":[{"text":"","index":0,"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[]}},{"index":1,"delta":{}}]}"#,
    "",
    "  ",
    "[DONE]",
    " [DONE] ",
];

const BEGUN: &[&str] = &[
    r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#,
    r#"{"choices":[{"delta":{}},{"delta":{"reasoning_content":"a"}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
    r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
    r#"{"choices":[],"usage":{"total_tokens":3}}"#,
    r#"{"choices":[{"text":"a"}]}"#,
    r#"{"type":"response.output_item.added","item":{}}"#,
    r#"{"type":"response.output_text.delta","delta":"a"}"#,
    r#"{"type":"response.completed","response":{}}"#,
    r#"{"type":"content_block_start"}"#,
    r#"{"candidates":[{"content":{}}]}"#,
    "not JSON",
    r#"{"message":"hello"}"#,
    r#"{"id":"c","detail":"high"}"#,
    r#"{"detail":null,"errors":[]}"#,
    r#"{"type":"item","message":"m","code":1}"#,
    r#"{"choices":[{"delta":{"content":"#,
    r#"{"choices":"odd"}"#,
    "[1]",
];

const FAILURES: &[(&str, &str, &str)] = &[
    (r#"{"error":{"code":"rate_limit_exceeded","type":"requests"}}"#, "rate_limit_exceeded", "requests"),
    (r#"{"choices":[],"error":{"code":502,"message":"m"}}"#, "502", ""),
    (r#"{"type":"error","error":{"type":"overloaded_error"}}"#, "", "overloaded_error"),
    (r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#, "server_error", ""),
    (r#"{"type":"error","code":"server_is_overloaded","message":"m"}"#, "server_is_overloaded", "error"),
    (r#"{"detail":"overloaded"}"#, "", ""),
    (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, "", ""),
    (r#"{"success":false,"errors":[{"message":"m"}]}"#, "", ""),
    (r#"{"message":"no credit","code":402}"#, "402", ""),
    (r#"[{"error":{"code":503,"status":"UNAVAILABLE"}}]"#, "503", ""),
];

#[test]
fn announcing_events_decide_nothing() {
    for event in UNDECIDED {
        assert_eq!(data(event), FirstEvent::Undecided, "{event}");
    }
    assert_eq!(decide(b": comment\n\nevent: ping\ndata: {}\n\n\n\nretry: 5\n\n"), FirstEvent::Undecided);
}

#[test]
fn output_usage_and_ends_release() {
    for event in BEGUN {
        assert_eq!(data(event), FirstEvent::Begun, "{event}");
    }
}

#[test]
fn errors_in_every_form_are_found() {
    for (event, code, kind) in FAILURES {
        let FirstEvent::Failed(error) = data(event) else { panic!("{event}") };
        assert_eq!((&*error.code, &*error.kind), (*code, *kind), "{event}");
    }
    let FirstEvent::Failed(error) = decide(b"event: error\ndata: overloaded\n\n") else { panic!() };
    assert!(error.is_empty());
    let FirstEvent::Failed(error) = decide(b"error: {\"code\":500,\"message\":\"m\"}\n\n") else { panic!() };
    assert_eq!(error.code, "500");
}

#[test]
fn first_event_that_decides_counts_behind_any_number_of_others() {
    for (last, is_failed) in [(FAILURES[3].0, true), (BEGUN[7], false)] {
        let mut stream = String::from(": comment\n\n");
        UNDECIDED.iter().for_each(|event| stream += &format!("data: {event}\n\n"));
        stream += &format!("data: {last}\n\n");
        stream += &format!("data: {}\n\n", if is_failed { BEGUN[0] } else { FAILURES[0].0 });
        assert_eq!(matches!(decide(stream.as_bytes()), FirstEvent::Failed(_)), is_failed, "{last}");
    }
}

#[test]
fn error_is_found_behind_60_kb_of_instructions() {
    let instructions = "repeat \\\"this\\\" ".repeat(4_000);
    let stream = format!(
        "event: response.created\ndata: {{\"response\":{{\"instructions\":\"{instructions}\"}},\"type\":\"response.created\"}}\n\n\
         event: error\ndata: {{\"type\":\"error\",\"code\":\"server_error\"}}\n\n"
    );
    assert!((60_000..FIRST_EVENT_LIMIT).contains(&stream.len()));
    assert!(matches!(decide(stream.as_bytes()), FirstEvent::Failed(error) if error.code == "server_error"));
}

#[test]
fn every_split_gives_the_same_decision() {
    let events = [UNDECIDED[0], UNDECIDED[5]];
    for last in [FAILURES[2].0, FAILURES[3].0, BEGUN[0]] {
        let mut stream = String::from("\u{feff}: c\r\n\r\nevent: ping\r\ndata: {}\r\n\r\n");
        events.iter().for_each(|event| stream += &format!("data: {event}\n\n"));
        stream += &format!("data: {last}\n\n");
        let whole = decide(stream.as_bytes());
        assert!(whole.is_decided());
        for split in 0..=stream.len() {
            let (mut decoder, mut decision) = (EventDecoder::new(), FirstEvent::default());
            decoder.push(&stream.as_bytes()[..split], &mut decision);
            assert!(!decision.is_decided() || split + 1 >= stream.len(), "the event is not whole");
            decoder.push(&stream.as_bytes()[split..], &mut decision);
            assert_eq!(decision, whole, "split at {split}");
        }
        let (mut decoder, mut decision) = (EventDecoder::new(), FirstEvent::default());
        stream.bytes().for_each(|byte| decoder.push(&[byte], &mut decision));
        assert_eq!(decision, whole, "byte by byte");
    }
}
