use std::sync::Arc;

use super::super::Limits;
use super::commands::{FINISH, FIRST};
use super::*;
use crate::support::memory::{Memory, MemoryPart};

fn state_at(now: Instant) -> Rc<ConnState> {
    ConnState::new(now, &Rc::new(WorkerMemory::new(Memory::default())))
}

const LIMITS: Limits = Limits {
    header_timeout: Duration::from_secs(30),
    keep_alive_timeout: Duration::from_secs(75),
    write_timeout: Some(Duration::from_secs(300)),
};

#[test]
fn connection_counts_until_its_end() {
    let memory = Memory::default();
    let worker = Rc::new(WorkerMemory::new(memory.clone()));
    let state = ConnState::new(Instant::now(), &worker);
    state.grow(1 << 20);
    state.hold(1 << 20, 1 << 19);
    let running = state.begin();
    let mut frame = state.request_memory();
    frame.set(1 << 20);
    assert!(memory.of(MemoryPart::Connections) >= 2 << 20);
    assert!(memory.of(MemoryPart::Requests) >= 3 << 19);
    state.hold(0, 0);
    assert!((1 << 20..2 << 20).contains(&memory.of(MemoryPart::Connections)));
    state.hold(1 << 20, 1 << 20);
    drop((running, frame, state, worker));
    assert_eq!(memory.used(), 0);
}

#[test]
fn header_timeout_begins_at_the_first_byte_of_a_head() {
    let state = state_at(Instant::now());
    state.begin();
    state.received();
    state.await_head();
    state.enforce_limits(Instant::now(), &LIMITS);
    assert_eq!(state.command(), None);
    state.enforce_limits(Instant::now() + LIMITS.header_timeout, &LIMITS);
    assert_eq!(state.command(), Some(ConnCommand::RefuseHead));
}

#[test]
fn flush_tells_each_stream_whose_events_were_waiting() {
    let state = state_at(Instant::now());
    for streams in [0, 1, 3, 1] {
        let timings: Vec<_> = (0..streams).map(|_| StreamTiming::new(Arc::default())).collect();
        let is_notified = |timing: &Rc<StreamTiming>| {
            timing.on_read(Instant::now(), 1);
            timing.on_passed(1);
            timing.take_notification()
        };
        for timing in &timings {
            assert!(is_notified(timing));
            state.track_timing(timing);
        }
        state.flushed();
        assert!(timings.iter().all(is_notified), "{streams}");
    }
}

#[test]
fn keep_alive_timeout_begins_at_the_end_of_a_request() {
    let start = Instant::now();
    let state = state_at(start);
    let running = state.begin();
    state.enforce_limits(start + LIMITS.keep_alive_timeout * 10, &LIMITS);
    assert_eq!(state.command(), None, "a running request is not idle");
    drop(running);
    state.enforce_limits(start + LIMITS.keep_alive_timeout / 2, &LIMITS);
    assert_eq!(state.command(), None);
    state.enforce_limits(Instant::now() + LIMITS.keep_alive_timeout, &LIMITS);
    assert_eq!(state.command(), Some(ConnCommand::Finish));
}

#[test]
fn write_timeout_closes_a_connection_with_a_running_request() {
    let start = Instant::now();
    let state = state_at(start);
    let _running = state.begin();
    let late = || Instant::now() + LIMITS.write_timeout.unwrap();
    let _ = state.track_write(Poll::<()>::Pending);
    let _ = state.track_write(Poll::Ready(()));
    state.enforce_limits(late(), &LIMITS);
    assert_eq!((state.command(), state.stalled_for()), (None, None), "it has taken something");
    let _ = state.track_write(Poll::<()>::Pending);
    state.enforce_limits(Instant::now(), &LIMITS);
    assert_eq!(state.command(), None);
    state.enforce_limits(late(), &Limits { write_timeout: None, ..LIMITS });
    assert_eq!(state.command(), None);
    state.enforce_limits(late(), &LIMITS);
    assert_eq!((state.command(), state.stalled_for()), (Some(ConnCommand::Drop), LIMITS.write_timeout));
}

#[test]
fn finish_drops_a_late_connection_unless_a_request_runs() {
    let now = Instant::now();
    let state = state_at(now);
    state.finish(now);
    let running = state.begin();
    state.enforce_limits(now + FINISH, &LIMITS);
    assert_eq!(state.command(), Some(ConnCommand::Finish));
    drop(running);
    state.enforce_limits(now + FINISH, &LIMITS);
    assert_eq!(state.command(), Some(ConnCommand::Drop));
}

#[test]
fn new_connection_has_time_for_its_first_request_in_a_drain() {
    let now = Instant::now();
    let state = state_at(now);
    assert!(!state.must_end());
    state.drain(now, Patience::Short);
    assert!(!state.must_end(), "its request may be on its way");
    state.enforce_limits(now + FINISH, &LIMITS);
    assert!(state.must_end());
    assert_eq!(state.command(), Some(ConnCommand::Finish), "a busy worker reads it late");
    state.enforce_limits(now + LIMITS.header_timeout, &LIMITS);
    assert_eq!(state.command(), Some(ConnCommand::Drop));

    let limited = state_at(now);
    limited.finish(now);
    limited.drain(now, Patience::Short);
    assert!(limited.must_end(), "a limit has ended it before");

    let used = state_at(now);
    drop(used.begin());
    used.drain(now, Patience::Short);
    assert!(used.must_end(), "it waits for a next request");
}

#[test]
fn upgrade_leaves_a_head_its_whole_time() {
    let now = Instant::now();
    let (new, kept, idle) = (state_at(now), state_at(now), state_at(now));
    for used in [&kept, &idle] {
        used.received();
        drop(used.begin());
    }
    kept.await_head();
    for state in [&new, &kept, &idle] {
        state.drain(now, Patience::Long);
    }
    assert!(idle.must_end(), "it waits for a next request");
    assert!(!new.must_end());
    let late = now + LIMITS.header_timeout - FINISH;
    for state in [&new, &kept, &idle] {
        state.enforce_limits(late, &LIMITS);
    }
    assert!(!new.must_end(), "the other process has no use for its end");
    assert_eq!(kept.command(), Some(ConnCommand::Finish), "its head has begun");
    assert_eq!(idle.command(), Some(ConnCommand::Drop));
    for state in [&new, &kept] {
        state.enforce_limits(Instant::now() + LIMITS.header_timeout, &LIMITS);
        assert!(state.must_end());
    }
}

#[test]
fn handshake_in_a_drain_ends_and_leaves_time_for_a_request() {
    let now = Instant::now();
    let past = now.checked_sub(FIRST).unwrap();
    let (state, limited) = (state_at(past), state_at(past));
    state.drain(now, Patience::Short);
    limited.finish(now);
    assert!(!state.must_end_exchange(now, true, || false), "it has begun");
    assert!(state.must_end_exchange(now, false, || false), "it has not begun in its time");
    assert!(!state.must_end_exchange(now, false, || true), "it begins");
    assert!(state.must_end_exchange(now + FINISH, true, || false));
    assert!(limited.must_end_exchange(now, true, || false));
    state.on_handshake(now);
    assert!(!state.must_end(), "the request follows");
}
