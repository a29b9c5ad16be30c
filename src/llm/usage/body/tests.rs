use super::*;
use crate::llm::usage::Usage;

fn meter(pieces: &[&[u8]]) -> Tally {
    let mut meter = BodyMeter::new();
    pieces.iter().for_each(|piece| meter.push(piece));
    meter.finish()
}

/// A body's tally, the same at every split.
fn tally(body: &str) -> Tally {
    let body = body.as_bytes();
    let whole = meter(&[body]);
    assert_eq!(meter(&body.chunks(1).collect::<Vec<_>>()), whole);
    for at in 0..body.len() {
        assert_eq!(meter(&[&body[..at], &body[at..]]), whole, "{} at {at}", body.escape_ascii());
    }
    whole
}

fn input(body: &str) -> Option<u64> {
    tally(body).usage.and_then(|usage| usage.input_tokens)
}

#[test]
fn body_usage_is_read_at_each_place() {
    for body in [
        r#"{"usage":{"prompt_tokens":1}}"#,
        r#"{"response":{"usage":{"prompt_tokens":1}}}"#,
        r#"{"message":{"usage":{"prompt_tokens":1}}}"#,
        r#"{"choices":[{},{"usage":{"prompt_tokens":1}}]}"#,
        r#"{"x_groq":{"usage":{"prompt_tokens":1}}}"#,
    ] {
        assert_eq!(input(body), Some(1), "{body}");
    }
}

#[test]
fn body_usage_is_read_nowhere_else() {
    for body in [
        r#"{"choices":[{"delta":{"provider_metadata":{"anthropic":{"usage":{"prompt_tokens":1}}}}}]}"#,
        r#"{"x_groq":{"usage_breakdown":{"models":[{"usage":{"prompt_tokens":1}}]}}}"#,
        r#"{"tool_usage":{"prompt_tokens":1},"copilot_usage":{"prompt_tokens":1}}"#,
        r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]}"#,
        r#"{"response":{"output":[{"usage":{"prompt_tokens":1}}]}}"#,
        r#"{"data":{"usage":{"prompt_tokens":1}}}"#,
        r#"{"choices":{"usage":{"prompt_tokens":1}}}"#,
        r#"{"choices":[[{"usage":{"prompt_tokens":1}}]]}"#,
        r#"{"usage":[{"prompt_tokens":1}]}"#,
        r#"[{"usage":{"prompt_tokens":1}}]"#,
        r#"{"us\u0061ge":{"prompt_tokens":1}}"#,
    ] {
        assert_eq!(tally(body).usage, None, "{body}");
    }
}

#[test]
fn body_usage_of_the_best_place_wins_in_any_order() {
    let worse = r#""x_groq":{"usage":{"prompt_tokens":2}},"choices":[{"usage":{"prompt_tokens":3}}]"#;
    assert_eq!(input(&format!(r#"{{{worse},"usage":{{"prompt_tokens":1}}}}"#)), Some(1));
    assert_eq!(input(&format!(r#"{{"usage":null,{worse}}}"#)), Some(3));
    assert_eq!(input(&format!(r#"{{"usage":{{"cost":1}},{worse}}}"#)), Some(3));
}

#[test]
fn body_last_of_equal_keys_counts() {
    assert_eq!(input(r#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2}}"#), Some(2));
    assert_eq!(input(r#"{"usage":{"prompt_tokens":1},"usage":null}"#), None);
    assert_eq!(input(r#"{"response":{"usage":{"prompt_tokens":1}},"response":{}}"#), None);
}

#[test]
fn body_model_is_the_first_nonempty_one() {
    let model = |body: &str| tally(body).model.map(String::from);
    assert_eq!(model(r#"{"response":{"model":"b"},"model":"a"}"#).as_deref(), Some("a"));
    assert_eq!(model(r#"{"model":"","message":{"model":"org\/c-\u00e9"}}"#).as_deref(), Some("org/c-é"));
    assert_eq!(model(r#"{"model":null,"choices":[{"model":"d"}]}"#), None);
    assert_eq!(model(&format!(r#"{{"model":"{}"}}"#, "m".repeat(300))), None);
}

#[test]
fn body_accepts_leading_blank_lines() {
    assert_eq!(input("\n\n\n    \n{\"usage\":{\"prompt_tokens\":1}}\n"), Some(1));
}

#[test]
fn body_that_is_not_json_has_no_usage() {
    for body in [
        "1\n00:00:00,000 --> 00:00:04,000\nHello.\n",
        "data: {\"usage\":{\"prompt_tokens\":1}}\n\n",
        "{\"usage\":{\"prompt_tokens\":1}} trailing",
        "{\"usage\":{\"prompt_tokens\":1},}",
        "<html></html>",
        "",
    ] {
        let skipped = u64::from(body.starts_with('{'));
        assert_eq!(tally(body), Tally { skipped, ..Tally::default() }, "{body}");
    }
}

#[test]
fn body_that_was_cut_off_keeps_complete_values() {
    let cut = tally(r#"{"model":"m","usage":{"prompt_tokens":1},"choices":[{"mess"#);
    assert_eq!(cut.usage.and_then(|usage| usage.input_tokens), Some(1));
    assert!(!cut.terminal);
    assert_eq!(tally(r#"{"model":"m","usage":{"prompt_tokens":1"#).usage, None);
}

#[test]
fn body_error_text_is_read_in_every_form() {
    for (body, expected) in [
        (r#"{"error":{"message":"No such model","type":"x","code":"y"}}"#, "No such model"),
        (r#"{"error":{"message":"","code":429}}"#, "429"),
        (r#"{"error":"Input validation error","error_type":"validation"}"#, "Input validation error"),
        (r#"{"error":["Error in `stream`"]}"#, r#"["Error in `stream`"]"#),
        (r#"[{"error":{"code":400,"message":"API key not valid"}}]"#, "API key not valid"),
        (r#"{"object":"error","message":"Only these models","code":400}"#, "Only these models"),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, "Overloaded"),
        (r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}"#, "m"),
    ] {
        assert_eq!(tally(body).error.as_deref(), Some(expected), "{body}");
    }
    for body in [
        r#"{"status":"completed","error":null}"#,
        r#"{"error":{}}"#,
        r#"{"error":false}"#,
        r#"{"message":"hi"}"#,
    ] {
        assert_eq!(tally(body).error, None, "{body}");
    }
}

#[test]
fn body_error_text_is_cut_to_its_limit() {
    let body = format!(r#"{{"error":{{"message":"{}"}}}}"#, "é".repeat(2000));
    let error = tally(&body).error.unwrap();
    assert_eq!(*error, *"é".repeat(512));
}

#[test]
fn body_with_an_error_keeps_its_usage() {
    let both = tally(r#"{"error":{"message":"m"},"usage":{"prompt_tokens":1}}"#);
    assert!(both.error.is_some() && both.usage.is_some());
}

#[test]
fn body_of_any_size_is_not_buffered() {
    let mut meter = BodyMeter::new();
    meter.push(b"{\"data\":[{\"b64_json\":\"");
    let heap = |meter: &BodyMeter| format!("{meter:?}").len();
    let before = heap(&meter);
    (0..10_000).for_each(|_| meter.push(&[b'A'; 1024]));
    assert_eq!(heap(&meter), before, "nothing of the image is in it");
    meter.push(b"\"}],\"usage\":{\"input_tokens\":50,\"input_tokens_details\":{\"image_tokens\":40}}}");
    let usage = Usage { input_tokens: Some(50), ..Usage::default() };
    assert_eq!(meter.finish().usage, Some(usage));
}

#[test]
fn body_usage_beyond_its_limit_is_skipped() {
    let body = format!(r#"{{"usage":{{"prompt_tokens":1,"details":"{}"}}}}"#, "x".repeat(20_000));
    let whole = meter(&[body.as_bytes()]);
    assert_eq!((whole.usage, whole.skipped), (None, 1));
    assert_eq!(meter(&body.as_bytes().chunks(7).collect::<Vec<_>>()), whole);
}

/// The tally of a body whose output is kept, the same at every split.
fn kept(body: &str) -> Tally {
    let meter = |pieces: &[&[u8]]| {
        let mut meter = BodyMeter::new();
        meter.keep_output(&Room::new(1 << 20));
        pieces.iter().for_each(|piece| meter.push(piece));
        meter.finish()
    };
    let body = body.as_bytes();
    let whole = meter(&[body]);
    assert_eq!(meter(&body.chunks(1).collect::<Vec<_>>()), whole);
    for at in 0..body.len() {
        assert_eq!(meter(&[&body[..at], &body[at..]]), whole, "{} at {at}", body.escape_ascii());
    }
    whole
}

fn texts(tally: &Tally) -> Option<String> {
    let output = tally.output.as_ref()?;
    Some(
        output
            .texts()
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
            .collect::<Vec<_>>()
            .join("|"),
    )
}

#[test]
fn body_without_usage_keeps_its_text() {
    let choices = r#""choices":[{"message":{"reasoning":"hm","reasoning_content":"hm","content":"a\"b"}}]"#;
    let text = Some("hm|a\\\"b".to_owned());
    for rest in
        ["", r#","usage":null"#, r#","usage":{}"#, r#","usage":{"cost":1}"#, r#","timings":{"prompt_n":1}"#]
    {
        let tally = kept(&format!("{{{choices}{rest}}}"));
        assert_eq!((texts(&tally), tally.usage), (text.clone(), None), "{rest}");
    }
    // The usage of a list counts only in completions, and a step's never.
    let step = format!(r#"{{{choices},"object":"thread.run.step","usage":{{"prompt_tokens":1}}}}"#);
    assert_eq!(texts(&kept(&step)), text);
    assert_eq!(kept(r#"[{"usage":{"prompt_tokens":1}}]"#).output.map(|output| output.is_empty()), Some(true));
}

#[test]
fn body_with_usage_keeps_no_text() {
    let choices = r#""choices":[{"message":{"content":"text"}}]"#;
    for usage in [
        r#""usage":{"prompt_tokens":1}"#,
        r#""x_groq":{"usage":{"prompt_tokens":1}}"#,
        r#""timings":{"prompt_n":1,"predicted_n":2}"#,
    ] {
        for body in [format!("{{{choices},{usage}}}"), format!("{{{usage},{choices}}}")] {
            assert!(kept(&body).usage.is_some(), "{body}");
            assert_eq!(kept(&body).output, None, "{body}");
            // A refused body has no usage, and its text is not estimated in place of it.
            let refused = kept(&format!("{body}x"));
            assert_eq!(refused, Tally { skipped: 1, ..Tally::default() }, "{body}");
        }
    }
    // Without usage the text before the refused byte is kept.
    assert_eq!(texts(&kept(&format!("{{{choices}}}x"))).as_deref(), Some("text"));
}

#[test]
fn body_counts_no_calls_that_failed() {
    for (item, calls) in [
        (r#"{"type":"web_search_call","status":"completed"}"#, r#"{"web_search":1}"#),
        (r#"{"type":"web_search_call"}"#, r#"{"web_search":1}"#),
        (r#"{"status":"failed","type":"web_search_call","action":{"type":"search"}}"#, "{}"),
        (r#"{"type":"file_search_call","status":"failed"}"#, "{}"),
        (r#"{"type":"web_search_call","status":"failed","status":"completed"}"#, r#"{"web_search":1}"#),
    ] {
        let text = format!(r#"{{"output":[{item},{{"type":"message"}}]}}"#);
        let counted = tally(&text).tool_calls().unwrap_or_default();
        assert_eq!(counted.to_string(), calls, "{text}");
    }
}
