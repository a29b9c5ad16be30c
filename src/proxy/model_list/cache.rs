//! The last list of an upstream, kept for a few seconds.

use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use super::fetch::Fetched;
use crate::llm::model_list::ListForm;

/// The time for which a list is kept.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// The largest list that is kept, in bytes: each worker keeps one for each upstream.
const MAX_KEPT: usize = 256 << 10;

/// The last list of one upstream. Its lock is held while the upstream is asked, so that a worker
/// asks it once for all requests that wait.
#[derive(Debug, Default)]
pub(in crate::proxy) struct ListCache(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    /// The request: a path, and the form of the list.
    request: (String, ListForm),
    at: Instant,
    fetched: Fetched,
}

/// The right to ask the upstream.
pub(super) struct Turn<'a>(MutexGuard<'a, Option<Kept>>);

impl ListCache {
    /// Waits until no other request asks the upstream. Cancel-safe.
    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn(self.0.lock().await)
    }

    /// Keeps the failure of a request that took too long, which has given its turn back.
    pub(super) fn keep_failure(&self, target: &str, form: ListForm, fetched: &Fetched, now: Instant) {
        if let Ok(kept) = self.0.try_lock() {
            Turn(kept).keep(target, form, fetched, now);
        }
    }
}

impl Turn<'_> {
    /// A list that is fresh.
    pub(super) fn get(&self, target: &str, form: ListForm, now: Instant) -> Option<Fetched> {
        let kept = self.0.as_ref()?;
        let is_same = kept.request.0 == target && kept.request.1 == form;
        let is_fresh = now.saturating_duration_since(kept.at) < FRESH;
        (is_same && is_fresh).then(|| Fetched { asked: None, ..kept.fetched.clone() })
    }

    pub(super) fn keep(&mut self, target: &str, form: ListForm, fetched: &Fetched, now: Instant) {
        let is_small = fetched.size() <= MAX_KEPT;
        let kept = || Kept { request: (target.to_owned(), form), at: now, fetched: fetched.clone() };
        *self.0 = is_small.then(kept);
    }
}
