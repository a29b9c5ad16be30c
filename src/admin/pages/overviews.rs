//! The dashboard's data, read from the ledger and cached briefly: several clients open the same
//! page, and each open page reloads its data after a write.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::dashboard::{self, Instance, State};
use crate::admin::query::PageQuery;
use crate::admin::reader::ReadError;
use crate::admin::respond::page;
use crate::admin::{Admin, Shown};
use crate::config::reload::ReloadStatus;
use crate::sinks::ledger::{Bounds, By, LedgerSource, Overview, OverviewSpec, Teams};

/// The number of latest records on the page.
const LATEST: usize = 20;

/// The number of cached pages.
const KEPT: usize = 16;

/// The time for which a page is cached, as a multiple of the time of its read, so that reads use a
/// limited share of a CPU however many pages are open; and the least time.
const TIMES_AS_LONG: u32 = 8;
const AT_LEAST: Duration = Duration::from_millis(500);

/// The overviews of the latest queries.
#[derive(Default)]
pub(in crate::admin) struct Overviews(Mutex<VecDeque<Kept>>);

struct Kept {
    query: PageQuery,
    until: Instant,
    read: Arc<Read>,
}

/// A read, and its time.
struct Read {
    at: Timestamp,
    /// The number of records that the ledger had received before.
    kept: u64,
    overview: Overview,
    /// The overview of the period before.
    before: Overview,
}

impl Overviews {
    /// Responds to the text of a query. The page of a client that `may_change` stored keys leads to
    /// them.
    pub(in crate::admin) async fn respond(&self, admin: &Admin, text: &str, may_change: bool) -> Response {
        let Shown { ledger, active, members, limits, .. } = &admin.shown;
        let (prices, status) = (admin.shown.prices.load(), admin.shown.reload.status());
        let teams = teams(&status);
        let instance = Instance {
            ledger: ledger.as_ref(),
            active,
            members,
            limits,
            prices: &prices,
            teams: &teams,
            status: &status,
            has_login: admin.access.load().has_login(),
            has_keys: may_change && admin.shown.keys.load().store.is_some(),
        };
        let zone = prices.zone();
        let show = |status, query: &PageQuery, at, state: &State<'_>, kept| {
            page(status, dashboard::page(query, at, state, kept, &instance))
        };
        let query = match PageQuery::parse(text, zone) {
            Ok(query) => query,
            Err(reason) => {
                let (query, state) = (PageQuery::plain(zone), State::Wrong(&reason));
                return show(StatusCode::BAD_REQUEST, &query, Timestamp::now(), &state, None);
            }
        };
        match self.read(admin, &query, &teams).await {
            Ok(read) => {
                // No instance knows the number of records that its fleet has written.
                let is_fleet = matches!(ledger, Some(LedgerSource::Fleet(_)));
                let kept = Some(read.kept).filter(|_| !is_fleet);
                show(StatusCode::OK, &query, read.at, &State::Read(&read.overview, &read.before), kept)
            }
            Err(error) => {
                let (status, _, message) = error.describe();
                // Without a ledger the page is complete, and says so.
                let status = if matches!(error, ReadError::NoLedger) { StatusCode::OK } else { status };
                show(status, &query, Timestamp::now(), &State::Failed(message), None)
            }
        }
    }

    async fn read(&self, admin: &Admin, query: &PageQuery, teams: &Teams) -> Result<Arc<Read>, ReadError> {
        let (shown, query) = (&admin.shown, query.reading());
        let begun = Instant::now();
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(|kept| kept.query == query && kept.until > begun)
            .map(|kept| Arc::clone(&kept.read));
        if let Some(read) = known {
            return Ok(read);
        }
        let at = Timestamp::now();
        let kept = shown.journal.health().kept.load(Ordering::Relaxed);
        let (selection, earlier) = (query.selection(at, teams), query.selection_before(at, teams));
        let prices = shown.prices.load();
        let prices = match *prices.zone() == query.zone {
            true => prices,
            false => Arc::new(prices.as_ref().clone().in_zone(&query.zone)),
        };
        let step = query.range.step(at, &query.zone);
        // Teams are those of clients.
        let split = query.split.map(|by| if by == By::Team { By::Client } else { by });
        let spec = OverviewSpec { latest: LATEST, latest_failed: query.failed, split, step };
        let read = move |place: &LedgerSource, bounds: &Bounds| {
            let overview = place.overview(&selection, &spec, &prices, bounds)?;
            // A ledger that is too large for two reads is shown without the comparison.
            match place.overview(&earlier, &OverviewSpec::new(step), &prices, bounds) {
                Err(error) if error.is_bound() => Ok((overview, Overview::default())),
                before => Ok((overview, before?)),
            }
        };
        let (overview, before) = admin.reader.read(read).await?;
        let read = Arc::new(Read { at, kept, overview, before });
        let took = begun.elapsed();
        tracing::debug!(?took, requests = read.overview.total.requests, "the dashboard's overview was read");
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.query != query && kept.until > begun);
        kept.truncate(KEPT - 1);
        let until = Instant::now() + (took * TIMES_AS_LONG).max(AT_LEAST);
        kept.push_front(Kept { query, until, read: Arc::clone(&read) });
        Ok(read)
    }
}

/// The team of each client in the configuration in use.
pub(in crate::admin) fn teams(status: &ReloadStatus) -> Teams {
    let clients = status.effective.get("clients").and_then(Value::as_object);
    let named = clients.into_iter().flatten();
    let named =
        named.filter_map(|(client, table)| Some((client.clone(), table.get("team")?.as_str()?.to_owned())));
    Teams::new(named.collect())
}
