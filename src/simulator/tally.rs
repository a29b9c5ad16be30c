//! Counters of the simulator since its start, for tests that compare them: `GET /simulator/tally`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

/// The first number of further responses, beyond those of requests.
const FURTHER: u64 = 1 << 40;

/// The largest number of requests whose executions are counted.
const MAX_IDS: usize = 100_000;

/// Token counts that a response reported.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tokens {
    pub(super) input: u64,
    pub(super) output: u64,
}

/// Counters of all threads.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: AtomicU64,
    /// Responses of sessions that have several.
    further: AtomicU64,
    streams: AtomicU64,
    cancelled: AtomicU64,
    reports: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    /// The executions of requests, by their `x-simulate-id`.
    executions: Mutex<BTreeMap<String, u64>>,
    /// A line with the id of each execution, which survives the process.
    file: OnceLock<File>,
    /// Requests whose response has not ended, and the largest number of them so far.
    running: AtomicU64,
    most_running: AtomicU64,
}

/// A request that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<Tally>);

impl Running {
    pub(super) fn begin(tally: &Arc<Tally>) -> Arc<Self> {
        let running = 1 + tally.running.fetch_add(1, Ordering::Relaxed);
        tally.most_running.fetch_max(running, Ordering::Relaxed);
        Arc::new(Self(Arc::clone(tally)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    /// Counts a request, and returns its number. Requests for the tally itself are not counted.
    pub(super) fn request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of a further response to a request that has had one.
    pub(super) fn number(&self) -> u64 {
        FURTHER + self.further.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts the begin of a stream.
    pub(super) fn stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a stream that was dropped before its end, because the client left.
    pub(super) fn cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the usage `now` of a response that had reported `before`: counts within a stream are
    /// cumulative.
    pub(super) fn report(&self, before: Option<Tokens>, now: Tokens) {
        self.reports.fetch_add(u64::from(before.is_none()), Ordering::Relaxed);
        let before = before.unwrap_or_default();
        self.input_tokens.fetch_add(now.input - before.input, Ordering::Relaxed);
        self.output_tokens.fetch_add(now.output - before.output, Ordering::Relaxed);
    }

    /// Counts the execution of the request of this id. Beyond a number of them, further ids are not
    /// counted.
    pub(super) fn execute(&self, id: &str) {
        if let Some(mut file) = self.file.get() {
            // The line is one write, so that lines of several threads do not mix. A full disk costs
            // only the count.
            let _ = file.write_all(format!("{id}\n").as_bytes());
        }
        let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        if executions.len() < MAX_IDS || executions.contains_key(id) {
            *executions.entry(id.to_owned()).or_default() += 1;
        }
    }

    /// Appends the id of each further execution to this file, which is open for appending.
    pub(super) fn append_to(&self, file: File) {
        // The first one stays.
        let _ = self.file.set(file);
    }

    /// The number of executions by id.
    pub(super) fn executions(&self) -> Value {
        json!(*self.executions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of running requests, and the largest one so far.
    pub(super) fn running(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({ "running": read(&self.running), "most_running": read(&self.most_running) })
    }

    pub(super) fn as_json(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (input, output) = (read(&self.input_tokens), read(&self.output_tokens));
        json!({
            "requests": read(&self.requests),
            "streams": read(&self.streams),
            "streams_cancelled": read(&self.cancelled),
            "responses_with_usage": read(&self.reports),
            "input_tokens": input,
            "output_tokens": output,
            "total_tokens": input + output,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cumulative_reports_are_counted_once() {
        let tally = Tally::default();
        let (first, second) = (Tokens { input: 5, output: 1 }, Tokens { input: 5, output: 4 });
        tally.report(None, first);
        tally.report(Some(first), second);
        let json = tally.as_json();
        assert_eq!([&json["responses_with_usage"], &json["input_tokens"], &json["output_tokens"]], [1, 5, 4]);
    }
}
