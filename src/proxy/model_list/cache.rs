//! The last lists of an upstream, kept for a few seconds.

use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::fetch::Fetched;
use crate::llm::model_list::ListForm;

/// The time for which a list is kept.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// The number of lists of an upstream that are kept: of its forms, and of Azure's paths.
const KEPT: usize = 4;

/// The last lists of one upstream, which are dropped after [`FRESH`]. Its lock is held while the
/// upstream is asked, so that a worker asks it once for all requests that wait.
#[derive(Debug, Default)]
pub(in crate::proxy) struct ListCache(Rc<Mutex<Vec<Kept>>>);

#[derive(Debug)]
struct Kept {
    /// The request: a path, Azure's version, and the form of the list.
    request: (String, ListForm),
    at: Instant,
    fetched: Fetched,
}

/// The right to ask the upstream.
pub(super) struct Turn<'a> {
    kept: MutexGuard<'a, Vec<Kept>>,
    all: &'a Rc<Mutex<Vec<Kept>>>,
}

impl ListCache {
    /// Waits until no other request asks the upstream. Cancel-safe.
    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn { kept: self.0.lock().await, all: &self.0 }
    }

    /// Keeps the failure of a request that took too long, which has given its turn back.
    pub(super) fn keep_failure(&self, target: &str, form: ListForm, fetched: &Fetched, now: Instant) {
        if let Ok(kept) = self.0.try_lock() {
            Turn { kept, all: &self.0 }.keep(target, form, fetched, now);
        }
    }
}

impl Turn<'_> {
    /// A list that is fresh.
    pub(super) fn get(&self, target: &str, form: ListForm, now: Instant) -> Option<Fetched> {
        let is_it = |kept: &&Kept| kept.is_of(target, form) && kept.is_fresh(now);
        let kept = self.kept.iter().find(is_it)?;
        Some(Fetched { asked: None, ..kept.fetched.clone() })
    }

    pub(super) fn keep(&mut self, target: &str, form: ListForm, fetched: &Fetched, now: Instant) {
        self.kept.retain(|kept| kept.is_fresh(now) && !kept.is_of(target, form));
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push(Kept { request: (target.to_owned(), form), at: now, fetched: fetched.clone() });
        spawn_local(drop_stale(Rc::downgrade(self.all)));
    }
}

impl Kept {
    fn is_of(&self, target: &str, form: ListForm) -> bool {
        self.request.0 == target && self.request.1 == form
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < FRESH
    }
}

/// Frees the memory of lists that are no longer fresh.
async fn drop_stale(lists: Weak<Mutex<Vec<Kept>>>) {
    sleep(FRESH).await;
    if let Some(lists) = lists.upgrade() {
        let now = Instant::now();
        lists.lock().await.retain(|kept| kept.is_fresh(now));
    }
}
