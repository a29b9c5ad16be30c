use super::*;
use crate::codec::sse::LIMIT;
use crate::llm::usage::Usage;

/// A stream of payloads without types.
fn chat(payloads: &[&str]) -> String {
    payloads.iter().map(|payload| format!("data: {payload}\n\n")).collect()
}

fn tally(stream: &str) -> Tally {
    let mut meter = StreamMeter::new();
    meter.push(stream.as_bytes());
    let whole = meter.into_tally();
    let mut meter = StreamMeter::new();
    stream.as_bytes().chunks(1).for_each(|byte| {
        meter.push(byte);
    });
    assert_eq!(*meter.tally(), whole, "byte by byte");
    whole
}

/// The index of the payload with the first token.
fn first_token(payloads: &[&str]) -> Option<usize> {
    let mut meter = StreamMeter::new();
    let firsts: Vec<usize> =
        (0..payloads.len()).filter(|&i| meter.push(chat(&payloads[i..=i]).as_bytes()).first_token).collect();
    assert!(firsts.len() <= 1);
    firsts.first().copied()
}

const HI: &str = r#"{"model":"m","choices":[{"delta":{"content":"Hi"}}],"usage":null}"#;

#[test]
fn stream_last_usage_replaces_the_one_before() {
    let tally = tally(&chat(&[
        HI,
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":5}}"#,
        r#"{"choices":[],"usage":{}}"#,
        r#"{"choices":[],"usage":null,"moderation":{}}"#,
        "[DONE]",
    ]));
    assert_eq!(
        tally.usage,
        Some(Usage { input_tokens: Some(1), output_tokens: Some(5), ..Usage::default() })
    );
    assert_eq!((tally.usage_reports, tally.events), (2, 6));
}

#[test]
fn stream_merges_anthropic_usage_field_by_field() {
    let tally = tally(concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"model":"claude","usage":{"input_tokens":34824,"#,
        r#""cache_read_input_tokens":0,"cache_creation_input_tokens":7,"output_tokens":9}}}"#,
        "\n\nevent: message_delta\n",
        r#"data: {"type":"message_delta","usage":{"input_tokens":3883,"cache_read_input_tokens":30464,"output_tokens":2}   }"#,
        "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    ));
    let usage = Usage {
        input_tokens: Some(3883),
        output_tokens: Some(2),
        cached_input_tokens: Some(30464),
        cache_write_input_tokens: Some(7),
        ..Usage::default()
    };
    assert_eq!(tally.usage, Some(usage));
    assert_eq!(tally.model.as_deref(), Some("claude"));
    assert!(tally.terminal);
}

#[test]
fn stream_reads_a_late_model() {
    let empty = r#"{"choices":[],"model":"","prompt_filter_results":[]}"#;
    let content = r#"{"model":"","choices":[{"delta":{"content":"Hi"}}]}"#;
    assert_eq!(tally(&chat(&[empty, content, content, HI])).model.as_deref(), Some("m"));
}

#[test]
fn stream_reads_usage_in_any_event() {
    let finish = r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#;
    let error = r#"{"choices":[{}],"error":{"message":"cut"},"usage":{"prompt_tokens":2}}"#;
    let tally = tally(&chat(&[HI, finish, error]));
    assert_eq!(tally.usage.and_then(|usage| usage.input_tokens), Some(2));
    assert_eq!(tally.error.as_deref(), Some("cut"));
    assert!(!tally.terminal, "nothing said that it is whole");
}

#[test]
fn stream_ignores_usage_inside_of_texts() {
    let decoy = r#"{"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":1}"}}],"usage":null}"#;
    let nested = r#"{"choices":[{"delta":{"provider_metadata":{"usage":{"prompt_tokens":1}}}}]}"#;
    let broken = r#"{"usage":{"prompt_tokens":1},"choices":["#;
    assert_eq!(tally(&chat(&[HI, decoy, nested, broken, r#""usage":{"prompt_tokens":1}"#])).usage, None);
}

#[test]
fn stream_joins_json_of_several_data_lines() {
    let stream = chat(&[HI]) + "data: {\"usage\":\ndata: {\"prompt_tokens\":\ndata: 4}}\n\n";
    assert_eq!(tally(&stream).usage.and_then(|usage| usage.input_tokens), Some(4));
}

#[test]
fn stream_recognises_every_terminal_event() {
    for end in [
        "data: [DONE]\n\n",
        "data:[DONE] \r\n\r\n",
        "event: done\ndata: [DONE]\n\n",
        "event: response.incomplete\ndata: {}\n\n",
        "data: {\"response\":{},\"type\":\"response.failed\"}\n\n",
        "data: {\"type\": \"transcript.text.done\"}\r\r",
        "data: {\"type\":\"speech.audio.done\"}\n\n",
        "data: {\"type\":\"image_edit.completed\"}\n\n",
    ] {
        let mut meter = StreamMeter::new();
        assert!(!meter.push(chat(&[HI]).as_bytes()).terminal);
        assert!(meter.push(end.as_bytes()).terminal, "{end}");
        assert!(meter.tally().terminal);
    }
    let others =
        ["event: response.created\ndata: {}\n\n", "data: {\"type\":\"response.output_text.done\"}\n\n"];
    assert!(!tally(&others.concat()).terminal);
}

#[test]
fn stream_first_token_is_the_first_content() {
    let role = r#"{"choices":[{"delta":{"role":"assistant","content":"","reasoning_content":null,"tool_calls":[]}}]}"#;
    for content in [
        r#"{"choices":[{"delta":{"content":"x"}}]}"#,
        r#"{"choices":[{"delta":{"content":null,"reasoning_content":"x"}}]}"#,
        r#"{"choices":[{"delta":{"reasoning":"x"}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
        r#"{"choices":[{"text":"x"}]}"#,
        r#"{"type":"response.output_text.delta","delta":"x"}"#,
        r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}"#,
        r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}"#,
        r#"{"type":"speech.audio.delta","audio":"AAAA"}"#,
        r#"{"type":"image_generation.partial_image","b64_json":"AAAA"}"#,
    ] {
        assert_eq!(first_token(&[role, content, HI]), Some(1), "{content}");
    }
    for none in [
        r#"{"choices":[],"prompt_filter_results":[{}]}"#,
        r#"{"type":"response.created","response":{"model":"m","output":[]}}"#,
        r#"{"type":"response.output_item.added","item":{"content":[]}}"#,
        r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
        r#"{"type":"ping"}"#,
    ] {
        assert_eq!(first_token(&[none, HI]), Some(1), "{none}");
    }
}

#[test]
fn stream_error_is_read_in_every_form() {
    for (stream, expected) in [
        ("data: {\"error\":{\"message\":\"m\",\"code\":400}}\n\n", "m"),
        ("event: error\ndata: {\"error\":{\"message\":\"m\"}}\n\n", "m"),
        ("event: error\ndata: {\"message\":\"m\",\"code\":1}\n\n", "m"),
        ("event: error\ndata: overloaded \n\n", "overloaded"),
        ("data: {\"type\":\"error\",\"code\":\"c\",\"message\":\"m\"}\n\n", "m"),
        ("data: {\"object\":\"error\",\"message\":\"m\"}\n\n", "m"),
        ("data:{\"error\":\"m\",\"error_type\":\"x\"}\n\n", "m"),
        ("error: {\"code\":500,\"message\":\"m\"}\n", "m"),
        ("error: {\"error\":{\"message\":\"m\"}}\n\n", "m"),
        ("error: m\n", "m"),
        ("data: {\"type\":\"error\",\"message\":\"m\"}\n\ndata: {\"error\":\"later\"}\n\n", "m"),
    ] {
        assert_eq!(tally(&(chat(&[HI]) + stream)).error.as_deref(), Some(expected), "{stream}");
    }
    assert_eq!(tally(&chat(&[HI, r#"{"type":"response.created","response":{"error":null}}"#])).error, None);
}

#[test]
fn stream_reads_oversize_events_as_they_pass() {
    let image = |end: &str| {
        format!(
            "event: image_generation.completed\ndata: {{\"type\":\"image_generation.completed\",\"b64_json\":\"{}\",\
             \"usage\":{{\"input_tokens\":50,\"output_tokens\":1056}}{end}\n\n",
            "A".repeat(2 * LIMIT)
        )
    };
    for size in [1000, 1 << 20, usize::MAX >> 1] {
        let mut meter = StreamMeter::new();
        image("}").as_bytes().chunks(size).for_each(|piece| {
            meter.push(piece);
        });
        let tally = meter.tally();
        assert_eq!(tally.usage.and_then(|usage| usage.output_tokens), Some(1056));
        assert_eq!((tally.events, tally.skipped, tally.terminal), (1, 0, true));
    }
    // An event that is too large to be parsed in passing is skipped and counted.
    let mut meter = StreamMeter::new();
    meter.push(image(" no JSON").as_bytes());
    assert_eq!((meter.tally().events, meter.tally().skipped, meter.tally().usage), (1, 1, None));
}

#[test]
fn stream_meter_is_small_between_events() {
    assert!(size_of::<StreamMeter>() <= 528, "{} bytes", size_of::<StreamMeter>());
}

/// The number of events in `stream`, pushed whole and byte by byte, and the output text of both.
fn kept(stream: &str) -> (u64, String) {
    let of = |size: usize| {
        let mut meter = StreamMeter::new();
        meter.keep_output(&Room::new(1 << 20));
        stream.as_bytes().chunks(size).for_each(|piece| {
            meter.push(piece);
        });
        let tally = meter.into_tally();
        let output = tally.output.unwrap();
        let texts = output.texts().map(|(part, text)| format!("{part:?}:{}", String::from_utf8_lossy(text)));
        (tally.events, texts.collect::<Vec<_>>().join(" "))
    };
    let whole = of(stream.len());
    for size in 1..stream.len().min(400) {
        assert_eq!(of(size), whole, "in pieces of {size}");
    }
    whole
}

#[test]
fn stream_counts_repeated_events_like_others() {
    let say = |text: &str| {
        format!(
            "data: {{\"model\":\"m\",\"n\":1,\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        )
    };
    let texts =
        ["a", "b", " said \\\"c\\\"", "\\\\", "\\u0041", "d\",\"e", "", "f", "g\u{1}", "h", "\u{20ac}", "i"];
    let stream: String = texts.map(say).concat();
    let (events, text) = kept(&stream);
    assert_eq!(events, texts.len() as u64);
    assert_eq!(text, "Text:ab said \\\"c\\\"\\\\\\u0041dfg\u{1}h\u{20ac}i");
}

#[test]
fn stream_reads_events_between_repeated_ones() {
    let say = |text: &str| {
        format!("data: {{\"id\":\"1\",\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let between = [
        ": a comment\n\n",
        "id: 7\n",
        "event: error\n",
        "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
        "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":3}}\n\n",
        "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"error\":{\"message\":\"no\"}}\n\n",
        "data: [DONE]\n\n",
        "\n",
        "\r\n",
        "data\n",
    ];
    for between in between {
        let stream =
            [&say("a"), &say("b"), &say("c"), between, &say("d"), &say("e")].map(|s| s.to_owned()).concat();
        tally(&stream);
    }
    let usage = tally(&[&say("a"), &say("b"), between[3], &say("c")].map(|s| s.to_owned()).concat()).usage;
    assert_eq!(usage.and_then(|usage| usage.output_tokens), Some(2));
}

#[test]
fn stream_reads_events_alike_in_any_groups() {
    let fillers = ["Jd82ls", "", "error", "a\\nb", "usage", "x"];
    let texts = [
        " river",
        "error",
        "\\\"error",
        "usage",
        "model",
        " \\\"usage\\\":{}",
        "type",
        ",\\n",
        "",
        "\u{20ac}",
    ];
    let endings = [
        "",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
        "data: {\"error\":{\"message\":\"no\"}}\n\n",
    ];
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..200 {
        let is_counted = random.bool();
        let mut events: Vec<String> = (0..random.usize(3..12))
            .map(|at| {
                let counter = if is_counted { format!("\"sequence_number\":{},", at + 5) } else { String::new() };
                let text = texts[random.usize(0..texts.len()) * random.usize(0..2)];
                let filler = fillers[random.usize(0..fillers.len()) * random.usize(0..2)];
                let name = ["", "event: x\n", "event: message_stop\n", "event: error\n"]
                    [random.usize(0..40).saturating_sub(36)];
                let tier = ["\"default\"", "\"flex\"", "null"][random.usize(0..30).saturating_sub(27)];
                format!(
                    "{name}data: {{{counter}\"id\":\"1\",\"model\":\"m\",\"service_tier\":{tier},\"choices\":[{{\"delta\":\
                     {{\"content\":\"{text}\"}}}}],\"usage\":null,\"obfuscation\":\"{filler}\"}}\n\n"
                )
            })
            .collect();
        if random.u8(..4) == 0 {
            let at = random.usize(0..events.len());
            events[at] = events[at].replacen("\n", ["\r\n", "\r", "\n: x\n", " \n"][random.usize(0..4)], 1);
        }
        events.push(endings[random.usize(0..endings.len())].to_owned());
        let stream = events.concat();
        let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut meter = StreamMeter::new();
            meter.keep_output(&Room::new(1 << 20));
            let (mut sum, mut at, mut last_end) = (Progress::default(), 0, 0);
            for piece in pieces {
                let progress = meter.push(piece);
                if progress.last_end > 0 {
                    last_end = at + progress.last_end;
                }
                at += piece.len();
                sum.add(progress);
            }
            let position = meter.position();
            (meter.into_tally(), sum.events, sum.first_token, sum.terminal, last_end, position)
        };
        let bytes = read(&mut stream.as_bytes().chunks(1));
        assert_eq!(read(&mut [stream.as_bytes()].into_iter()), bytes, "whole: {stream}");
        for size in [1, 2, 3] {
            let groups: Vec<String> = events.chunks(size).map(<[String]>::concat).collect();
            assert_eq!(read(&mut groups.iter().map(String::as_bytes)), bytes, "{size} by {size}: {stream}");
        }
    }
}

#[test]
fn stream_merges_anthropic_usage_wherever_it_stands() {
    const START: &str = r#"{"message":{"model":"claude","usage":{"input_tokens":10,"output_tokens":1}}}"#;
    for (name, last) in [
        ("message_delta", r#"{"delta":{},"usage":{"output_tokens":5}}"#),
        ("message_stop", r#"{"type":"message_stop","usage":{"output_tokens":5}}"#),
        ("content_block_delta", r#"{"type":"content_block_delta","delta":{},"usage":{"output_tokens":5}}"#),
        ("message", r#"{"usage":{"output_tokens":5}}"#),
    ] {
        let text = "event: content_block_delta\ndata: {\"delta\":{\"text\":\"Hi\"}}\n\n";
        let tally =
            tally(&format!("event: message_start\ndata: {START}\n\n{text}event: {name}\ndata: {last}\n\n"));
        let usage = tally.usage.unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(10), Some(5)), "{name}");
    }
}

#[test]
fn stream_counts_events_that_are_no_json() {
    let broken = chat(&[r#"{"choices":[{"delta":{"content":"x""#, r#"{bad"#, r#"{"a":1}{"b":2}"#]);
    for stream in [chat(&[HI]) + &broken, broken.clone() + &chat(&[HI]), broken] {
        let mut meter = StreamMeter::new();
        meter.keep_output(&Room::new(1 << 20));
        meter.push(stream.as_bytes());
        let whole = meter.into_tally();
        // The first one continues like a text, and is read as one if there was one before.
        assert!((2..=3).contains(&whole.skipped), "{stream}: {}", whole.skipped);
        for at in 0..=stream.len() {
            let mut meter = StreamMeter::new();
            meter.keep_output(&Room::new(1 << 20));
            meter.push(&stream.as_bytes()[..at]);
            meter.push(&stream.as_bytes()[at..]);
            assert_eq!(*meter.tally(), whole, "cut at {at} of {stream}");
        }
    }
    assert_eq!(tally(&chat(&["", "ping", "[DONE]", "'single'"])).skipped, 0);
    let nested =
        format!("{{\"a\":{}{},\"usage\":{{\"prompt_tokens\":1}}}}", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(tally(&chat(&[HI, &nested])).skipped, 1, "it is too deep");
}

#[test]
fn stream_tells_responses_from_other_payloads() {
    for (event, complaint) in [
        ("data: [DONE]\n\n", None),
        ("event: ping\ndata: {\"type\":\"ping\"}\n\n", None),
        ("data: {\"type\":\"ping\"}\n\n", None),
        ("data: {\"detail\":\"no room\"}\n\n", Some("no room")),
        ("data: {\"detail\":[{\"msg\":\"m\"}]}\n\n", Some("[{\"msg\":\"m\"}]")),
        ("data: {\"message\":\"no credit\",\"code\":402}\n\n", Some("no credit")),
        ("data: {\"success\":false,\"errors\":[1]}\n\n", Some("[1]")),
        ("data: {}\n\ndata:\n\n", None),
        ("data: {\"type\": \"ping\"}\n\n", None),
        ("data: {\"message\":\"m\"}\n\ndata: {\"detail\":\"d\"}\n\n", Some("m")),
    ] {
        let tally = tally(event);
        assert!(!tally.is_response, "{event}");
        assert_eq!(tally.complaint.as_deref().map(|text| &**text), complaint, "{event}");
    }
    for event in [
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":0}}\n\n",
        "event: thread.run.created\ndata: {}\n\n",
        "data: {\"type\":\"response.created\",\"response\":{}}\n\n",
        "data: {\"object\":\"transcription.chunk\"}\n\n",
        "data: {\"detail\":\"x\"}\n\ndata: {\"model\":\"m\"}\n\n",
        "data: {\"token\":{\"text\":\"x\"}}\n\n",
        "data: 1\n\n",
        "event: new.form\ndata: x\n\n",
        "data: {\"detail\":\"x\"}\n\ndata: {\"token\":1}\n\n",
    ] {
        assert!(tally(event).is_response, "{event}");
    }
}

#[test]
fn stream_of_completions_adds_choices_without_being_told() {
    let end = |index: u64, output: u64| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"text\":\"\",\"finish_reason\":\"stop\"}}],\
             \"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":{output}}}}}\n\n"
        )
    };
    let output = |is_completion: bool| {
        let mut meter = StreamMeter::new();
        if is_completion {
            meter.expect_completion();
        }
        meter.push((end(0, 3) + &end(1, 4)).as_bytes());
        meter.into_tally().usage.and_then(|usage| usage.output_tokens)
    };
    assert_eq!((output(true), output(false)), (Some(7), Some(4)));
}
