//! The sink that writes the ledger: group commit, retries, and the schedule of deletions.
//!
//! The sink runs on the thread of its [lane](crate::record::Lane), whose queue gathers batches
//! between commits. Records that it cannot write wait in that bounded queue.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::error::{LedgerError, Reason};
use super::postgres::Shipper;
use super::retention::Retention;
use super::store::Store;
use super::summing::Summing;
use super::sweep::Sweeper;
use super::{counted, spill};
use crate::config::Postgres;
pub(super) use crate::record::Batch;
use crate::record::{Journal, Sink, Turn, UsageRecord, count};
use crate::support::{Backoff, Gathering, Live, OutageNotice};

/// The time for which batches are gathered after the first one. With the journal's own 20 ms a
/// record is committed 100 ms after its end, and few records cost at most ten commits a second.
const GATHER: Duration = Duration::from_millis(80);

/// The number of records that are written without further gathering: a commit is one step of this
/// thread, for which a worker may wait.
const ENOUGH: usize = 512;

/// The conditions under which the sink gets records.
pub(super) const GATHERING: Gathering = Gathering { time: GATHER, enough: ENOUGH };

/// The first and the longest pause between attempts while the file cannot be written.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The time for which the last records are retried when the process ends.
const GRACE: Duration = Duration::from_secs(5);

/// The interval of checks of the file and its log while there is nothing to write.
const LOOK: Duration = Duration::from_secs(5);

/// Limits on the deletion of rows, beside the retention.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// The number of rows that are not shipped and stay. Only those beyond it may be deleted.
    unshipped: Option<u64>,
    /// The retention of PostgreSQL.
    elsewhere: Option<Duration>,
}

/// Ends the shipping to PostgreSQL before the end of the process, which goes on to write the file:
/// another process ships its rows. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct ShippingEnd(Arc<OnceLock<watch::Sender<bool>>>);

impl ShippingEnd {
    /// Ships the waiting rows for a few seconds at most, and ends. Does not wait for it.
    pub fn begin(&self) {
        if let Some(closing) = self.0.get() {
            let _ = closing.send(true);
        }
    }
}

/// The sink.
pub struct Ledger {
    name: String,
    path: PathBuf,
    store: Store,
    journal: Journal,
    /// Notified of each commit.
    committed: Option<Arc<Notify>>,
    outage: OutageNotice,
    /// Deletes old rows, if there is a retention.
    sweeper: Option<Sweeper>,
    kept: Kept,
    /// The retention that reloads change, and the generation in use.
    followed: Option<(Arc<Live<Option<Duration>>>, u64)>,
    /// The deadline of the last records. `None` while the process is not ending.
    give_up: Option<Instant>,
    /// The deadline has passed, and records were left to the next start.
    has_given_up: bool,
    /// Records that were written and disappeared, until the lane counts them.
    gone: usize,
    summing: Summing,
    /// Dropped last, when everything is in the file.
    shipper: Option<Shipper>,
}

impl Ledger {
    /// Opens the file at `path`. Records that started longer than `retention` ago are deleted from
    /// it.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or created, belongs to another program, or has a newer
    /// version. A damaged file is not an error: it is moved aside, and a new one is begun.
    pub fn open(path: &Path, retention: Option<Duration>, journal: &Journal) -> Result<Self, LedgerError> {
        let mut store = Store::open_on(path, journal.threads())?;
        let sweeper = retention.map(|age| {
            let retention = Some(Retention { age, unshipped: None });
            Sweeper::begin(&path.display().to_string(), &mut store, retention, age, Timestamp::now())
        });
        let sweeper = sweeper.transpose().map_err(|reason| LedgerError::new(path, reason))?;
        Ok(Self::with(store, path, sweeper, Kept::default(), None, journal))
    }

    /// Opens the file for an instance of a fleet. A thread of its own ships rows to PostgreSQL; the
    /// end waits for it for a few seconds. Rows that are not shipped yet are not deleted, up to
    /// `postgres.max_waiting`.
    ///
    /// # Errors
    /// Fails like [`Self::open`]. An unreachable server is not an error.
    pub fn open_for_fleet(
        path: &Path,
        retention: Option<Duration>,
        postgres: Postgres,
        journal: &Journal,
    ) -> Result<Self, LedgerError> {
        let mut store = Store::open_on(path, journal.threads())?;
        // The shorter of the two retentions decides how much a clock is trusted.
        let age = [retention, postgres.retention].into_iter().flatten().min();
        let kept = Kept { unshipped: Some(postgres.max_waiting), elsewhere: postgres.retention };
        let retention = retention.map(|age| Retention { age, unshipped: kept.unshipped });
        let sweeper = age.map(|age| {
            Sweeper::begin(&path.display().to_string(), &mut store, retention, age, Timestamp::now())
        });
        let sweeper = sweeper.transpose().map_err(|reason| LedgerError::new(path, reason))?;
        let shipper = Shipper::spawn(path, postgres, journal, sweeper.as_ref().map(Sweeper::believed));
        let shipper = shipper.map_err(|failure| LedgerError::new(path, failure))?;
        Ok(Self::with(store, path, sweeper, kept, Some(shipper), journal))
    }

    fn with(
        mut store: Store,
        path: &Path,
        sweeper: Option<Sweeper>,
        kept: Kept,
        shipper: Option<Shipper>,
        journal: &Journal,
    ) -> Self {
        match store.connection().and_then(|connection| Ok(counted::load(connection)?)) {
            Ok(results) => journal.remember_counted(&results),
            Err(reason) => {
                tracing::warn!(ledger = %path.display(), %reason, "which stored responses are counted cannot be read");
            }
        }
        Self {
            name: path.display().to_string(),
            path: path.to_owned(),
            store,
            journal: journal.clone(),
            committed: shipper.as_ref().map(Shipper::waker),
            outage: OutageNotice::default(),
            sweeper,
            kept,
            followed: None,
            give_up: None,
            has_given_up: false,
            gone: 0,
            summing: Summing::begin(&path.display().to_string()),
            shipper,
        }
    }
}

impl Sink for Ledger {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn label(&self) -> &'static str {
        "ledger"
    }

    fn gathering(&self) -> Gathering {
        GATHERING
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        self.store.write(&[Arc::new(batch.to_vec())]).map_err(|reason| io::Error::other(reason.to_string()))
    }

    fn write_batches(&mut self, batches: &[Batch], turn: &mut Turn<'_>) {
        self.write_all(batches, turn);
    }

    /// Checks the file, and deletes old rows.
    fn wake(&mut self) -> Option<Instant> {
        self.look();
        if !self.outage.is_failing() {
            self.follow_retention();
        }
        if !self.outage.is_failing()
            && let Some(sweeper) = &mut self.sweeper
        {
            sweeper.sweep(&mut self.store, &self.journal, Timestamp::now(), Instant::now());
        }
        let look = Instant::now() + LOOK;
        if self.outage.is_failing() {
            return Some(look);
        }
        self.summing.sweep(&mut self.store, self.sweeper.as_ref().map(Sweeper::believed));
        let next = self.summing.step(&mut self.store).min(look);
        Some(self.sweeper.as_ref().map_or(next, |sweeper| sweeper.next().min(next)))
    }

    fn take_gone(&mut self) -> usize {
        mem::take(&mut self.gone)
    }

    fn reopen(&mut self) {
        self.store.close();
    }

    fn end(&mut self) {
        self.look();
        // Records that another program truncated from the log, and that could not be written again.
        let unsaved = self.store.unsaved();
        if !unsaved.is_empty() {
            self.gone += self.spill(&unsaved);
        }
        if let Some(sweeper) = &mut self.sweeper
            && !self.outage.is_failing()
        {
            sweeper.end(&mut self.store);
        }
    }
}

impl Ledger {
    /// Makes `end` end the shipping to PostgreSQL.
    pub fn ended_by(self, end: &ShippingEnd) -> Self {
        if let Some(shipper) = &self.shipper {
            end.0.set(shipper.closing()).ok();
        }
        self
    }

    /// Writes the records that were spilled while the file could not be opened.
    pub(super) fn take_in_spilled(&mut self) {
        self.store.take_in_spilled();
    }

    /// Follows a retention that changes, from the next wake on.
    pub fn following(mut self, retention: Arc<Live<Option<Duration>>>) -> Self {
        let generation = retention.generation();
        self.followed = Some((retention, generation));
        self
    }

    /// Deletes sums of hours that are older than the retention that `retention` has at the time.
    pub fn keeping_sums(mut self, retention: Arc<Live<Option<Duration>>>) -> Self {
        self.summing.keep_for(retention);
        self
    }

    fn follow_retention(&mut self) {
        let Some((retention, in_use)) = &mut self.followed else { return };
        let generation = retention.generation();
        if *in_use == generation {
            return;
        }
        let (age, Kept { unshipped, elsewhere }) = (*retention.load(), self.kept);
        let retention = age.map(|age| Retention { age, unshipped });
        match (self.sweeper.take(), [age, elsewhere].into_iter().flatten().min()) {
            (Some(mut sweeper), Some(trusted)) => {
                sweeper.change(retention, trusted);
                self.sweeper = Some(sweeper);
            }
            (Some(mut sweeper), None) => sweeper.end(&mut self.store),
            (None, Some(trusted)) => {
                match Sweeper::begin(&self.name, &mut self.store, retention, trusted, Timestamp::now()) {
                    Ok(sweeper) => self.sweeper = Some(sweeper),
                    Err(reason) => {
                        tracing::warn!(ledger = self.name, %reason, "the new ledger.retention cannot be used now");
                        return;
                    }
                }
            }
            (None, None) => {}
        }
        *in_use = generation;
    }

    /// Checks whether another program has changed the file or its log.
    fn look(&mut self) {
        let result = self.store.mend();
        self.count_gone();
        match result {
            Ok(()) => self.well(),
            Err(reason) => self.say(&reason),
        }
    }

    /// Writes all batches, in one transaction unless writing fails. Retries until it succeeds, or
    /// until the process ends and [`GRACE`] is over.
    fn write_all(&mut self, mut batches: &[Batch], turn: &mut Turn<'_>) {
        // Another attempt at a file that is locked would take the rest of the time.
        if self.has_given_up {
            self.leave(batches, turn);
            return;
        }
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while !batches.is_empty() {
            // While the file fails, an attempt has one batch: each attempt on a full disk costs the
            // work for all that it contains.
            let attempt = if self.outage.is_failing() { &batches[..1] } else { batches };
            let result = self.store.write(attempt);
            self.count_gone();
            let Err(reason) = result else {
                let written = count(attempt);
                turn.record_written(written);
                self.summing.count(written);
                self.journal.health().kept.fetch_add(written as u64, Ordering::Relaxed);
                if let Some(committed) = &self.committed {
                    committed.notify_one();
                }
                self.well();
                backoff.reset();
                batches = &batches[attempt.len()..];
                continue;
            };
            self.say(&reason);
            if let Some(deadline) = turn.pause(backoff.take_next()) {
                let give_up = *self.give_up.get_or_insert_with(|| Instant::now() + GRACE);
                if give_up.min(deadline) <= Instant::now() {
                    self.has_given_up = true;
                    self.leave(batches, turn);
                    return;
                }
                thread::sleep(FIRST_PAUSE);
            }
        }
    }

    /// Leaves the last records to the next start, which writes them.
    fn leave(&mut self, batches: &[Batch], turn: &mut Turn<'_>) {
        let lost = self.spill(batches);
        turn.record_lost(lost);
        turn.record_written(count(batches) - lost);
    }

    /// Logs that records are written again, if writing had failed.
    fn well(&mut self) {
        if self.outage.record_success() {
            tracing::info!(ledger = self.name, "usage records are written again");
        }
    }

    /// Logs the reason for which records cannot be written, if it is new.
    fn say(&mut self, reason: &Reason) {
        // The shipper has the file open too, and a truncated log may wait for it to close.
        if let Some(committed) = &self.committed {
            committed.notify_one();
        }
        if self.outage.record_failure(()) {
            tracing::error!(ledger = self.name, %reason, "usage records cannot be written; those that the queue has room for can wait until this ends");
        }
    }

    /// Subtracts records that were written and disappeared from the kept ones.
    fn count_gone(&mut self) {
        let gone = self.store.take_lost();
        if gone > 0 {
            self.journal.health().kept.fetch_sub(gone, Ordering::Relaxed);
            self.gone += usize::try_from(gone).unwrap_or(usize::MAX);
        }
    }

    /// Leaves records to the next start. Returns the number of records that are lost, because that
    /// is not possible either.
    fn spill(&self, batches: &[Batch]) -> usize {
        let spilled = spill::append(&self.path, batches.iter().flat_map(|batch| batch.iter()));
        let file = spill::file_of(&self.path);
        if spilled.records > 0 {
            tracing::warn!(
                ledger = self.name, records = spilled.records, file = %file.display(),
                "usage records could not be written before the end; they are in a file that the next start reads"
            );
        }
        let lost = count(batches) - spilled.records;
        if lost > 0 {
            let reason = spilled.error.map_or_else(String::new, |error| error.to_string());
            tracing::error!(ledger = self.name, lost, file = %file.display(), reason, "usage records were not written before the end");
        }
        lost
    }
}

#[cfg(test)]
mod tests;
