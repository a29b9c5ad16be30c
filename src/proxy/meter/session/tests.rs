use std::future::poll_fn;
use std::task::Waker;

use super::super::scripted::{Scene, truncated};
use super::*;
use crate::balance::{FleetPins, HealthRegistry, SharedPin};
use crate::codec::websocket::{GOING_AWAY, close_frame};
use crate::record::{UsageRecord, UsageSource};

const DONE: &str = r#"{"type":"response.done","response":{"usage":{"input_tokens":7,"output_tokens":3}}}"#;
const BEGUN: &str = r#"{"type":"response.created","response":{"status":"in_progress"}}"#;

/// A server's text message in one frame.
fn message(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126);
    [&[0x81, length][..], text.as_bytes()].concat()
}

/// The record of a session with messages of both sides and this end.
fn session(said: &[(Peer, Vec<u8>)], end: &SessionEnd) -> UsageRecord {
    let scene = Scene::at("realtime");
    let mut session = Session::new(scene.entry(), 101);
    for (from, bytes) in said {
        session.saw(*from, bytes);
    }
    session.close(end);
    scene.record()
}

#[test]
fn session_adds_up_what_its_responses_used() {
    let done = || (Peer::Upstream, message(DONE));
    let record = session(&[done(), done()], &SessionEnd::Left(Peer::Upstream));
    assert_eq!((record.outcome, record.usage_source), (Outcome::Complete, UsageSource::Reported));
    assert_eq!((record.usage.input_tokens, record.usage.output_tokens), (Some(14), Some(6)));
    assert_eq!((record.status, record.stream, record.events), (Some(101), true, Some(2)));
    assert_eq!(record.response_bytes, 2 * message(DONE).len() as u64);
}

#[test]
fn session_is_metered_at_every_split() {
    let message = message(DONE);
    for split in 0..=message.len() {
        let (head, tail) = message.split_at(split);
        let said = [(Peer::Upstream, head.to_vec()), (Peer::Upstream, tail.to_vec())];
        let record = session(&said, &SessionEnd::Left(Peer::Upstream));
        assert_eq!(record.usage.output_tokens, Some(3), "split at {split}");
    }
}

#[test]
fn session_outcome_follows_its_first_close_frame_then_its_end() {
    let close = |from, code| (from, close_frame(code, "bye", (from == Peer::Client).then_some([1, 2, 3, 4])));
    let ends = |said: &[(Peer, Vec<u8>)], end| session(said, &end).outcome;
    let left = |peer| SessionEnd::Left(peer);
    assert_eq!(ends(&[], left(Peer::Client)), Outcome::ClientDisconnected);
    assert_eq!(ends(&[], left(Peer::Upstream)), Outcome::Complete);
    assert_eq!(ends(&[], SessionEnd::Failed(truncated())), Outcome::Truncated);
    assert_eq!(ends(&[], SessionEnd::Stopped), Outcome::Cut);
    assert_eq!(ends(&[close(Peer::Client, 1000)], left(Peer::Client)), Outcome::Complete);
    assert_eq!(ends(&[close(Peer::Client, 1000)], SessionEnd::Failed(truncated())), Outcome::Complete);
    assert_eq!(ends(&[close(Peer::Upstream, GOING_AWAY)], SessionEnd::Stopped), Outcome::Complete);
    assert_eq!(ends(&[close(Peer::Upstream, 1011)], left(Peer::Upstream)), Outcome::UpstreamError);
    assert_eq!(
        ends(&[close(Peer::Client, 1000), close(Peer::Upstream, 1011)], left(Peer::Upstream)),
        Outcome::Complete,
        "the first close frame counts"
    );
}

#[test]
fn usage_of_a_session_with_a_response_under_way_is_partial() {
    let said = [(Peer::Upstream, message(DONE)), (Peer::Upstream, message(BEGUN))];
    let record = session(&said, &SessionEnd::Left(Peer::Client));
    assert_eq!((record.outcome, record.usage_source), (Outcome::ClientDisconnected, UsageSource::Partial));
    assert_eq!(record.usage.output_tokens, Some(3));
}

#[test]
fn session_that_failed_or_was_left_unfinished_is_not_complete() {
    const REFUSED: &str = r#"{"type":"error","error":{"code":"rate_limit_exceeded","message":"slow"}}"#;
    let close = |from| (from, close_frame(1000, "", (from == Peer::Client).then_some([1, 2, 3, 4])));
    let ends = |texts: &[&str], end: Option<Peer>| {
        let said = texts.iter().map(|text| (Peer::Upstream, message(text))).chain(end.map(close));
        let record = session(&said.collect::<Vec<_>>(), &SessionEnd::Left(Peer::Upstream));
        (record.outcome, record.error.is_some())
    };
    for end in [Some(Peer::Upstream), Some(Peer::Client), None] {
        assert_eq!(ends(&[REFUSED], end), (Outcome::RateLimited, true), "{end:?}");
        assert_eq!(ends(&[REFUSED, DONE], end), (Outcome::Complete, true), "{end:?}");
    }
    for end in [Some(Peer::Upstream), None] {
        assert_eq!(ends(&[DONE, BEGUN], end), (Outcome::Truncated, true), "{end:?}");
    }
    assert_eq!(ends(&[DONE, BEGUN], Some(Peer::Client)), (Outcome::ClientDisconnected, false));
}

#[test]
fn session_says_that_a_message_could_not_be_read() {
    for unread in ["{\"type\":\"response.done\",\"response\":{\t", "{\"a\":NaN}", "{\"a\":1}x"] {
        let said = [(Peer::Upstream, message(DONE)), (Peer::Upstream, message(unread))];
        let record = session(&said, &SessionEnd::Left(Peer::Upstream));
        assert!(record.error.is_some(), "{unread}");
    }
    let said = [(Peer::Upstream, message("hello")), (Peer::Upstream, message("[DONE]"))];
    assert_eq!(session(&said, &SessionEnd::Left(Peer::Upstream)).error, None);
}

#[test]
fn session_reads_json_in_binary_messages() {
    let mut binary = message(DONE);
    binary[0] = 0x82;
    let record = session(&[(Peer::Upstream, binary)], &SessionEnd::Left(Peer::Upstream));
    assert_eq!((record.usage.output_tokens, record.events), (Some(3), Some(1)));
}

#[test]
fn dropped_session_is_recorded_with_its_usage() {
    for (cuts, outcome) in [(false, Outcome::ClientDisconnected), (true, Outcome::Cut)] {
        let scene = Scene::at("realtime");
        let mut session = Session::new(scene.entry(), 101);
        session.saw(Peer::Upstream, &message(DONE));
        if cuts {
            scene.journal.cut();
        }
        drop(session);
        let record = scene.record();
        assert_eq!((record.outcome, record.usage.output_tokens), (outcome, Some(3)));
    }
}

#[test]
fn close_frame_may_be_sent_between_frames_and_before_a_close() {
    let scene = Scene::at("realtime");
    let mut session = Session::new(scene.entry(), 101);
    let message = message(DONE);
    assert!(session.takes_close(Peer::Upstream) && !session.is_closing());
    session.saw(Peer::Upstream, &message[..5]);
    assert!(!session.takes_close(Peer::Upstream) && session.takes_close(Peer::Client));
    session.saw(Peer::Upstream, &message[5..]);
    assert!(session.takes_close(Peer::Upstream));
    session.saw(Peer::Upstream, &close_frame(1000, "", None));
    assert!(
        !session.takes_close(Peer::Upstream) && session.takes_close(Peer::Client) && session.is_closing()
    );
}

#[test]
fn bytes_that_are_no_frames_are_counted_and_not_read() {
    let record = session(&[(Peer::Upstream, b"\xffnot a frame".to_vec())], &SessionEnd::Left(Peer::Client));
    assert_eq!((record.response_bytes, record.usage_source), (12, UsageSource::None));
}

/// A session of bob, whose fleet shares ids.
fn fleet_session(scene: &Scene, refuses_unknown: bool) -> (Session, Arc<HealthRegistry>) {
    let registry = HealthRegistry::new(Instant::now());
    registry.pins().share(FleetPins::new(Waker::noop().clone()));
    let account = registry.pins().account("one").unwrap();
    let mut session = Session::new(scene.entry(), 101);
    session.watch_ids(IdWatch::new(Arc::clone(&registry), account, Some("bob".into()), refuses_unknown));
    assert!(session.admits_messages());
    (session, registry)
}

const NAMED: &[u8] = br#"{"type":"response.create","previous_response_id":"resp_0123456789abcdef"}"#;

#[tokio::test(start_paused = true)]
async fn message_with_an_unknown_id_waits_50_ms_for_the_fleet() {
    for refuses_unknown in [false, true] {
        let scene = Scene::at("responses");
        let (mut session, _registry) = fleet_session(&scene, refuses_unknown);
        assert!(session.admit(br#"{"type":"response.create"}"#).is_ok(), "it names none");
        assert!(matches!(session.admit(NAMED), Err(TurnRefusal::Grant)));
        let begun = tokio::time::Instant::now();
        poll_fn(|cx| session.poll_grant(cx)).await;
        assert!((49..=51).contains(&begun.elapsed().as_millis()));
        match session.admit(NAMED) {
            Ok(()) => assert!(!refuses_unknown),
            Err(TurnRefusal::Turn(reply)) => {
                assert!(refuses_unknown && reply.contains("limits_unavailable"), "{reply}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn message_is_decided_by_the_reply_about_its_id() {
    for (client, passes) in [(1, false), (0, true)] {
        let scene = Scene::at("responses");
        let (mut session, registry) = fleet_session(&scene, true);
        assert!(matches!(session.admit(NAMED), Err(TurnRefusal::Grant)));
        for ask in registry.pins().fleet().unwrap().take_asks(9) {
            registry.pins().take_over(SharedPin { id: ask.ids()[0], client, account: 7 });
            ask.end(true);
        }
        let begun = tokio::time::Instant::now();
        poll_fn(|cx| session.poll_grant(cx)).await;
        assert_eq!(begun.elapsed().as_millis(), 0);
        match session.admit(NAMED) {
            Ok(()) => assert!(passes),
            Err(TurnRefusal::Session(error)) => {
                assert!(!passes && matches!(error.kind(), Kind::StoredIdUnknown(_)));
            }
            other => panic!("{other:?}"),
        }
    }
}
