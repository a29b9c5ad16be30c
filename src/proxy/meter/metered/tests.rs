use std::task::Waker;

use super::super::scripted::{DONE, Scene, Script, Step, TOKEN, USAGE, truncated};
use super::*;
use crate::record::{Outcome, UsageSource};

/// Keeps its pieces, and is full after `room` more bytes.
struct Kept {
    bytes: Vec<u8>,
    room: usize,
    full_at: usize,
}

impl PieceSink for Kept {
    fn copy(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    fn take(&mut self, piece: Bytes) {
        self.copy(&piece);
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= self.full_at
    }
}

/// The client's bytes, true if its response ended in order, and parts of the record.
type Seen = (String, bool, Outcome, UsageSource, Option<u64>, Option<String>);

/// Relays the script to a sink that takes `room` bytes a turn.
fn relay(script: Script, withholds: bool, room: usize) -> Seen {
    let scene = Scene::new();
    let metered = scene.metered(script, None);
    relay_in(&scene, metered, withholds, room)
}

fn relay_in(scene: &Scene, mut metered: Metered<Script>, withholds: bool, room: usize) -> Seen {
    if withholds {
        metered.withhold_usage();
    }
    let mut kept = Kept { bytes: Vec::new(), room, full_at: room };
    let mut cx = Context::from_waker(Waker::noop());
    let mut pending = 0;
    let is_whole = loop {
        match metered.poll_pieces(&mut cx, &mut kept) {
            Poll::Ready(Relayed::Full) => kept.full_at = kept.bytes.len() + kept.room,
            Poll::Ready(Relayed::Whole(_)) => break true,
            Poll::Ready(Relayed::Failed(_)) => break false,
            // A body that fails is pending once, so that its last words are written.
            Poll::Pending if pending == 1 => break false,
            Poll::Pending => pending += 1,
        }
    };
    drop(metered);
    let record = scene.record();
    let text = String::from_utf8(kept.bytes).unwrap();
    let error = record.error.map(Into::into);
    (text, is_whole, record.outcome, record.usage_source, record.events, error)
}

#[test]
fn pieces_give_client_and_record_what_frames_give() {
    let scripts: [fn() -> Script; 9] = [
        || Script::data([TOKEN, TOKEN, USAGE, DONE]),
        || Script::data([&TOKEN[..20], &TOKEN[20..], &USAGE[..60], &USAGE[60..], DONE]),
        || Script::data([TOKEN, USAGE, DONE]).ending_by_close(),
        || Script::data([TOKEN, TOKEN]).ending_by_close(),
        || Script::data([TOKEN, USAGE]).and(Step::Fail(truncated())),
        || Script::data([TOKEN, "data: {\"id\":"]).and(Step::Fail(truncated())),
        || Script::data([TOKEN]).and(Step::Stall),
        || Script::data(["data: [DONE]\n\ndata: ", "1\n\n"]),
        || Script::data([]),
    ];
    for (number, script) in scripts.iter().enumerate() {
        for withholds in [false, true] {
            for room in [1, 100, 10_000] {
                let (frames, pieces) = (script(), script().with_pieces());
                let [frames, pieces] = [frames, pieces].map(|script| relay(script, withholds, room));
                assert_eq!(pieces, frames, "script {number}, withholds: {withholds}, room: {room}");
            }
        }
    }
    let (text, is_whole, outcome, ..) = relay(scripts[0]().with_pieces(), true, 1);
    assert_eq!((text, is_whole, outcome), ([TOKEN, TOKEN, DONE].concat(), true, Outcome::Complete));
}

#[test]
fn pieces_of_cut_response_give_what_frames_give() {
    let scripts: [fn() -> Script; 4] = [
        || Script::data([TOKEN, TOKEN, TOKEN, USAGE, DONE]),
        || Script::data([TOKEN, &TOKEN[..20], &TOKEN[20..], USAGE, DONE]),
        || Script::data([TOKEN, TOKEN, USAGE]).ending_by_close(),
        || Script::data([TOKEN]).and(Step::Stall),
    ];
    for (number, script) in scripts.iter().enumerate() {
        for withholds in [false, true] {
            for events in 1..6 {
                let [frames, pieces] = [script(), script().with_pieces()].map(|script| {
                    let (scene, is_dropped) = (Scene::new(), script.is_dropped());
                    let metered = scene.metered_until(events, script);
                    let seen = relay_in(&scene, metered, withholds, 1_000);
                    assert!(is_dropped.get());
                    seen
                });
                assert_eq!(pieces, frames, "script {number}, withholds: {withholds}, cut after {events}");
                let (text, is_whole, outcome, ..) = pieces;
                assert!(!is_whole || outcome != Outcome::Cut, "{text}");
            }
        }
    }
    let scene = Scene::new();
    let seen = relay_in(&scene, scene.metered_until(2, scripts[0]().with_pieces()), false, 1_000);
    let (text, is_whole, outcome, ..) = seen;
    let (passed, error) = text.split_at(2 * TOKEN.len());
    assert_eq!((passed, is_whole, outcome), (&*[TOKEN, TOKEN].concat(), false, Outcome::Cut));
    assert!(error.starts_with("data: {\"error\":") && error.contains("budget_exhausted"), "{error}");
    // The last event has passed before the limit had no room.
    let scene = Scene::new();
    let seen = relay_in(&scene, scene.metered_until(5, scripts[0]()), false, 1_000);
    assert_eq!((seen.1, seen.2), (true, Outcome::Complete));
}

#[test]
fn upstream_of_cut_response_is_left_before_the_client_has_read() {
    let (scene, script) = (Scene::new(), Script::data([TOKEN, TOKEN, DONE]));
    let is_dropped = script.is_dropped();
    let mut metered = scene.metered_until(1, script);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        assert!(!is_dropped.get());
        assert!(matches!(Pin::new(&mut metered).poll_frame(&mut cx), Poll::Ready(Some(Ok(_)))));
    }
    assert!(is_dropped.get());
    assert!(!metered.is_end_stream(), "the response fails next");
    assert_eq!(scene.record().outcome, Outcome::Cut);
}
