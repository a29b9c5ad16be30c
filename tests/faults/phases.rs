//! The work during a fault, and the checks of its result.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::causes;
use crate::harness::{PATIENCE, until};
use crate::matrix::Deviation::{ConnectsLater, EndsItself, Later, Misses};
use crate::matrix::{Cell, Fault, expected};
use crate::scene::{Scene, is_refused};
use crate::sinks::{self, Sink};

/// The work during a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Streams, one of them from before the fault's effects to after the others.
    Stream,
    /// Requests with responses of one piece.
    Request,
    /// SIGTERM during a stream that ends inside `drain_timeout`.
    Drain,
    /// SIGTERM while no request runs.
    Sigterm,
    /// A second SIGTERM during a stream that does not end.
    SecondSigterm,
}

/// The number of requests of each phase.
const REQUESTS: usize = 20;

/// The number of requests right before a signal.
const BEFORE_SIGNAL: usize = 5;

/// A second signal counts after half a second.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(700);

const SINKS: [Sink; 2] = [Sink::Sqlite, Sink::Jsonl];

pub fn run(fault: Fault, phase: Phase) {
    let cell = expected(fault)[phase as usize];
    // Printed if the test fails.
    eprintln!("{fault:?}, {phase:?}: {cell}");
    let mut scene = Scene::start(causes::cause(fault));
    scene.strike();
    match phase {
        Phase::Stream => stream(scene, cell),
        Phase::Request => request(scene, cell),
        Phase::Drain => drain(scene, cell),
        Phase::Sigterm => sigterm(scene, cell),
        Phase::SecondSigterm => second_sigterm(scene, cell),
    }
}

fn stream(mut scene: Scene, cell: Cell) {
    let held = scene.begin_stream();
    if cell.has(EndsItself) {
        until_it_drains(&mut scene);
        scene.end_stream(held);
        return ended(scene, cell);
    }
    (0..REQUESTS).for_each(|_| scene.stream(1));
    scene.end_stream(held);
    running(scene, cell);
}

fn request(mut scene: Scene, cell: Cell) {
    if cell.has(EndsItself) {
        until_it_drains(&mut scene);
        return ended(scene, cell);
    }
    (0..REQUESTS).for_each(|number| scene.request(number % 2));
    running(scene, cell);
}

fn drain(mut scene: Scene, cell: Cell) {
    let held = scene.begin_stream();
    before_signal(&mut scene, cell);
    scene.signal("-TERM");
    draining(&mut scene);
    scene.end_stream(held);
    ended(scene, cell);
}

fn sigterm(mut scene: Scene, cell: Cell) {
    before_signal(&mut scene, cell);
    scene.signal("-TERM");
    ended(scene, cell);
}

fn second_sigterm(mut scene: Scene, cell: Cell) {
    let held = scene.begin_stream();
    before_signal(&mut scene, cell);
    scene.signal("-TERM");
    draining(&mut scene);
    std::thread::sleep(BETWEEN_SIGNALS);
    scene.signal("-TERM");
    let rest = scene.rest_of_cut_stream(held);
    // Ends the service's part of it, so that the next held stream gets its own signal.
    scene.go.send(()).unwrap();
    assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "a cut stream does not look whole");
    ended(scene, cell);
}

fn before_signal(scene: &mut Scene, cell: Cell) {
    if cell.has(EndsItself) {
        return until_it_drains(scene);
    }
    (0..BEFORE_SIGNAL).for_each(|_| scene.request(1));
}

/// Sends requests until the program accepts none.
fn until_it_drains(scene: &mut Scene) {
    let start = Instant::now();
    while scene.try_request(1) {
        assert!(start.elapsed() < PATIENCE, "the program goes on");
    }
}

/// Waits until the drain has begun, by `/readyz` and the port.
fn draining(scene: &mut Scene) {
    until(PATIENCE, "the drain", || (scene.readiness() == (503, "draining".to_owned())).then_some(()));
    until(PATIENCE, "the end of listening", || is_refused(scene.proxy).then_some(()));
}

/// Checks the running process.
fn running(mut scene: Scene, cell: Cell) {
    assert_eq!(scene.readiness(), (200, "ready".to_owned()));
    if cell.has(ConnectsLater) {
        scene.lift();
    }
    scene.request_anew();
    scene.settle();
    for sink in SINKS.into_iter().filter(|&sink| !cell.has(Later(sink)) && !cell.has(Misses(sink))) {
        has_all(&scene, sink);
    }
    let counted = scene.counted_requests() as u64;
    until(PATIENCE, "a count of all requests", || {
        (sinks::counted(&scene.metrics()) == counted).then_some(())
    });
    for sink in SINKS.into_iter().filter(|&sink| cell.has(Misses(sink))) {
        until(PATIENCE, "a loss", || (sinks::lost(&scene.metrics(), sink) > 0).then_some(()));
    }
    scene.lift();
    for sink in SINKS.into_iter().filter(|&sink| cell.has(Later(sink))) {
        has_all(&scene, sink);
    }
    for sink in SINKS.into_iter().filter(|&sink| cell.has(Misses(sink))) {
        until(PATIENCE, "an end of what waits", || {
            (sinks::waiting(&scene.metrics(), sink) == 0).then_some(())
        });
        let lost = sinks::lost(&scene.metrics(), sink);
        has_all_but(&mut scene, sink, lost);
    }
}

/// Checks the process after its end, which must be soon.
fn ended(mut scene: Scene, cell: Cell) {
    let status = scene.wait(cell.within());
    assert_eq!(status, Some(cell.exit()), "the exit status; the program said:\n{}", scene.log());
    scene.settle();
    for sink in SINKS.into_iter().filter(|&sink| !cell.has(Later(sink)) && !cell.has(Misses(sink))) {
        has_exactly(&scene, sink);
    }
    for sink in SINKS.into_iter().filter(|&sink| cell.has(Misses(sink))) {
        scene.lift();
        let lost = sinks::lost_by_log(&scene.log(), sink);
        has_all_but(&mut scene, sink, lost);
    }
    if SINKS.iter().any(|&sink| cell.has(Later(sink))) {
        scene.lift();
        scene.restart();
        for sink in SINKS.into_iter().filter(|&sink| cell.has(Later(sink))) {
            has_all(&scene, sink);
        }
    }
}

/// Waits until the sink has one record of each request.
fn has_all(scene: &Scene, sink: Sink) {
    let start = Instant::now();
    while scene.ids(sink).len() < scene.requests() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    has_exactly(scene, sink);
}

/// Checks that the sink has one record of each request, except for as many as the program reports
/// as lost.
fn has_all_but(scene: &mut Scene, sink: Sink, lost: usize) {
    scene.finish_reading();
    let ids = scene.ids(sink);
    let known: HashSet<_> = ids.iter().filter(|id| scene.cut > 0 || scene.served.contains(id)).collect();
    let (records, requests) = (ids.len(), scene.requests());
    assert!(
        known.len() == records && records + lost == requests && lost > 0,
        "{sink:?} has {records} records, {} of them of a request each, of {requests} requests; {lost} are said to be lost",
        known.len()
    );
}

/// Checks that the sink has one record of each request.
fn has_exactly(scene: &Scene, sink: Sink) {
    let ids = scene.ids(sink);
    let unique: HashSet<_> = ids.iter().collect();
    let missing: Vec<_> = scene.served.iter().filter(|id| !unique.contains(id)).collect();
    let (records, requests) = (ids.len(), scene.requests());
    assert!(
        missing.is_empty() && records == requests && unique.len() == records,
        "{sink:?} has {records} records, {} of them different, of {requests} requests; missing: {missing:?}",
        unique.len()
    );
}
