//! What the dashboard shows, read from the ledger, and kept for a moment: several people look at
//! the same page, and each open one reads itself again when something was written.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;

use super::dashboard::{self, State};
use crate::admin::Shown;
use crate::admin::ask::PageAsk;
use crate::admin::reads::{Reads, Unread};
use crate::admin::respond::page;
use crate::ledger::{LedgerSource, Overview};

/// The latest records that the page shows.
const LATEST: usize = 20;

/// Pages that are kept.
const KEPT: usize = 16;

/// How long one is kept: so many times as long as it took to read, so that reading never takes more
/// than a part of a CPU however many pages are open; and at least that long.
const TIMES_AS_LONG: u32 = 8;
const AT_LEAST: Duration = Duration::from_millis(500);

/// The overviews of the pages that were asked for last.
#[derive(Default)]
pub(in crate::admin) struct Overviews(Mutex<VecDeque<Kept>>);

struct Kept {
    ask: PageAsk,
    until: Instant,
    read: Arc<Read>,
}

/// What was read, and when.
struct Read {
    at: Timestamp,
    /// How many records the ledger had been given before.
    kept: u64,
    overview: Overview,
}

impl Overviews {
    /// The page for a query.
    pub(in crate::admin) async fn respond(
        &self,
        reads: &Reads,
        shown: &Shown,
        has_login: bool,
        query: &str,
    ) -> Response {
        let prices = shown.prices.load();
        let (ask, wrong) = match PageAsk::parse(query, prices.zone()) {
            Ok(ask) => (ask, None),
            Err(reason) => (PageAsk::plain(prices.zone()), Some(reason)),
        };
        let read = match &wrong {
            Some(_) => None,
            None => Some(self.read(reads, shown, &ask).await),
        };
        let (status, at, state) = match (&read, &wrong) {
            (_, Some(reason)) => (StatusCode::BAD_REQUEST, Timestamp::now(), State::Wrong(reason)),
            (Some(Ok(read)), None) => (StatusCode::OK, read.at, State::Read(&read.overview)),
            (Some(Err(unread)), None) => {
                let (status, _, message) = unread.told();
                // The page is there, and says what is not.
                let status = if matches!(unread, Unread::NoLedger) { StatusCode::OK } else { status };
                (status, Timestamp::now(), State::Unread(message))
            }
            (None, None) => unreachable!("a query that is right is read"),
        };
        // Of a fleet, no instance knows.
        let is_fleet = matches!(shown.ledger, Some(LedgerSource::Fleet(_)));
        let kept =
            read.as_ref().and_then(|read| read.as_ref().ok()).filter(|_| !is_fleet).map(|read| read.kept);
        page(status, dashboard::page(&ask, at, &state, kept, shown.ledger.as_ref(), &shown.boards, has_login))
    }

    async fn read(&self, reads: &Reads, shown: &Shown, ask: &PageAsk) -> Result<Arc<Read>, Unread> {
        let begun = Instant::now();
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(|kept| kept.ask == *ask && kept.until > begun)
            .map(|kept| Arc::clone(&kept.read));
        if let Some(read) = known {
            return Ok(read);
        }
        let at = Timestamp::now();
        let kept = shown.journal.health().kept.load(Ordering::Relaxed);
        let (selection, step, prices) = (ask.selection(at), ask.range.step(), shown.prices.load());
        let overview = reads
            .read(move |place, bounds| place.overview(&selection, step, LATEST, &prices, bounds))
            .await?;
        let read = Arc::new(Read { at, kept, overview });
        let took = begun.elapsed();
        tracing::debug!(?took, requests = read.overview.total.requests, "the dashboard's overview was read");
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.ask != *ask);
        kept.truncate(KEPT - 1);
        let until = Instant::now() + (took * TIMES_AS_LONG).max(AT_LEAST);
        kept.push_front(Kept { ask: ask.clone(), until, read: Arc::clone(&read) });
        Ok(read)
    }
}
