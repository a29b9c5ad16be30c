use super::*;

fn meter(messages: &[&str]) -> Tally {
    let mut meter = SessionMeter::new();
    for message in messages {
        meter.data(message.as_bytes());
        meter.message_end();
    }
    meter.into_tally()
}

const CREATED: &str = r#"{"type":"session.created","event_id":"e","session":{"object":"realtime.session","model":"gpt-realtime","voice":"alloy"}}"#;
const BEGUN: &str = r#"{"type":"response.created","response":{"object":"realtime.response","status":"in_progress","usage":null}}"#;
const DELTA: &str = r#"{"type":"response.output_audio.delta","delta":"UklGRg=="}"#;
const DONE: &str = r#"{"type":"response.done","response":{"status":"completed","output":[],"usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,"input_token_details":{"text_tokens":119,"audio_tokens":13,"image_tokens":0,"cached_tokens":64,"cached_tokens_details":{"text_tokens":64,"audio_tokens":0}},"output_token_details":{"text_tokens":30,"audio_tokens":91}}}}"#;
const HEARD: &str = r#"{"type":"conversation.item.input_audio_transcription.completed","item_id":"i","content_index":0,"transcript":"Hi","usage":{"type":"tokens","total_tokens":26,"input_tokens":17,"input_token_details":{"text_tokens":0,"audio_tokens":17},"output_tokens":9}}"#;
const HEARD_SECONDS: &str = r#"{"type":"conversation.item.input_audio_transcription.completed","transcript":"Hi","usage":{"type":"duration","seconds":2.5}}"#;

#[test]
fn session_adds_up_responses_with_all_details() {
    let tally = meter(&[CREATED, BEGUN, DELTA, DONE, BEGUN, DONE]);
    let usage = tally.usage.unwrap();
    assert_eq!(
        (usage.input_tokens, usage.output_tokens, usage.total_tokens),
        (Some(264), Some(242), Some(506))
    );
    assert_eq!((usage.cached_input_tokens, usage.input_audio_tokens), (Some(128), Some(26)));
    assert_eq!((usage.output_audio_tokens, usage.reasoning_tokens), (Some(182), None));
    assert_eq!((tally.events, tally.usage_reports), (2, 2), "responses, and reports of usage");
    assert_eq!(tally.model.as_deref(), Some("gpt-realtime"));
    assert!(tally.terminal);
    assert_eq!((tally.skipped, tally.error), (0, None));
}

#[test]
fn session_reads_messages_cut_anywhere() {
    let whole = meter(&[CREATED, BEGUN, DELTA, DONE]);
    for at in 0..DONE.len() {
        let mut meter = SessionMeter::new();
        for message in [CREATED, BEGUN, DELTA] {
            meter.data(message.as_bytes());
            meter.message_end();
        }
        meter.data(&DONE.as_bytes()[..at]);
        meter.data(&DONE.as_bytes()[at..]);
        meter.message_end();
        assert_eq!(meter.into_tally(), whole, "cut at {at}");
    }
}

#[test]
fn session_counts_transcription_tokens_only_without_responses() {
    let usage = meter(&[HEARD, HEARD_SECONDS, DONE, HEARD]).usage.unwrap();
    assert_eq!((usage.input_tokens, usage.billed_seconds), (Some(132), Some(2.5)));
    let usage = meter(&[HEARD, HEARD_SECONDS, HEARD_SECONDS, HEARD]).usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.total_tokens), (Some(34), Some(18), Some(52)));
    assert_eq!((usage.input_audio_tokens, usage.billed_seconds), (Some(34), Some(5.0)));
}

#[test]
fn session_with_a_response_under_way_is_not_terminal() {
    assert!(!meter(&[CREATED, BEGUN]).terminal);
    assert!(!meter(&[BEGUN, DONE, BEGUN, DELTA]).terminal);
    assert!(meter(&[CREATED]).terminal);
    assert!(meter(&[DONE]).terminal, "its beginning was before our time");
}

#[test]
fn session_ignores_usage_in_other_messages_and_texts() {
    for message in [
        r#"{"type":"response.output_item.done","usage":{"input_tokens":1},"response":{"usage":{"input_tokens":1}}}"#,
        r#"{"type":"session.updated","session":{"usage":{"input_tokens":1}}}"#,
        r#"{"type":"response.text.delta","delta":"{\"type\":\"response.done\",\"response\":{\"usage\":{\"input_tokens\":1}}}"}"#,
        "not JSON",
        r#"{"type":"response.done","response":{"usage":{"input_tokens":1}"#,
    ] {
        let tally = meter(&[message]);
        assert_eq!(tally.usage, None, "{message}");
        assert_eq!(tally.events, 0);
    }
}

#[test]
fn session_reports_the_first_token_once() {
    let mut meter = SessionMeter::new();
    let mut first = |message: &str| {
        meter.data(message.as_bytes());
        meter.message_end().first_token
    };
    assert!(!first(CREATED));
    assert!(first(DELTA));
    assert!(!first(DELTA));
}

#[test]
fn session_keeps_an_error() {
    let error = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no such item"}}"#;
    assert_eq!(meter(&[CREATED, error, DONE]).error.as_deref(), Some("no such item"));
}

#[test]
fn step_of_an_error_has_the_id_of_the_refused_message() {
    for (error, id) in [
        (r#"{"type":"error","event_id":"event_1","error":{"message":"no","event_id":"mine"}}"#, Some("mine")),
        (r#"{"type":"error","event_id":"event_1","error":{"message":"no","event_id":null}}"#, None),
        (r#"{"type":"error","event_id":"event_1"}"#, None),
        (r#"{"error":{"event_id":"mine"},"type":"error","error":{"code":"c"}}"#, None),
    ] {
        let mut meter = SessionMeter::new();
        meter.keep_steps();
        meter.data(error.as_bytes());
        meter.message_end();
        assert_eq!(meter.take_steps(), [TurnStep::Refused(id.map(Into::into))], "{error}");
    }
}

#[test]
fn session_ignores_messages_that_are_not_json() {
    for message in [&b""[..], b"{\0\x01", b"RIFF\xff}", b"[DONE]"] {
        let mut meter = SessionMeter::new();
        meter.data(message);
        assert_eq!(meter.message_end().events, 1, "its time is noted");
        assert_eq!(meter.into_tally().events, 0);
    }
}

#[test]
fn session_counts_a_response_once_whatever_ends_it() {
    let done = COMPLETED.replace("response.completed", "response.done");
    let without = COMPLETED.replace("\"usage\":{", "\"usage\":null,\"other\":{");
    let once = meter(&[BEGUN, COMPLETED]);
    for messages in [
        [BEGUN, COMPLETED, &done],
        [BEGUN, &done, COMPLETED],
        [BEGUN, COMPLETED, &without],
        [BEGUN, &without, &done],
    ] {
        let tally = meter(&messages);
        assert_eq!((tally.usage, tally.events, tally.terminal), (once.usage, 1, true), "{messages:?}");
        assert_eq!(tally.usage_reports, 1, "{messages:?}");
    }
    let other = done.replace("resp_1", "resp_2");
    assert_eq!(meter(&[COMPLETED, &other, COMPLETED, &other]).events, 2);
}

#[test]
fn session_forgets_ids_of_responses_long_past() {
    let mut meter = SessionMeter::new();
    for turn in 0..10_000 {
        meter.data(COMPLETED.replace("resp_1", &format!("resp_{turn}")).as_bytes());
        meter.message_end();
    }
    assert_eq!(meter.ended.len(), REMEMBERED);
    assert_eq!(meter.into_tally().events, 10_000);
}

#[test]
fn session_has_failed_if_no_response_succeeded() {
    const FAILED: &str = r#"{"type":"response.failed","response":{"id":"f","status":"failed","error":{"code":"rate_limit_exceeded","message":"slow"}}}"#;
    const DONE_FAILED: &str = r#"{"type":"response.done","response":{"id":"d","status":"failed","status_details":{"type":"failed","error":{"type":"server_error","message":"broke"}}}}"#;
    const REFUSED: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#;
    let failure = |messages: &[&str]| {
        let mut meter = SessionMeter::new();
        for message in messages {
            meter.data(message.as_bytes());
            meter.message_end();
        }
        let failure = meter.failure();
        (failure, meter.into_tally().error)
    };
    for (messages, cause, text) in [
        (&[BEGUN, FAILED][..], Some(Cause::Rate), Some("slow")),
        (&[BEGUN, DONE_FAILED], Some(Cause::Upstream), Some("broke")),
        (&[REFUSED, FAILED], Some(Cause::Request), Some("no")),
        (&[FAILED, BEGUN, COMPLETED], None, Some("slow")),
        (&[COMPLETED, REFUSED], None, Some("no")),
        (&[HEARD, REFUSED], None, Some("no")),
        (&[BEGUN, COMPLETED], None, None),
        (&[CREATED], None, None),
    ] {
        assert_eq!(failure(messages), (cause, text.map(Into::into)), "{messages:?}");
    }
}

const COMPLETED: &str = r#"{"type":"response.completed","sequence_number":9,"response":{"id":"resp_1","model":"gpt-5","status":"completed","error":null,"usage":{"input_tokens":132,"input_tokens_details":{"cached_tokens":64},"output_tokens":121,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":253}}}"#;

#[test]
fn session_adds_up_responses_whatever_their_end() {
    let incomplete = COMPLETED.replace("completed", "incomplete").replace("resp_1", "resp_2");
    let failed = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"it broke"},"usage":null}}"#;
    let tally = meter(&[BEGUN, COMPLETED, BEGUN, &incomplete, BEGUN, failed]);
    let usage = tally.usage.unwrap();
    assert_eq!(
        (usage.input_tokens, usage.output_tokens, usage.total_tokens),
        (Some(264), Some(242), Some(506))
    );
    assert_eq!((usage.cached_input_tokens, usage.reasoning_tokens), (Some(128), Some(10)));
    assert_eq!((tally.events, tally.usage_reports, tally.terminal), (3, 2, true));
    assert_eq!((tally.model.as_deref(), tally.error.as_deref()), (Some("gpt-5"), Some("it broke")));
    // Several responses at once, of which one has not ended.
    assert!(!meter(&[BEGUN, BEGUN, COMPLETED]).terminal);
    let other = COMPLETED.replace("resp_1", "resp_2");
    assert!(meter(&[BEGUN, BEGUN, COMPLETED, &other]).terminal);
    assert!(!meter(&[BEGUN, BEGUN, COMPLETED, COMPLETED]).terminal, "one of them ended twice");
}

#[test]
fn requested_model_is_the_first_one_named_at_any_cut() {
    let asked = |messages: &[&str], at: usize| {
        let mut asked = AskedModel::default();
        for message in messages {
            let (begin, end) = message.as_bytes().split_at(at.min(message.len()));
            asked.data(begin);
            asked.data(end);
            asked.message_end();
        }
        asked.into_model()
    };
    let create = r#"{"type":"response.create","input":[{"model":"no"}],"model":"gpt-5","store":false}"#;
    for at in 0..create.len() {
        assert_eq!(
            asked(&[create, r#"{"type":"response.create","model":"later"}"#], at).as_deref(),
            Some("gpt-5")
        );
    }
    for (messages, model) in [
        (&[r#"{"type":"response.create"}"#, create][..], Some("gpt-5")),
        (&[r#"{"model":"first","type":"response.create"}"#, create], Some("first")),
        (&[r#"{"type":"session.update","model":"no"}"#, "not JSON"], None),
    ] {
        assert_eq!(asked(messages, 9).as_deref(), model, "{messages:?}");
    }
}
