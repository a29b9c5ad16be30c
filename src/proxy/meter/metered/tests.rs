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
    let mut metered = scene.metered(script, None);
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
