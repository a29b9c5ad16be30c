use super::*;

fn worth(payload: &str) -> bool {
    let alone = Watch::new(payload.as_bytes()).worth_reading(0, payload.len(), true);
    // Among others, each of which would be worth it: the search goes on where it was.
    let line = |text: &str| format!("data: {text}\n\n");
    let stream = line(r#"{"usage":{"#) + &line(payload) + &line(r#"{"usage":{"#);
    let mut watch = Watch::new(stream.as_bytes());
    let mut at = 6;
    let verdicts = [10, payload.len(), 10].map(|length| {
        let verdict = watch.worth_reading(at, at + length, true);
        at += length + 8;
        verdict
    });
    assert_eq!(verdicts, [true, alone, true], "{payload}");
    alone
}

#[test]
fn a_payload_with_something_wanted_is_worth_reading() {
    for payload in [
        r#"{"usage":{"prompt_tokens":1}}"#,
        r#"{"usage" : { }}"#,
        r#"{"usage":null,"x_groq":{"usage":{}}}"#,
        r#"{"error":{"message":"m"}}"#,
        r#"{"error":"m"}"#,
        r#"{"type":"error"}"#,
        r#"{"type": "response.completed"}"#,
        r#"{"item":{"type":"message"},"type":"message_stop"}"#,
        r#"{"model":"gpt-4.1"}"#,
    ] {
        assert!(worth(payload), "{payload}");
    }
}

#[test]
fn a_delta_is_not() {
    for payload in [
        r#"{"choices":[{"delta":{"content":"hi"}}],"usage":null}"#,
        r#"{"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]}"#,
        r#"{"error":null,"usage": null}"#,
        r#"{"type":"response.output_text.delta","delta":"an error"}"#,
        r#"{"type":"response.completed_not"}"#,
        r#"{"model":""}"#,
        r#"{"usage""#,
        r#"{"type":"#,
        "",
    ] {
        assert!(!worth(payload), "{payload}");
    }
}

#[test]
fn a_model_that_is_known_is_not_wanted() {
    let payload = br#"{"model":"gpt-4.1"}"#;
    assert!(!Watch::new(payload).worth_reading(0, payload.len(), false));
}
