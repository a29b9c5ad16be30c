//! Reads many rows by halves, on two threads: adding up a million takes a CPU about a second, while
//! a user waits.

use std::path::Path;
use std::thread;

use rusqlite::Transaction;

use super::super::error::Reason;
use super::{Bounds, Selection, open_bounded};

/// The number of rows from which on two threads read.
const MANY: i64 = 50_000;

/// The rows from the first `seq` to the last, both included.
pub(super) type Range = (i64, i64);

/// Reads all selected rows with `read`, in one pass.
///
/// # Errors
/// Fails like [`by_halves`].
pub(super) fn whole<T>(
    path: &Path,
    selection: &Selection,
    bounds: &Bounds,
    read: impl Fn(&Transaction<'_>, Range) -> Result<T, Reason>,
) -> Result<T, Reason> {
    let connection = open_bounded(path, bounds)?;
    let transaction = connection.unchecked_transaction()?;
    read(&transaction, selection.range(&transaction)?)
}

/// Reads the selected rows with `read`. If there are many, a second thread reads the later half.
///
/// Each half has a connection of its own. The second connection sees the file a moment later than
/// the first. That makes no difference: rows written in between are beyond the range, rows never
/// change, and old rows are deleted from the other end.
///
/// # Errors
/// Fails with the errors of `read`, and of opening the file.
pub(super) fn by_halves<T: Send>(
    path: &Path,
    selection: &Selection,
    bounds: &Bounds,
    read: impl Fn(&Transaction<'_>, Range) -> Result<T, Reason> + Sync,
) -> Result<(T, Option<T>), Reason> {
    let connection = open_bounded(path, bounds)?;
    let transaction = connection.unchecked_transaction()?;
    let (first, last) = selection.range(&transaction)?;
    if last.saturating_sub(first) < MANY || thread::available_parallelism().map_or(1, usize::from) == 1 {
        return Ok((read(&transaction, (first, last))?, None));
    }
    let middle = first + (last - first) / 2;
    thread::scope(|scope| {
        let later = thread::Builder::new().name("ledger-read".to_owned()).spawn_scoped(scope, || {
            let connection = open_bounded(path, bounds)?;
            read(&connection.unchecked_transaction()?, (middle + 1, last))
        });
        // The system provides no thread.
        let Ok(later) = later else { return Ok((read(&transaction, (first, last))?, None)) };
        let earlier = read(&transaction, (first, middle));
        let later = later.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((earlier?, Some(later?)))
    })
}
