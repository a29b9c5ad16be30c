//! A stream of llama.cpp's server with `include_usage` becomes equal to the stream without it, at
//! every split.

use bytes::Bytes;

use super::super::Withhold;
use crate::fuzzing::withhold::{every_split, filtered};
use crate::llm::usage::StreamMeter;

const BUILD: &str = r#""system_fingerprint":"b7010-c27efd2bd","object":"chat.completion.chunk""#;
const TIMINGS: &str =
    r#""timings":{"cache_n":83,"prompt_n":1,"prompt_ms":8.9,"predicted_n":57,"predicted_ms":4.8}"#;

fn say(text: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"finish_reason\":null,\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}],{BUILD}}}\n\n"
    )
}

fn finish(index: u8, rest: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"finish_reason\":\"stop\",\"index\":{index},\"delta\":{{}}}}],\"id\":\"c\",{BUILD}{rest}}}\n\n"
    )
}

fn usage(rest: &str) -> String {
    format!("data: {{\"choices\":[],\"id\":\"c\",{BUILD},\"usage\":{{\"prompt_tokens\":84}}{rest}}}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";

fn becomes(asked: &str, unasked: &str) {
    every_split(asked.as_bytes(), unasked.as_bytes());
    every_split(asked.replace('\n', "\r\n").as_bytes(), unasked.replace('\n', "\r\n").as_bytes());
}

#[test]
fn rejoin_restores_timings_in_the_finish_event() {
    let (moved, begin) = (format!(",{TIMINGS}"), say("Hi") + &say(" there"));
    becomes(
        &(begin.clone() + &finish(0, "") + &usage(&moved) + DONE),
        &(begin.clone() + &finish(0, &moved) + DONE),
    );
    let spaced = moved.replace(':', ": ").replace(',', ", ");
    becomes(
        &(begin.clone() + &finish(0, "") + &usage(&spaced) + DONE),
        &(begin.clone() + &finish(0, &spaced) + DONE),
    );
    // Several choices, each with its own finish reason.
    becomes(
        &(begin.clone()
            + &finish(0, "")
            + &usage(&moved)
            + &say("x")
            + &finish(1, "")
            + &usage(&moved)
            + DONE),
        &(begin.clone() + &finish(0, &moved) + &say("x") + &finish(1, &moved) + DONE),
    );
    // Without content behind the first event, and without a blank line at the end.
    becomes(&(say("") + &finish(0, "") + &usage(&moved)), &(say("") + &finish(0, &moved)));
    let asked = begin.clone() + &finish(0, "") + &usage(&moved);
    becomes(asked.trim_end(), &(begin + &finish(0, &moved)));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn rejoin_changes_nothing_if_nothing_was_moved() {
    let moved = format!(",{TIMINGS}");
    for stream in [
        say("Hi") + &finish(0, &moved) + DONE,
        say("Hi") + &finish(0, "") + DONE,
        say("Hi") + &finish(0, ""),
        say("Hi") + &finish(0, "") + ": ping\n\n" + DONE,
    ] {
        becomes(&stream, &stream);
    }
    becomes(&(say("Hi") + &finish(0, "") + &usage("") + DONE), &(say("Hi") + &finish(0, "") + DONE));
    // Each chunk has usage.
    becomes(
        &(say("Hi") + &finish(0, &moved) + &usage(&moved) + DONE),
        &(say("Hi") + &finish(0, &moved) + DONE),
    );
    let cut = say("Hi") + &finish(0, "");
    for end in 0..cut.len() {
        becomes(&cut[..end], &cut[..end]);
    }
}

#[test]
fn rejoin_delays_only_the_end_of_the_finish_event() {
    let (mut meter, mut withhold) = (StreamMeter::new(), Withhold::new());
    let mut pass = |text: String| {
        let bytes = Bytes::from(text);
        let progress = meter.push(&bytes);
        let passed = withhold.pass(bytes, progress);
        (String::from_utf8(passed.to_vec()).unwrap(), withhold.is_inside_event())
    };
    assert_eq!(pass(say("Hi")), (say("Hi"), false));
    let finish = finish(0, "");
    let (begin, rest) = finish.split_at(finish.find("\"finish_reason\"").unwrap());
    assert_eq!(pass(finish.clone()), (begin.to_owned(), true));
    assert_eq!(pass(DONE.to_owned()), (rest.to_owned() + DONE, false));
}

/// If the stream is not recognised in time, the moved `timings` are withheld with the event, unless
/// the event before it is in the same slice.
#[test]
fn rejoin_of_unknown_streams_needs_both_events_in_one_slice() {
    let (moved, sign) = (format!(",{TIMINGS}"), "b7010-c27efd2bd");
    let plain = |stream: String| stream.replace(sign, "fp_1");
    let (begin, end) = (plain(say("Hi") + &finish(0, "")), plain(usage(&moved)) + DONE);
    let whole = begin.clone() + &end;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(text(filtered([whole.as_bytes()])), plain(say("Hi") + &finish(0, &moved)) + DONE);
    assert_eq!(text(filtered([begin.as_bytes(), end.as_bytes()])), begin + DONE);
}
