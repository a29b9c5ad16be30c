//! Sends changes as server-sent events (WHATWG HTML, section 9.2) to every open dashboard:
//!
//! * `tile`: the number of running streams, and the members of groups that are out, when they have
//!   changed, at most once a second;
//! * `running`: the table of running streams, likewise;
//! * `members`: the table of the members of groups, likewise;
//! * `records`: the number of usage records that the ledger has received since the start, when it
//!   differs from the number that the page has; the page then reloads its data. For a fleet, whose
//!   other instances report nothing here: the number of times that [`FLEET`] has passed.
//!
//! The number of watchers is limited. Nothing is gathered for a watcher that does not read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::Members;
use super::pages::members;
use super::pages::running::{self, Running};
use super::query::PageQuery;
use crate::record::{ActiveRequests, Journal};
use crate::sinks::ledger::Teams;

/// The interval of checks for changes.
const TICK: Duration = Duration::from_secs(1);

/// The interval at which a page of a fleet reloads its data.
const FLEET: Duration = Duration::from_secs(10);

/// A comment keeps the connection alive after a silence of this length.
const SILENCE: Duration = Duration::from_secs(15);

/// The delay before a browser reconnects, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";

/// The tables of a page that change by themselves.
pub(super) struct LiveTables {
    pub(super) active: ActiveRequests,
    pub(super) members: Members,
    pub(super) teams: Teams,
    /// The query of the page, with its filters and its zone.
    pub(super) query: PageQuery,
}

/// The events of one watcher. They end when its client has lost access.
pub(super) struct LiveEvents {
    tables: LiveTables,
    journal: Journal,
    ticks: Interval,
    /// The last events.
    last: [Option<String>; 3],
    kept: Option<u64>,
    told: Instant,
    since: Instant,
    of_fleet: bool,
    begun: bool,
    /// Checks the access of the request again: the token or its session may have ended.
    is_allowed: Box<dyn Fn() -> bool + Send>,
    _place: OwnedSemaphorePermit,
}

impl LiveEvents {
    /// Begins now, for a page of this instance's records or of the fleet's (`of_fleet`). `since` is
    /// the number of records when the page was read. `place` is released at the end, which comes
    /// after `is_allowed` has said no.
    pub(super) fn new(
        tables: LiveTables,
        journal: Journal,
        of_fleet: bool,
        since: Option<u64>,
        is_allowed: Box<dyn Fn() -> bool + Send>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            tables,
            journal,
            ticks,
            last: Default::default(),
            kept: since.filter(|_| !of_fleet),
            told: Instant::now(),
            since: Instant::now(),
            of_fleet,
            begun: false,
            is_allowed,
            _place: place,
        }
    }

    /// The events for the changes.
    fn news(&mut self) -> Option<String> {
        let mut text = String::new();
        let LiveTables { active, members, teams, query } = &self.tables;
        let (streams, groups) = (Running::of(active, query, teams), members.states());
        let tables = [
            ("tile", running::tile(&streams, &groups)),
            ("running", running::table(&streams, &query.zone)),
            ("members", members::table(&groups, Timestamp::now(), &query.zone)),
        ];
        for ((name, table), last) in tables.into_iter().zip(&mut self.last) {
            let table = table.into_string();
            if last.as_ref().map_or("", String::as_str) != table {
                event(&mut text, name, &table);
                *last = Some(table);
            }
        }
        let kept = match self.of_fleet {
            true => self.since.elapsed().as_secs() / FLEET.as_secs(),
            false => self.journal.health().kept.load(Ordering::Relaxed),
        };
        // A client without `since` gets only later records.
        if self.kept.replace(kept).is_some_and(|before| before != kept) {
            event(&mut text, "records", &kept.to_string());
        }
        if text.is_empty() && self.told.elapsed() >= SILENCE {
            text.push_str(":\n\n");
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Stream for LiveEvents {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.begun {
            self.begun = true;
            return Poll::Ready(Some(Ok(RETRY.into())));
        }
        while self.ticks.poll_tick(cx).is_ready() {
            if !(self.is_allowed)() {
                return Poll::Ready(None);
            }
            if let Some(events) = self.news() {
                self.told = Instant::now();
                return Poll::Ready(Some(Ok(events.into())));
            }
        }
        Poll::Pending
    }
}

/// A line break inside the data begins another line of data.
fn event(text: &mut String, name: &str, data: &str) {
    text.push_str("event: ");
    text.push_str(name);
    for line in data.split(['\n', '\r']) {
        text.push_str("\ndata: ");
        text.push_str(line);
    }
    text.push_str("\n\n");
}

#[cfg_attr(not(feature = "moved-clock"), allow(unused, reason = "tests that move the clock use it"))]
#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use jiff::tz::TimeZone;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::balance::HealthRegistry;
    use crate::record::{Entry, Outcome};
    use crate::support::Live;

    async fn next(live: &mut LiveEvents) -> String {
        let Ok(bytes) = poll_fn(|cx| Pin::new(&mut *live).poll_next(cx)).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn tables(active: ActiveRequests) -> LiveTables {
        let health = HealthRegistry::new(std::time::Instant::now());
        let members = Members { groups: Live::new(Vec::new()), health };
        LiveTables { active, members, teams: Teams::default(), query: PageQuery::plain(&TimeZone::UTC) }
    }

    fn always() -> Box<dyn Fn() -> bool + Send> {
        Box::new(|| true)
    }

    #[cfg(feature = "moved-clock")]
    #[tokio::test(start_paused = true)]
    async fn live_sends_changes_only() {
        let (active, journal) = (ActiveRequests::new(1), Journal::new(8));
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (listed, seen) = (active.clone(), journal.clone());
        let mut live = LiveEvents::new(tables(listed), seen, false, Some(0), always(), place);
        assert_eq!(next(&mut live).await, RETRY);
        let first = next(&mut live).await;
        assert!(first.starts_with("event: tile\ndata: ") && first.ends_with("\n\n"), "{first}");
        let silent = Instant::now();
        assert_eq!(next(&mut live).await, ":\n\n", "nothing has changed");
        assert!(silent.elapsed() >= SILENCE - TICK);

        let mut entry = Entry::open(&journal, &"ada".into());
        entry.row().stream = true;
        entry.list_in(&active.of_worker(0));
        entry.show();
        let running = next(&mut live).await;
        assert!(running.contains("event: running\n") && running.contains("ada"), "{running}");
        entry.close(Outcome::Complete);
        journal.health().kept.fetch_add(1, Ordering::Relaxed);
        let ended = next(&mut live).await;
        assert!(ended.contains("event: records\ndata: 1\n\n") && !ended.contains("ada"), "{ended}");
        drop(live);
        assert_eq!(places.available_permits(), 1);
    }

    #[cfg(feature = "moved-clock")]
    #[tokio::test(start_paused = true)]
    async fn live_of_a_fleet_reports_records_periodically() {
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let (active, journal) = (ActiveRequests::new(1), Journal::new(8));
        let mut live = LiveEvents::new(tables(active), journal, true, None, always(), place);
        assert_eq!(next(&mut live).await, RETRY);
        assert!(next(&mut live).await.starts_with("event: tile\n"));
        let start = Instant::now();
        for number in 1..4 {
            assert_eq!(next(&mut live).await, format!("event: records\ndata: {number}\n\n"));
            assert!(start.elapsed() >= FLEET * number - 2 * TICK, "{number}");
        }
    }

    #[cfg(feature = "moved-clock")]
    #[tokio::test(start_paused = true)]
    async fn live_reports_records_since_the_page_was_read() {
        let journal = Journal::new(8);
        journal.health().kept.store(7, Ordering::Relaxed);
        for (since, told) in [(Some(6), true), (Some(7), false), (None, false)] {
            let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
            let (active, journal) = (ActiveRequests::new(1), journal.clone());
            let mut live = LiveEvents::new(tables(active), journal, false, since, always(), place);
            assert_eq!(next(&mut live).await, RETRY);
            assert_eq!(next(&mut live).await.contains("event: records\ndata: 7\n"), told, "{since:?}");
        }
    }

    #[test]
    fn line_break_does_not_end_an_event() {
        let mut text = String::new();
        event(&mut text, "a", "1\n\n2\r3");
        assert_eq!(text, "event: a\ndata: 1\ndata: \ndata: 2\ndata: 3\n\n");
    }
}
