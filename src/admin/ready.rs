//! The response of `/readyz`.
//!
//! A proxy is ready while it accepts connections with all of its workers and no thread has ended
//! for good, once the first requests for tokens of identities have ended, with a token or without. Each further line names a failing part. A stuck sink, a lost record or a lost line of
//! the log does not change the status: requests are served without them, and taking the proxy out
//! of rotation would help no client.

use std::fmt::Write as _;

use http::StatusCode;

use super::{Shown, WORKER};
use crate::record::{STUCK, SinkHealth};
use crate::support::drain::Phase;
use crate::support::telemetry;

pub(super) fn report(shown: &Shown) -> (StatusCode, String) {
    let threads = shown.threads.statuses();
    let workers =
        threads.iter().filter(|thread| thread.name.starts_with(WORKER) && thread.is_running).count();
    let has_failed = threads.iter().any(|thread| thread.fatal.is_some());
    let awaited = shown.identities.awaited();
    let (status, word) = match shown.stop.phase() {
        Phase::Draining | Phase::Cut => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Phase::Leaving => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        Phase::Running if workers != shown.workers_wanted => {
            (StatusCode::SERVICE_UNAVAILABLE, "workers are missing")
        }
        Phase::Running if has_failed => (StatusCode::SERVICE_UNAVAILABLE, "threads are missing"),
        Phase::Running if !awaited.is_empty() => (StatusCode::SERVICE_UNAVAILABLE, "tokens are awaited"),
        Phase::Running => (StatusCode::OK, "ready"),
    };
    let sinks = shown.journal.health().sinks();
    let ledger = match &shown.ledger {
        None => "none".to_owned(),
        Some(_) => {
            sinks.iter().find(|sink| sink.label == "ledger").map_or("ok".to_owned(), |sink| condition(sink))
        }
    };
    let mut text = format!("{word}\nworkers {workers} of {}\nledger {ledger}\n", shown.workers_wanted);
    for upstream in awaited {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "identity of {upstream} awaited");
    }
    let others = sinks.iter().filter(|sink| sink.label != "ledger");
    for (sink, condition) in
        others.map(|sink| (sink, condition(sink))).filter(|(_, condition)| condition != "ok")
    {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "sink {} {condition}", sink.label);
    }
    let dropped = shown.journal.health().dropped.load(std::sync::atomic::Ordering::Relaxed);
    if dropped > 0 {
        let _ = writeln!(text, "records {dropped} lost before the sinks");
    }
    if telemetry::dropped() > 0 {
        let _ = writeln!(text, "log {} lines lost", telemetry::dropped());
    }
    if telemetry::panics() > 0 {
        let _ = writeln!(text, "panics {}", telemetry::panics());
    }
    for thread in threads.iter().filter(|thread| thread.failures > 0) {
        let _ = match &thread.fatal {
            // The reason is in the log only: this page is open to every client.
            Some(_) => writeln!(text, "thread {} ended unexpectedly", thread.name),
            None => writeln!(text, "thread {} started again {} times", thread.name, thread.failures),
        };
    }
    (status, text)
}

/// The condition of a sink, as text.
fn condition(sink: &SinkHealth) -> String {
    let (lost, busy) = (sink.lost(), sink.busy_for());
    let lost = if lost > 0 { format!("{lost} records lost") } else { String::new() };
    let stuck = if busy >= STUCK {
        format!("stuck for {} s, {} records wait", busy.as_secs(), sink.waiting())
    } else {
        String::new()
    };
    match (lost.is_empty(), stuck.is_empty()) {
        (true, true) => "ok".to_owned(),
        (false, true) => lost,
        (true, false) => stuck,
        (false, false) => format!("{stuck}, {lost}"),
    }
}
