//! Writes many records at the cost of copying their rows.
//!
//! A statement with parameters costs SQLite some 13,000 instructions a record, most of them for
//! values that move from register to register. `INSERT INTO … SELECT *` between two equal tables
//! copies whole rows and index entries instead (the transfer optimisation of SQLite's `insert.c`),
//! for a quarter of them. The source is a database in memory, whose pages are written by
//! `image` and handed to SQLite in one piece.
//!
//! Everything else is as with a statement: one transaction, the same rows, the same `seq`. If the
//! file does not allow it, such as with an index of its user's, the caller writes row by row.

mod image;
mod pages;
mod rows;

use rusqlite::{Connection, TransactionBehavior};

use super::counted;
use crate::record::UsageRecord;
use image::Template;

/// The number of records from which on the fixed cost, some 100 µs for the second database and its
/// schema, is less than what the copy saves.
const WORTHWHILE: usize = 256;

/// The name of the second database.
const BATCH: &str = "batch";

/// The `seq` of the last row that the table has ever had.
const LAST: &str = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'usage_records'), 0),
    coalesce((SELECT max(seq) FROM usage_records), 0))";

/// The way of writing, for one open file.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// The empty second database, for this version of the file's schema. `None` in the second place
    /// if the schema does not allow the copy.
    template: Option<(i64, Option<Template>)>,
    /// The second database could not be attached.
    is_refused: bool,
}

impl Bulk {
    /// Writes records in one transaction, in their order. Returns false if nothing was written,
    /// because they are few or the file does not allow it.
    pub(super) fn insert(
        &mut self,
        connection: &mut Connection,
        records: &[&UsageRecord],
    ) -> rusqlite::Result<bool> {
        if records.len() < WORTHWHILE || self.is_refused {
            return Ok(false);
        }
        let last = last(connection)?;
        let version = schema_version(connection)?;
        let Some(template) = self.template(connection, version)? else { return Ok(false) };
        let Some(image) = template.fill(last, records) else { return Ok(false) };
        let attached = match Attached::attach(connection, image) {
            Ok(attached) => attached,
            Err(error) => {
                tracing::debug!(%error, "no second database can be attached; records are written row by row");
                self.is_refused = true;
                return Ok(false);
            }
        };
        let transaction = attached.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have written in between.
        if self::last(&transaction)? != last || schema_version(&transaction)? != version {
            return Ok(false);
        }
        // Before the records, so that the last inserted row is a record's.
        records.iter().try_for_each(|record| counted::keep(&transaction, record))?;
        let copy = format!("INSERT OR ROLLBACK INTO main.usage_records SELECT * FROM {BATCH}.usage_records");
        transaction.execute(&copy, [])?;
        // If it fails, dropping the transaction rolls everything back.
        transaction.commit()?;
        Ok(true)
    }

    /// The template for a version of the schema.
    fn template(&mut self, connection: &Connection, version: i64) -> rusqlite::Result<Option<&Template>> {
        if self.template.as_ref().is_none_or(|(known, _)| *known != version) {
            self.template = Some((version, Template::of(connection)?));
        }
        Ok(self.template.as_ref().and_then(|(_, template)| template.as_ref()))
    }
}

/// A connection with the second database. Dropping this detaches it, which frees its memory.
struct Attached<'c>(&'c mut Connection);

impl<'c> Attached<'c> {
    /// SQLite copies the image, which is freed before anything is written.
    fn attach(connection: &'c mut Connection, image: Vec<u8>) -> rusqlite::Result<Self> {
        connection.execute(&format!("ATTACH ':memory:' AS {BATCH}"), [])?;
        let attached = Self(connection);
        attached.0.deserialize_read_exact(BATCH, &*image, image.len(), false)?;
        Ok(attached)
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.execute(&format!("DETACH {BATCH}"), []) {
            tracing::debug!(%error, "the second database cannot be detached");
        }
    }
}

fn last(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached(LAST)?.query_row([], |row| row.get(0))
}

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests;
