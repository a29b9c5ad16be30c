//! The rules, at every split; whole streams against `fuzzing::withhold`'s naive filter.

use bytes::Bytes;

use super::{HOLD_LIMIT, Withhold};
use crate::fuzzing::withhold::{every_split, filtered, naive};
use crate::llm::usage::StreamMeter;

const CHUNK: &str =
    r#"data: {"id":"c","object":"chat.completion.chunk","choices":[{"delta":{"content":"Hi"}}]}"#;
const USAGE: &str =
    r#"data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":3}}"#;

/// The stream becomes `expected` at every split, and the naive filter agrees.
fn becomes(stream: &str, expected: &str) {
    assert_eq!(
        String::from_utf8_lossy(&naive(stream.as_bytes())),
        expected,
        "the naive filter, of {stream:?}"
    );
    every_split(stream.as_bytes(), expected.as_bytes());
}

fn stays(stream: &str) {
    becomes(stream, stream);
}

#[test]
fn withhold_removes_only_the_usage_event() {
    for end in ["\n", "\r\n", "\r"] {
        let event = |data: &str| format!("{data}{end}{end}");
        let (before, after) = (event(CHUNK) + ": ping" + end + end + end, event("data: [DONE]") + end);
        becomes(&(before.clone() + &event(USAGE) + &after), &(before.clone() + &after));
        becomes(&(event(USAGE) + &event(USAGE)), "");
        becomes(&(before.clone() + &event(USAGE)), &before);
    }
}

#[test]
fn withhold_finds_the_event_among_repeated_events() {
    let say = |text: &str| CHUNK.replace("Hi", text) + "\n\n";
    let (before, after) = (say("a") + &say("b") + &say("c") + &say("d"), say("e") + &say("f"));
    let usage = USAGE.to_owned() + "\n\n";
    becomes(&(before.clone() + &usage + &after), &(before.clone() + &after));
    becomes(&(before.clone() + &usage + &after + &usage + &before), &(before.clone() + &after + &before));
}

#[test]
fn withhold_passes_comments_before_the_event() {
    becomes(&format!(": a\r\n:b\n{USAGE}\n\ndata: [DONE]\n\n"), ": a\r\n:b\ndata: [DONE]\n\n");
    becomes(&format!(":\n\n:\n{USAGE}\r\r"), ":\n\n:\n");
}

#[test]
fn withhold_accepts_any_spacing_of_the_data() {
    becomes("data:{\"usage\" : { } , \"choices\" : [ ]}  \n\n", "");
    becomes("data: \t {\"choices\":[\n\n", "data: \t {\"choices\":[\n\n");
}

#[test]
fn withhold_removes_members_that_accompany_the_usage() {
    for choices in [
        r#""choices":[],"#,
        r#""choices":null,"#,
        "",
        r#""choices":[{"index":0,"delta":{}}],"#,
        r#""choices":[{"index":0}],"#,
        r#""choices":[{}],"#,
        r#""choices":[{"index":0,"delta":{"content":null,"tool_calls":[]},"finish_reason":null,"logprobs":null}],"#,
        r#""choices":[{"index":0,"delta":null,"usage":{"prompt_tokens":1}},{"index":1,"delta":{}}],"#,
    ] {
        for member in [
            "",
            r#""metrics":{"ttft":[1,{"a":"b"}]},"#,
            r#""timings":{"prompt_n":1,"predicted_n":2},"#,
            r#""cost":0.1,"provider":"x","x_metrics":{"usage":{"prompt_tokens":1}},"#,
            r#""id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":null,"service_tier":"default","#,
            r#""latency_checkpoint":{"engine_tbt_ms":10},"obfuscation":"R","error":null,"moderation":null,"#,
            r#""a_name_of_a_member_that_is_longer_than_any_we_know":{"content":"x"},"#,
        ] {
            becomes(&format!("data: {{{choices}{member}\"usage\":{{\"prompt_tokens\":1}}}}\n\n"), "");
            becomes(&format!("data: {{\"usage\":{{\"prompt_tokens\":1}},{member}{choices}\"x\":0}}\n\n"), "");
        }
    }
}

#[test]
fn withhold_passes_events_with_response_members() {
    for member in [
        r#""choices":[{"delta":{"content":"x"}}]"#,
        r#""choices":[{"delta":{},"finish_reason":"stop"}]"#,
        r#""choices":[{"index":0,"text":" "}]"#,
        r#""choices":[{"delta":{"tool_calls":[{"index":0}]}}]"#,
        r#""choices":[{"delta":{},"content_filter_results":{"hate":{"filtered":true}}}]"#,
        r#""choices":[{"index":0,"delta":{"index":0}}]"#,
        r#""choices":[0]"#,
        r#""choices":{}"#,
        r#""choices":"x""#,
        r#""choices":[],"moderation":{"input":1}"#,
        r#""choices":[],"prompt_filter_results":[]"#,
        r#""choices":[],"error":{"message":"no"}"#,
        r#""choices":[],"x_groq":{"id":"r"}"#,
        r#""choices":[],"citations":["https://example.com"]"#,
        r#""choices":[{"delta":{"content":"x"}}],"choices":[]"#,
        r#""choices":[{"delta":{"content":"x"},"delta":{}}]"#,
    ] {
        stays(&format!("data: {{\"usage\":{{\"prompt_tokens\":1}},{member}}}\n\n"));
        stays(&format!("data: {{{member},\"usage\":{{\"prompt_tokens\":1}}}}\n\n"));
    }
}

/// A service that reports usage in every chunk sends it with the one that begins the response;
/// another one sends an empty text behind the response's end.
#[test]
fn withhold_ignores_role_and_empty_text_after_content() {
    for choice in [
        r#"{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}"#,
        r#"{"index":0,"delta":{"role":"assistant"}}"#,
        r#"{"index":0,"text":"","finish_reason":""}"#,
    ] {
        let event = format!("data: {{\"choices\":[{choice}],\"usage\":{{\"prompt_tokens\":1}}}}\n\n");
        let content = format!("{CHUNK}\n\n");
        becomes(&format!("{event}{content}"), &format!("{event}{content}"));
        becomes(&format!("{content}{event}data: [DONE]\n\n"), &format!("{content}data: [DONE]\n\n"));
        becomes(&format!("{event}{content}{event}"), &format!("{event}{content}"));
    }
}

#[test]
fn withhold_passes_events_without_a_usage_object() {
    for usage in ["null", "[]", "1", "\"{}\"", "{", "{}}"] {
        stays(&format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n"));
    }
    stays("data: {\"choices\":[],\"usage\":{},\"usage\":null}\n\n");
    stays("data: {\"choices\":[],\"us\\u0061ge\":{\"prompt_tokens\":1}}\n\n");
    stays("data: {\"choices\":[],\"response\":{\"usage\":{\"prompt_tokens\":1}}}\n\n");
    stays("data: [{\"choices\":[],\"usage\":{\"prompt_tokens\":1}}]\n\n");
    stays("data: {\"choices\":[]}\n\ndata: [DONE]\n\n");
}

#[test]
fn withhold_removes_the_other_lines_of_the_event() {
    let spread = USAGE.replace(",\"usage\"", ",\ndata: \"usage\"");
    for end in ["\n", "\r\n", "\r"] {
        for event in [USAGE, &spread] {
            for line in [
                "event: usage",
                "event: error_free",
                "event",
                "id: 1",
                "retry: 3",
                "data: ",
                "data",
                "datax: 1",
                "x",
                "error_: 1",
            ] {
                for block in [format!("{event}\n{line}\n\n"), format!("{line}\n{event}\n\n")] {
                    becomes(&block.replace('\n', end), "");
                }
            }
            becomes(&format!("{event}\n: late\n\n").replace('\n', end), "");
            becomes(&format!("\u{feff}{event}\n\n").replace('\n', end), "\u{feff}");
            becomes(&format!("\u{feff}: x\n{event}\n\n").replace('\n', end), &format!("\u{feff}: x{end}"));
        }
        stays(&format!("data: {{}}{end}{USAGE}{end}{end}"));
        stays(&format!("data: [DONE]{end}{end}\u{feff}{USAGE}{end}{end}"));
    }
}

#[test]
fn withhold_passes_error_events() {
    for line in ["event: error", "event:error", "error: {\"code\":500}", "error"] {
        stays(&format!("{USAGE}\n{line}\n\n"));
        stays(&format!("{line}\n{USAGE}\n\n"));
        stays(&format!("{USAGE}\n{line}"));
    }
}

#[test]
fn withhold_at_the_end_removes_an_event_with_complete_json() {
    let stream = format!("{CHUNK}\n\n{USAGE}");
    for end in 0..stream.len() {
        stays(&stream[..end]);
    }
    for rest in ["", "\n", "\r", "\r\n", "\nid: 1", "\n: x", "\ndat"] {
        becomes(&format!("{stream}{rest}"), &format!("{CHUNK}\n\n"));
    }
}

#[test]
fn withhold_passes_an_event_beyond_the_limit() {
    let padded = |length: usize| {
        let rest = "data: {\"choices\":[],\"usage\":{}}\n".len();
        format!("data: {{\"choices\":[],\"usage\":{{{}}}}}\n\n", " ".repeat(length - rest))
    };
    for (length, out) in [(HOLD_LIMIT, 0), (HOLD_LIMIT + 1, HOLD_LIMIT + 2)] {
        let stream = padded(length);
        assert_eq!(naive(stream.as_bytes()).len(), out, "the naive filter, of {length} bytes");
        for at in [0, 1, 40, HOLD_LIMIT - 1, HOLD_LIMIT] {
            let cut = filtered([&stream.as_bytes()[..at], &stream.as_bytes()[at..]]);
            assert_eq!(cut.len(), out, "{length} bytes, cut at {at}");
        }
        assert_eq!(filtered(stream.as_bytes().chunks(1)).len(), out, "{length} bytes, one by one");
    }
}

#[test]
fn withhold_delays_usual_chunks_up_to_their_text_at_most() {
    let stream = format!("{CHUNK}\n\n");
    let choice = CHUNK.find("Hi").unwrap() + 1;
    for end in 1..=stream.len() {
        let (mut meter, mut withhold) = (StreamMeter::new(), Withhold::new());
        let begin = Bytes::copy_from_slice(&stream.as_bytes()[..end]);
        let progress = meter.push(&begin);
        let passed = withhold.pass(begin, progress);
        let expected = if end < choice { 0 } else { end };
        assert_eq!(passed.len(), expected, "of {:?}", &stream[..end]);
        assert_eq!(withhold.is_holding(), end < choice);
    }
}

#[test]
fn withhold_delays_only_the_unfinished_event() {
    let (mut meter, mut withhold) = (StreamMeter::new(), Withhold::new());
    let begin = Bytes::from(format!("{CHUNK}\n\n: x\n{}", &USAGE[..20]));
    let progress = meter.push(&begin);
    assert_eq!(withhold.pass(begin, progress), format!("{CHUNK}\n\n: x\n"));
    assert_eq!(withhold.finish(), &USAGE[..20]);
    assert_eq!(withhold.withheld(), 0);
}

#[test]
fn withhold_passes_slices_of_whole_events_without_a_copy() {
    let (mut meter, mut withhold) = (StreamMeter::new(), Withhold::new());
    for stream in [format!("{CHUNK}\n\n{CHUNK}\n\n"), format!("{CHUNK}\n\n{USAGE}\n\n")] {
        let slice = Bytes::from(stream);
        let progress = meter.push(&slice);
        let passed = withhold.pass(slice.clone(), progress);
        assert_eq!(passed.as_ptr(), slice.as_ptr());
    }
    assert_eq!(withhold.withheld(), 1);
}

#[test]
fn withhold_ignores_role_and_empty_text_after_the_end() {
    for end in [
        r#"{"index":0,"delta":{},"finish_reason":"stop"}"#,
        r#"{"index":0,"delta":{},"finish_reason":"content_filter"}"#,
        r#"{"index":0,"text":"","finish_reason":"stop"}"#,
        r#"{"index":0,"delta":{"thinking_blocks":[{"type":"thinking","thinking":"x"}]}}"#,
    ] {
        let end = format!("data: {{\"choices\":[{end}]}}\n\n");
        for hollow in [
            r#"{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}"#,
            r#"{"index":0,"delta":{"content":""}}"#,
            r#"{"index":0,"text":"","finish_reason":null}"#,
        ] {
            let begin = format!("data: {{\"choices\":[{hollow}]}}\n\n");
            let usage = format!("data: {{\"choices\":[{hollow}],\"usage\":{{\"prompt_tokens\":1}}}}\n\n");
            let response = format!("{begin}{end}");
            becomes(&format!("{response}{usage}data: [DONE]\n\n"), &format!("{response}data: [DONE]\n\n"));
            becomes(&format!("{response}{usage}"), &response);
            stays(&format!("{usage}{end}"));
        }
    }
    // A null or empty reason is no end.
    for reason in ["null", r#""""#] {
        let open = format!("data: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":{reason}}}]}}\n\n");
        stays(&(open + "data: {\"choices\":[{\"text\":\"\"}],\"usage\":{}}\n\n"));
    }
}
