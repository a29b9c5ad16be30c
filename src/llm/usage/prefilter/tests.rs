use super::*;

const ALL: Wants = Wants { model: true, timings: true, event_type: true };
const NONE: Wants = Wants { model: false, timings: false, event_type: false };

fn worth(payload: &str) -> bool {
    let alone = Prefilter::new(payload.as_bytes()).worth_reading(0, payload.len(), ALL);
    // Payloads among others, each of which would be worth parsing: the search continues where it
    // stopped.
    let line = |text: &str| format!("data: {text}\n\n");
    let stream = line(r#"{"usage":{"#) + &line(payload) + &line(r#"{"usage":{"#);
    let mut prefilter = Prefilter::new(stream.as_bytes());
    let mut at = 6;
    let verdicts = [10, payload.len(), 10].map(|length| {
        let verdict = prefilter.worth_reading(at, at + length, ALL);
        at += length + 8;
        verdict
    });
    assert_eq!(verdicts, [true, alone, true], "{payload}");
    alone
}

#[test]
fn prefilter_accepts_payloads_with_wanted_values() {
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
        r#"{"choices":[],"timings":{"prompt_n":1}}"#,
        r#"{"is_finished":true,"event_type":"stream-end"}"#,
    ] {
        assert!(worth(payload), "{payload}");
    }
}

#[test]
fn prefilter_rejects_deltas() {
    for payload in [
        r#"{"choices":[{"delta":{"content":"hi"}}],"usage":null}"#,
        r#"{"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]}"#,
        r#"{"error":null,"usage": null}"#,
        r#"{"type":"response.output_text.delta","delta":"an error"}"#,
        r#"{"type":"response.completed_not"}"#,
        r#"{"model":""}"#,
        r#"{"event_type":"text-generation","text":"stream-end"}"#,
        r#"{"usage""#,
        r#"{"type":"#,
        "",
    ] {
        assert!(!worth(payload), "{payload}");
    }
}

#[test]
fn prefilter_rejects_the_model_once_it_is_known() {
    let payload = br#"{"model":"gpt-4.1"}"#;
    assert!(!Prefilter::new(payload).worth_reading(0, payload.len(), NONE));
}

#[test]
fn prefilter_finds_words_across_window_ends() {
    let line = |text: &str| format!("data: {text}\n\n");
    let wanted = r#"{"usage":{"prompt_tokens":1}}"#;
    for before in STRIDE - 80..STRIDE + 20 {
        // The first payload is checked, so that a window begins with it; the wanted payload ends in
        // the middle of that window or near it.
        let filler = "x".repeat(before - line("").len() - line("{}").len());
        let stream = line("{}") + &line(&filler) + &line(wanted) + &line("{}");
        let mut prefilter = Prefilter::new(stream.as_bytes());
        assert!(!prefilter.worth_reading(6, 8, NONE));
        let at = line("{}").len() + line(&filler).len() + 6;
        assert!(prefilter.worth_reading(at, at + wanted.len(), NONE), "{before} bytes before it");
        assert!(!prefilter.worth_reading(stream.len() - 4, stream.len() - 2, NONE));
    }
}
