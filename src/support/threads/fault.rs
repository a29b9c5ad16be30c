//! Faults that tests request. They exist only with the cargo feature `faults`, which no release has.
//!
//! `STREAMGAUGE_FAULT="panic:NAME"` lets the thread NAME panic at each of its points: a sink
//! (`access-log`, `metrics`, `ledger`, `otlp`, `jsonl`) at each write, which loses the records in
//! hand; `records` after each batch, `estimates` after each estimate, `checkpoint` at each copy,
//! `otlp-export` and `ledger-ship` at each start of their work, `configuration` at each comparison,
//! `log-writer` at each write, `worker-N` and `admin` [`DELAY`] after their start.
//! `panic:NAME:COUNT` does so COUNT times and then no more. Several faults are separated by commas.

#[cfg(feature = "faults")]
use std::sync::Mutex;
#[cfg(feature = "faults")]
use std::time::Duration;

/// How long a worker runs before it panics.
#[cfg(feature = "faults")]
pub const DELAY: Duration = Duration::from_millis(300);

/// Panics if a fault of the thread `name` is requested.
#[cfg(feature = "faults")]
pub fn strike(name: &str) {
    assert!(!take(name), "STREAMGAUGE_FAULT");
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

/// Takes one fault of `name` from those that the environment requests.
#[cfg(feature = "faults")]
fn take(name: &str) -> bool {
    static LEFT: Mutex<Option<Vec<(String, usize)>>> = Mutex::new(None);
    let mut left = LEFT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let faults = left.get_or_insert_with(|| {
        let asked = std::env::var("STREAMGAUGE_FAULT").unwrap_or_default();
        asked.split(',').filter_map(parse).collect()
    });
    let fault = faults.iter_mut().find(|(of, count)| of == name && *count > 0);
    fault.map(|(_, count)| *count -= 1).is_some()
}

#[cfg(feature = "faults")]
fn parse(fault: &str) -> Option<(String, usize)> {
    let fault = fault.trim().strip_prefix("panic:")?;
    match fault.split_once(':') {
        Some((name, count)) => Some((name.to_owned(), count.parse().ok()?)),
        None => Some((fault.to_owned(), usize::MAX)),
    }
}

#[cfg(all(test, feature = "faults"))]
mod tests {
    use super::*;

    #[test]
    fn fault_names_a_thread_and_optionally_a_count() {
        assert_eq!(parse("panic:jsonl"), Some(("jsonl".to_owned(), usize::MAX)));
        assert_eq!(parse(" panic:ledger:2"), Some(("ledger".to_owned(), 2)));
        assert_eq!(parse("panic:ledger:x"), None);
        assert_eq!(parse(""), None);
    }
}
