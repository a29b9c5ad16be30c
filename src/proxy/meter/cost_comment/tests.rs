use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http_body::Body as _;

use super::super::Metered;
use super::super::scripted::{DONE, Scene, Script, Step, TOKEN, USAGE, truncated};
use super::*;
use crate::llm::price::{Currency, Price, Rate, Rates};
use crate::record::Outcome;

const COMMENT: &str = ": streamgauge {\"cost\":\"0.00001\",\"input_tokens\":7,\"output_tokens\":3}\n\n";

const MESSAGES: [&str; 3] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":3}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];

const RESPONSES: [&str; 2] = [
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"m\",\"usage\":{\"input_tokens\":7,\"output_tokens\":3}}}\n\n",
];

fn prices() -> Arc<Live<Prices>> {
    let rate = Rate::parse("1").unwrap();
    Live::new(Prices::new([Price::new("m", Rates::new(Currency::parse("USD").unwrap(), rate, rate))]))
}

/// The client's bytes, and the end that the record has. `has_memory`: events may wait.
fn relay(scene: &Scene, script: Script, withholds: bool, has_memory: bool) -> (String, Outcome) {
    let mut metered: Metered<Script> = scene.metered(script, None);
    if withholds {
        metered.withhold_usage();
    }
    metered.tell_cost(CostComment::new(prices(), Box::new(move |bytes| has_memory || bytes == 0)));
    let (mut bytes, mut is_pending) = (Vec::new(), false);
    while !metered.is_end_stream() {
        match Pin::new(&mut metered).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Poll::Ready(Some(Err(_)) | None) => break,
            Poll::Pending if is_pending => break,
            Poll::Pending => is_pending = true,
        }
    }
    drop(metered);
    (String::from_utf8(bytes).unwrap(), scene.record().outcome)
}

/// Splits of a stream: whole, at every place, and into single bytes.
fn splits(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let two = (1..text.len()).map(move |at| vec![&text[..at], &text[at..]]);
    let bytes = (0..text.len()).map(|at| &text[at..=at]).collect();
    [vec![text], bytes].into_iter().chain(two)
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[test]
fn comment_precedes_the_last_event_at_every_split() {
    let chat = leaked([": ping\n\n", TOKEN, USAGE, DONE].concat());
    for (endpoint, text, last) in [
        ("chat/completions", chat, "data: [DONE]"),
        ("chat/completions", leaked(chat.replace('\n', "\r\n")), "data: [DONE]"),
        ("chat/completions", leaked(chat.replace('\n', "\r")), "data: [DONE]"),
        ("chat/completions", chat.trim_end(), "data: [DONE]"),
        ("chat/completions", leaked(format!("{chat}: bye\n\n")), "data: [DONE]"),
        ("messages", leaked(MESSAGES.concat()), "event: message_stop"),
        ("responses", leaked(RESPONSES.concat()), "event: response.completed"),
    ] {
        let expected = text.replace(last, &format!("{COMMENT}{last}"));
        for pieces in splits(text) {
            for ends_by_close in [false, true] {
                let mut script = Script::data(pieces.clone());
                if ends_by_close {
                    script = script.ending_by_close();
                }
                let relayed = relay(&Scene::at(endpoint), script, false, true);
                assert_eq!(relayed, (expected.clone(), Outcome::Complete), "{pieces:?}");
            }
        }
    }
}

#[test]
fn comment_has_the_usage_of_a_withheld_event() {
    let text = leaked([TOKEN, USAGE, DONE].concat());
    for pieces in splits(text) {
        let (relayed, _) = relay(&Scene::new(), Script::data(pieces.clone()), true, true);
        assert_eq!(relayed, [TOKEN, COMMENT, DONE].concat(), "{pieces:?}");
    }
}

#[test]
fn comment_has_what_is_known_and_is_left_out_if_nothing_is() {
    let strange = "data: {\"model\":\"x\",\"choices\":[],\"usage\":{\"completion_tokens\":3}}\n\n";
    let script = Script::data([TOKEN.replace("\"m\"", "\"x\"").leak(), strange, DONE]);
    let (relayed, _) = relay(&Scene::new(), script, false, true);
    assert!(relayed.ends_with(&format!("\n\n: streamgauge {{\"output_tokens\":3}}\n\n{DONE}")), "{relayed}");
    assert_eq!(relay(&Scene::new(), Script::data([TOKEN, DONE]), false, true).0, [TOKEN, DONE].concat());
    // No event ends the stream.
    let (relayed, _) = relay(&Scene::new(), Script::data([TOKEN, USAGE]), false, true);
    assert_eq!(relayed, [TOKEN, USAGE].concat());
}

#[test]
fn event_without_memory_or_beyond_the_limit_passes_at_once() {
    let large = leaked(format!("data: {}\n\n", "x".repeat(HOLD_LIMIT)));
    let (begin, end) = large.split_at(large.len() - 4);
    for (pieces, has_memory, has_comment) in [
        (vec![TOKEN, USAGE, &DONE[..9], &DONE[9..]], false, false),
        (vec![TOKEN, USAGE, DONE], false, true),
        (vec![&TOKEN[..9], &TOKEN[9..], USAGE, DONE], false, true),
        (vec![begin, end, USAGE, DONE], true, true),
    ] {
        let (relayed, _) = relay(&Scene::new(), Script::data(pieces.clone()), false, has_memory);
        assert_eq!(relayed.contains(": streamgauge"), has_comment);
        assert_eq!(relayed.replace(COMMENT, ""), pieces.concat());
    }
    let mut comment = CostComment::new(prices(), Box::new(|_| true));
    for (piece, passing, is_between) in
        [("data: 1", "", true), ("\n\ndata", "data: 1\n\n", true), (begin, "", false), ("x", "x", false)]
    {
        let passed = comment.pass(Bytes::from_static(piece.as_bytes()));
        assert!(piece == begin || passed == passing, "{piece:?}");
        assert_eq!(comment.is_between_events(), is_between);
    }
}

#[test]
fn bytes_that_wait_pass_before_the_error_of_a_failed_stream() {
    let script = Script::data([TOKEN, &TOKEN[..20]]).and(Step::Fail(truncated()));
    let (relayed, outcome) = relay(&Scene::new(), script, false, true);
    assert!(relayed.starts_with(&[TOKEN, &TOKEN[..20], "\n\ndata: {\"error\":"].concat()), "{relayed}");
    assert_eq!(outcome, Outcome::Truncated);
}
