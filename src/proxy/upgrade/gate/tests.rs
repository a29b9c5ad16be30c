use std::task::Waker;
use std::time::{Duration, Instant};

use super::*;
use crate::proxy::Budget;
use crate::support::memory::Memory;

const KIB: usize = 1024;

fn gate(max_bytes: usize, memory: usize) -> (TurnGate, BodyLimits) {
    let budget = Budget::new(memory, false, Arc::default(), Memory::default());
    let limits = BodyLimits { max_bytes, max_passing_bytes: None, min_rate: None, budget };
    (TurnGate::new(limits.clone(), "c".into()), limits)
}

/// A frame of a client. 0x80 of `first` ends a message.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u64::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&[first, 0x80 | 127][..], &length, &[1, 2, 3, 4]].concat();
    let masked = payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key);
    head.into_iter().chain(masked).collect()
}

/// A control frame, whose length must be short.
fn ping() -> Vec<u8> {
    [&[0x89, 0x84, 1, 2, 3, 4][..], b"pqrs"].concat()
}

/// Refuses messages with this text.
fn admit(message: &[u8]) -> std::result::Result<(), TurnRefusal> {
    if message == b"no" { Err(TurnRefusal::Turn("refused".to_owned())) } else { Ok(()) }
}

/// Returns true if a body of this size has room.
fn has_room(limits: &BodyLimits, bytes: usize) -> bool {
    limits.budget.reserve().grow_to(bytes, &"other".into()).is_ok()
}

/// The bytes that pass, and the number of refusals, when what was not read is read again.
fn passed(gate: &mut TurnGate, mut bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut pass, mut refusals) = (Vec::new(), 0);
    loop {
        let passed = gate.push(bytes, admit).unwrap();
        pass.extend_from_slice(&passed.bytes);
        refusals += usize::from(gate.take_reply().is_some());
        if passed.unread == 0 {
            return (pass, refusals);
        }
        bytes = &bytes[bytes.len() - passed.unread..];
    }
}

#[test]
fn all_but_refused_messages_passes_at_every_split() {
    let parts = |text: &[u8]| [frame(0x01, &text[..1]), frame(0x80, &text[1..])];
    let [first, last] = parts(b"yes");
    let [refused_first, refused_last] = parts(b"no");
    let all = [
        frame(0x81, b"yes"),
        frame(0x81, b"no"),
        frame(0x82, b"no"),
        first.clone(),
        ping(),
        last.clone(),
        refused_first,
        ping(),
        refused_last,
        frame(0x81, b"yes"),
    ]
    .concat();
    let expected = [frame(0x81, b"yes"), ping(), first, last, ping(), frame(0x81, b"yes")].concat();
    for split in 0..=all.len() {
        let (mut gate, _) = gate(KIB, KIB);
        let (mut pass, refusals) = passed(&mut gate, &all[..split]);
        let (rest, more) = passed(&mut gate, &all[split..]);
        pass.extend(rest);
        assert_eq!((pass, refusals + more), (expected.clone(), 3), "{split}");
    }
    let (mut gate, _) = gate(KIB, KIB);
    let mut pass = Vec::new();
    for byte in &all {
        pass.extend(passed(&mut gate, &[*byte]).0);
    }
    assert_eq!(pass, expected);
}

#[test]
fn control_frame_inside_a_message_passes_at_once() {
    let (mut gate, _) = gate(KIB, KIB);
    assert!(gate.push(&frame(0x01, b"ye"), admit).unwrap().bytes.is_empty());
    assert_eq!(gate.push(&ping(), admit).unwrap().bytes, ping());
    assert_eq!(gate.push(&frame(0x80, b"s"), admit).unwrap().bytes.len(), 14 + 2 + 14 + 1);
}

#[test]
fn refusal_is_written_before_more_is_read() {
    let (mut gate, _) = gate(KIB, KIB);
    let all = [frame(0x81, b"no"), frame(0x81, b"no")].concat();
    let first = gate.push(&all, admit).unwrap();
    assert_eq!((first.unread, gate.has_unread(), gate.has_reply()), (all.len() / 2, true, true));
    assert_eq!(gate.push(&all, admit).unwrap().unread, all.len(), "nothing is read");
    assert!(gate.take_reply().is_some());
    assert_eq!(gate.push(&all[..all.len() / 2], admit).unwrap().unread, 0);
    assert!(gate.has_reply() && !gate.has_unread());
}

#[test]
fn memory_of_a_message_is_kept_until_it_is_written() {
    let (mut gate, limits) = gate(64 * KIB, 100 * KIB);
    let message = frame(0x81, &vec![b'x'; 60 * KIB]);
    let (beginning, end) = message.split_at(message.len() - 1);
    assert!(gate.push(beginning, admit).unwrap().reserved.is_none());
    assert!(!has_room(&limits, 50 * KIB));
    let passed = gate.push(end, admit).unwrap();
    assert_eq!(passed.bytes, message);
    assert!(!has_room(&limits, 50 * KIB), "the bytes are still in memory");
    drop(passed);
    assert!(has_room(&limits, 100 * KIB));
}

#[test]
fn message_counts_once_while_it_is_incomplete() {
    let (mut gate, limits) = gate(64 * KIB, 100 * KIB);
    let message = frame(0x81, &vec![b'x'; 60 * KIB]);
    gate.push(&message[..50 * KIB], admit).unwrap();
    assert!(has_room(&limits, 49 * KIB));
}

#[test]
fn declared_length_and_frames_without_payload_are_bounded() {
    let (mut gate, _) = gate(64 * KIB, 100 * KIB);
    let error = gate.push(&frame(0x81, &vec![b'x'; 65 * KIB])[..14], admit).err().unwrap();
    assert_eq!(error.code(), "request_too_large");
    let (mut gate, _) = self::gate(KIB, 100 * KIB);
    gate.push(&frame(0x01, b""), admit).unwrap();
    let error = (0..KIB).find_map(|_| gate.push(&frame(0x00, b""), admit).err()).unwrap();
    assert_eq!(error.code(), "request_too_large");
}

#[test]
fn incomplete_message_ends_when_it_is_evicted() {
    let (mut gate, limits) = gate(64 * KIB, 100 * KIB);
    let message = frame(0x81, &vec![b'x'; 60 * KIB]);
    gate.push(&message[..50 * KIB], admit).unwrap();
    let late_since = Instant::now().checked_sub(Duration::from_secs(5));
    gate.incomplete.as_mut().unwrap().reserved.set_late(late_since, Waker::noop());
    assert!(has_room(&limits, 80 * KIB), "the slow message makes room");
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(error) = gate.poll_pace(cx) else { panic!("it was evicted") };
    assert_eq!(*error.kind(), Kind::BodyEvicted);
}

#[test]
fn message_without_a_grant_is_held_until_it_is_decided() {
    let waits = |message: &[u8]| if message == b"wait" { Err(TurnRefusal::Grant) } else { admit(message) };
    let [first, last] = [frame(0x01, b"wa"), frame(0x80, b"it")];
    let before = [frame(0x81, b"yes"), first.clone(), ping(), last.clone()].concat();
    let after = [frame(0x81, b"yes"), ping()].concat();
    let all = [&before[..], &after].concat();
    for split in 0..=all.len() {
        let (mut gate, limits) = gate(KIB, KIB);
        let (mut pass, mut at) = (Vec::new(), 0);
        for end in [split, all.len()] {
            if !gate.is_waiting() {
                let passed = gate.push(&all[at..end], waits).unwrap();
                pass.extend_from_slice(&passed.bytes);
                at = end - passed.unread;
            }
        }
        assert!(gate.is_waiting());
        assert_eq!((at, pass), (before.len(), [frame(0x81, b"yes"), ping()].concat()), "{split}");
        assert_eq!(gate.push(&after, waits).unwrap().unread, after.len(), "nothing is read");
        assert!(!has_room(&limits, KIB), "its memory counts");
        assert!(gate.retry(waits).unwrap().bytes.is_empty() && gate.is_waiting());
        let decided = if split % 2 == 0 { Ok(()) } else { Err(TurnRefusal::Turn("refused".to_owned())) };
        let expected = if decided.is_ok() { [&first[..], &last].concat() } else { Vec::new() };
        let passed = gate.retry(|_| decided).unwrap();
        assert_eq!(passed.bytes, expected);
        drop(passed);
        assert_eq!(gate.take_reply().is_some(), split % 2 == 1);
        assert!(!gate.is_blocked() && has_room(&limits, KIB));
        assert_eq!(gate.push(&after, waits).unwrap().bytes, after);
    }
}
