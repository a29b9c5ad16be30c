use std::task::{Context, Waker};

use super::super::scripted::{DONE, Scene, Script, Step, TOKEN, USAGE, truncated};
use super::*;
use crate::llm::usage::Content;
use crate::proxy::meter::DecodedBody;
use crate::record::{Outcome, UsageSource};
use crate::upstream::UpstreamBody;

const JSON: &str = "{\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"Hi\"}}],\
                    \"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}";

fn poll(exchange: &mut Exchange<Script>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
    exchange.poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// Reads to the end, or to the first error, which it records. Returns the text of all data.
fn read(exchange: &mut Exchange<Script>) -> String {
    let mut text = String::new();
    loop {
        match poll(exchange) {
            Poll::Ready(Some(Ok(frame))) => {
                text.push_str(str::from_utf8(&frame.into_data().unwrap()).unwrap());
            }
            Poll::Ready(Some(Err(error))) => {
                exchange.fail(&error);
                return text;
            }
            Poll::Ready(None) | Poll::Pending => return text,
        }
    }
}

fn tokens(scene: &Scene) -> (Outcome, UsageSource, Option<u64>, Option<u64>) {
    let record = scene.record();
    (record.outcome, record.usage_source, record.usage.input_tokens, record.usage.output_tokens)
}

#[test]
fn whole_stream_is_complete_at_its_last_frame() {
    let scene = Scene::new();
    let mut exchange = scene.events(Script::data([TOKEN, USAGE, DONE]));
    for _ in 0..2 {
        assert!(poll(&mut exchange).is_ready());
    }
    assert!(scene.is_open());
    assert!(poll(&mut exchange).is_ready(), "no poll beyond the last frame is needed");
    assert_eq!(tokens(&scene), (Outcome::Complete, UsageSource::Reported, Some(7), Some(3)));
}

#[test]
fn end_before_usage_leaves_counts_unknown() {
    for script in [Script::data([TOKEN, DONE]), Script::data([TOKEN, DONE]).ending_by_close()] {
        let scene = Scene::new();
        assert_eq!(read(&mut scene.events(script)), [TOKEN, DONE].concat());
        assert_eq!(tokens(&scene), (Outcome::Complete, UsageSource::None, None, None));
    }
}

#[test]
fn close_before_last_event_is_truncated_where_one_is_due() {
    let ends = |endpoint, script: Script| {
        let scene = Scene::at(endpoint);
        read(&mut scene.events(script));
        let record = scene.record();
        (record.outcome, record.error.is_some())
    };
    let cut = || Script::data([TOKEN, USAGE]).ending_by_close();
    assert_eq!(ends("chat/completions", cut()), (Outcome::Truncated, true));
    assert_eq!(ends("audio/speech", cut()), (Outcome::Complete, false), "no event is known to end it");
    assert_eq!(ends("chat/completions", cut().and(Step::Data(DONE))), (Outcome::Complete, false));
    let framed = Script::data([TOKEN, USAGE]);
    assert_eq!(ends("chat/completions", framed), (Outcome::Complete, false), "its framing was complete");
}

#[test]
fn error_after_usage_keeps_counts_as_partial() {
    let scene = Scene::new();
    read(&mut scene.events(Script::data([TOKEN, USAGE]).and(Step::Fail(truncated()))));
    let record = scene.record();
    assert_eq!((record.outcome, record.usage_source), (Outcome::Truncated, UsageSource::Partial));
    assert_eq!(record.usage.output_tokens, Some(3));
    assert_eq!(
        (record.error, record.code),
        (Some(truncated().to_string().into()), Some("upstream_truncated"))
    );
}

#[test]
fn error_after_last_event_keeps_counts_as_reported() {
    let scene = Scene::new();
    read(&mut scene.events(Script::data([TOKEN, USAGE, DONE]).and(Step::Fail(truncated()))));
    assert_eq!(tokens(&scene), (Outcome::Truncated, UsageSource::Reported, Some(7), Some(3)));
}

#[test]
fn broken_coding_after_last_event_is_a_whole_response() {
    let scene = Scene::new();
    let broken = Kind::Undecodable.at("up").because("no checksum");
    let mut exchange = scene.events(Script::data([TOKEN, USAGE, DONE]).and(Step::Fail(broken.clone())));
    assert_eq!(read(&mut exchange), [TOKEN, USAGE, DONE].concat());
    assert_eq!(tokens(&scene).0, Outcome::Complete);

    let scene = Scene::new();
    read(&mut scene.events(Script::data([TOKEN, USAGE]).and(Step::Fail(broken))));
    assert_ne!(tokens(&scene).0, Outcome::Complete);
}

#[test]
fn drop_records_what_was_read_in_every_state() {
    const LEFT: Outcome = Outcome::ClientDisconnected;
    for (read, expected) in [
        (0, (LEFT, UsageSource::None, None, None)),
        (1, (LEFT, UsageSource::None, None, None)),
        (2, (LEFT, UsageSource::Partial, Some(7), Some(3))),
        (3, (Outcome::Complete, UsageSource::Reported, Some(7), Some(3))),
    ] {
        let scene = Scene::new();
        let script = Script::data([TOKEN, USAGE, DONE]).and(Step::Stall);
        let is_dropped = script.is_dropped();
        let mut exchange = scene.events(script);
        for _ in 0..read {
            assert!(poll(&mut exchange).is_ready());
        }
        assert!(scene.is_open());
        drop(exchange);
        assert!(is_dropped.get(), "which tells the upstream");
        assert_eq!(tokens(&scene), expected, "after {read} frames");
    }
}

#[test]
fn drop_after_the_end_records_nothing_more() {
    let scene = Scene::new();
    let mut exchange = scene.events(Script::data([TOKEN, DONE]));
    read(&mut exchange);
    exchange.fail(&truncated());
    exchange.sent();
    drop(exchange);
    assert_eq!(scene.record().outcome, Outcome::Complete);
}

#[test]
fn drop_at_shutdown_is_cut_before_the_last_event() {
    for (pieces, outcome) in [(&[TOKEN][..], Outcome::Cut), (&[TOKEN, DONE], Outcome::Complete)] {
        let scene = Scene::new();
        let mut exchange = scene.events(Script::data(pieces.iter().copied()).and(Step::Stall));
        read(&mut exchange);
        scene.journal.cut();
        drop(exchange);
        assert_eq!(scene.record().outcome, outcome);
    }
}

#[test]
fn stop_after_last_event_is_complete() {
    for (pieces, outcome) in [(&[TOKEN][..], Outcome::Cut), (&[TOKEN, DONE], Outcome::Complete)] {
        let scene = Scene::new();
        let mut exchange = scene.events(Script::data(pieces.iter().copied()).and(Step::Stall));
        read(&mut exchange);
        exchange.fail(&Kind::Stopped.into());
        assert_eq!(scene.record().outcome, outcome);
    }
}

#[test]
fn deferred_record_waits_until_the_client_has_everything() {
    let json = |client_takes: bool| {
        let scene = Scene::new();
        let mut exchange = scene.exchange(Script::data([JSON]), Content::Json, 200);
        exchange.defer();
        read(&mut exchange);
        assert!(scene.is_open());
        if client_takes {
            exchange.sent();
        }
        drop(exchange);
        tokens(&scene)
    };
    assert_eq!(json(true), (Outcome::Complete, UsageSource::Reported, Some(7), Some(3)));
    assert_eq!(json(false), (Outcome::ClientDisconnected, UsageSource::Reported, Some(7), Some(3)));
}

#[test]
fn aborted_client_has_left_also_after_the_last_event() {
    let scene = Scene::new();
    let mut exchange = scene.events(Script::data([TOKEN, USAGE, DONE]).and(Step::Stall));
    read(&mut exchange);
    exchange.explain("it took nothing for 30 s".to_owned());
    drop(exchange);
    let record = scene.record();
    assert_eq!((record.outcome, record.usage_source), (Outcome::ClientDisconnected, UsageSource::Reported));
    assert_eq!(record.error.as_deref(), Some("it took nothing for 30 s"));
}

#[test]
fn whole_document_reports_its_usage_in_any_pieces() {
    for split in 0..=JSON.len() {
        let (head, tail) = JSON.split_at(split);
        let scene = Scene::new();
        read(&mut scene.exchange(Script::data([head, tail]), Content::Json, 200));
        let expected = (Outcome::Complete, UsageSource::Reported, Some(7), Some(3));
        assert_eq!(tokens(&scene), expected, "split at {split}");
    }
}

#[test]
fn response_without_content_is_an_upstream_error() {
    for endpoint in ["chat/completions", "messages", "audio/speech", "threads/runs"] {
        for (piece, text) in [
            ("", "empty body"),
            (": ping\n\n", "without an event"),
            (DONE, "no event of a response"),
            ("event: ping\ndata: {\"type\":\"ping\"}\n\n", "no event of a response"),
            ("data: {\"detail\":\"overloaded\"}\n\n", "overloaded"),
        ] {
            let scene = Scene::at(endpoint);
            read(&mut scene.exchange(Script::data([piece]), Content::Events, 200));
            let record = scene.record();
            assert_eq!(record.outcome, Outcome::UpstreamError, "{endpoint} {piece:?}");
            assert_eq!(record.usage_source, UsageSource::None);
            let error = record.error.unwrap();
            assert!(error.contains(text), "{error}");
        }
    }
    let scene = Scene::at("other");
    read(&mut scene.exchange(Script::data(["data: {\"message\":\"hello\"}\n\n"]), Content::Events, 200));
    assert_eq!(scene.record().outcome, Outcome::Complete, "its events are not known");
}

#[test]
fn status_of_an_error_decides_the_outcome() {
    const REFUSAL: &str = "{\"error\":{\"message\":\"no\"}}";
    for (status, outcome) in [
        (400, Outcome::InvalidRequest),
        (429, Outcome::RateLimited),
        (401, Outcome::UpstreamError),
        (503, Outcome::UpstreamError),
    ] {
        let scene = Scene::new();
        read(&mut scene.exchange(Script::data([REFUSAL]), Content::Json, status));
        let record = scene.record();
        assert_eq!((record.outcome, record.usage_source), (outcome, UsageSource::None), "{status}");
        assert_eq!(record.error.as_deref(), Some("no"), "{status}");
    }
}

#[test]
fn last_words_follow_only_an_open_stream() {
    let words = |pieces: &[&'static str], status| {
        let scene = Scene::new();
        let script = Script::data(pieces.iter().copied()).and(Step::Stall);
        let mut exchange = scene.exchange(script, Content::Events, status);
        read(&mut exchange);
        exchange.last_words(&truncated(), Some(b"")).map(|words| String::from_utf8(words).unwrap())
    };
    let event = words(&[TOKEN], 200).unwrap();
    assert!(event.starts_with("data: ") && event.contains("upstream_truncated") && event.ends_with("\n\n"));
    let inside = words(&[TOKEN, "data: {\"cho"], 200).unwrap();
    assert_eq!(inside.trim_start_matches('\n'), event, "what was begun is ended first");
    assert!(inside.starts_with("\n\n"));
    assert_eq!(words(&[TOKEN, DONE], 200), None);
    assert_eq!(words(&[TOKEN], 500), None);
}

/// Each streamed response keeps one on the heap until its end.
#[test]
fn exchange_of_a_streamed_response_stays_small() {
    let size = size_of::<Exchange<DecodedBody<UpstreamBody>>>();
    assert!(size <= 392, "{size} bytes");
}
