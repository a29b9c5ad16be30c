//! Faults that tests request. They exist only with the cargo feature `faults`, which no release
//! has.
//!
//! `STREAMGAUGE_FAULT="panic:NAME"` lets the thread NAME panic at each of its points: a sink
//! (`access-log`, `metrics`, `ledger`, `otlp`, `jsonl`) at each write, which loses its records;
//! `records` after each batch, `estimates` after each estimate, `checkpoint` at each copy,
//! `otlp-export`, `ledger-ship` and `keys` at each start of their work, `configuration` at each
//! comparison, `reload` at each reading of the configuration, `log-writer` at each write,
//! `memory` at each measurement, `readings` and `screen` of `top` at each reading and each frame,
//! `worker-N` and `admin` [`DELAY`] after their start. `late:worker-N` lets that worker adopt a new
//! configuration [`LATE`] too late, and `late:seed` delays a reading of limits' use as long.
//! `panic:NAME:COUNT` (`late:NAME:COUNT`) limits the faults to COUNT. Several faults are separated
//! by commas.

#[cfg(feature = "faults")]
use std::sync::Mutex;
#[cfg(feature = "faults")]
use std::time::Duration;

/// The time after which a worker panics.
#[cfg(feature = "faults")]
pub const DELAY: Duration = Duration::from_millis(300);

/// The delay of a late worker, beyond the time for which the reloading thread waits.
#[cfg(feature = "faults")]
pub const LATE: Duration = Duration::from_secs(3);

/// Panics if a fault of the thread `name` is requested.
#[cfg(feature = "faults")]
pub fn strike(name: &str) {
    assert!(!take("panic", name), "STREAMGAUGE_FAULT");
}

/// Does nothing.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn strike(_name: &str) {}

/// Panics after [`DELAY`] if a fault of the thread `name` is requested; otherwise never ends.
#[cfg(feature = "faults")]
pub async fn strike_later(name: &str) {
    tokio::time::sleep(DELAY).await;
    strike(name);
    std::future::pending().await
}

/// Waits for [`LATE`] if the worker must be late; otherwise, and without the cargo feature, returns
/// immediately.
#[cfg_attr(not(feature = "faults"), expect(clippy::unused_async, reason = "it waits with `faults`"))]
pub async fn be_late(worker: usize) {
    #[cfg(feature = "faults")]
    if take("late", &format!("worker-{worker}")) {
        tokio::time::sleep(LATE).await;
    }
    let _ = worker;
}

/// Blocks for [`LATE`] if the work `name` must be late.
#[cfg(feature = "faults")]
pub fn stall(name: &str) {
    if take("late", name) {
        std::thread::sleep(LATE);
    }
}

/// Does nothing.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn stall(_name: &str) {}

#[cfg(feature = "faults")]
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    kind: String,
    name: String,
    count: usize,
}

/// Takes one fault of this kind and name from those in the environment.
#[cfg(feature = "faults")]
fn take(kind: &str, name: &str) -> bool {
    static LEFT: Mutex<Option<Vec<Fault>>> = Mutex::new(None);
    let mut left = LEFT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let faults = left.get_or_insert_with(|| {
        let asked = std::env::var("STREAMGAUGE_FAULT").unwrap_or_default();
        asked.split(',').filter_map(parse).collect()
    });
    let fault = faults.iter_mut().find(|fault| fault.kind == kind && fault.name == name && fault.count > 0);
    fault.map(|fault| fault.count -= 1).is_some()
}

#[cfg(feature = "faults")]
fn parse(fault: &str) -> Option<Fault> {
    let (kind, fault) = fault.trim().split_once(':')?;
    let (name, count) = match fault.split_once(':') {
        Some((name, count)) => (name, count.parse().ok()?),
        None => (fault, usize::MAX),
    };
    Some(Fault { kind: kind.to_owned(), name: name.to_owned(), count })
}

#[cfg(all(test, feature = "faults"))]
mod tests {
    use super::*;

    #[test]
    fn fault_names_a_thread_and_optionally_a_count() {
        let fault = |kind: &str, name: &str, count| {
            Some(Fault { kind: kind.to_owned(), name: name.to_owned(), count })
        };
        assert_eq!(parse("panic:jsonl"), fault("panic", "jsonl", usize::MAX));
        assert_eq!(parse(" panic:ledger:2"), fault("panic", "ledger", 2));
        assert_eq!(parse("late:worker-1:1"), fault("late", "worker-1", 1));
        assert_eq!(parse("panic:ledger:x"), None);
        assert_eq!(parse(""), None);
    }
}
