//! The second database: a copy of the ledger's empty table, filled with rows.

use rusqlite::Connection;

use super::super::columns::COLUMNS;
use super::super::row::{Value, started_at, values};
use super::pages::{PAGE, Table, put_index};
use super::rows::{MAX_COLUMNS, Row};
use crate::record::UsageRecord;

/// The place of the number of pages in the header of a file
/// (sqlite.org/fileformat2.html#in_header_database_size).
const SIZE_AT: usize = 28;

/// An empty database with the ledger's table and index.
#[derive(Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    /// The first pages of the table and of its index.
    table: u32,
    index: u32,
    /// For each column of the table after `seq` its place in [`COLUMNS`]; `None` if this version
    /// does not write it.
    columns: Vec<Option<usize>>,
}

impl Template {
    /// The template for the table of a ledger. `None` if SQLite would not copy whole rows into it,
    /// or if it lacks a column.
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let encoding: String = connection.query_row("PRAGMA main.encoding", [], |row| row.get(0))?;
        let mut objects = connection.prepare(
            "SELECT type, name, sql FROM main.sqlite_schema WHERE tbl_name = 'usage_records' ORDER BY rootpage",
        )?;
        let objects = objects.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let objects: Vec<(String, String, Option<String>)> = objects.collect::<rusqlite::Result<_>>()?;
        let [(table, _, Some(table_sql)), (index, index_name, Some(index_sql))] = &*objects else {
            return Ok(None);
        };
        let is_known = index_name == "usage_records_started_at";
        if (table.as_str(), index.as_str(), is_known, &*encoding) != ("table", "index", true, "UTF-8") {
            return Ok(None);
        }
        let mut names = connection.prepare("SELECT name FROM pragma_table_info('usage_records', 'main')")?;
        let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let Some(("seq", names)) = names.split_first().map(|(first, rest)| (first.as_str(), rest)) else {
            return Ok(None);
        };
        let place = |name: &String| COLUMNS.iter().position(|(column, _)| column == name);
        let columns: Vec<_> = names.iter().map(place).collect();
        if columns.iter().flatten().count() != COLUMNS.len() || columns.len() >= MAX_COLUMNS {
            return Ok(None);
        }
        let mut empty = Connection::open_in_memory()?;
        empty.pragma_update(None, "page_size", PAGE as i64)?;
        empty.execute_batch(&format!("{table_sql};{index_sql}"))?;
        let root = |name: &str| {
            empty.query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?", [name], |row| row.get(0))
        };
        let (table, index) = (root("usage_records")?, root(index_name)?);
        let bytes = empty.serialize("main")?.to_vec();
        Ok(Some(Self { bytes, table, index, columns }))
    }

    /// The database with these records as rows, whose `seq` follow `last`. `None` if a row does not
    /// fit into a page.
    pub(super) fn fill(&self, last: i64, records: &[&UsageRecord]) -> Option<Vec<u8>> {
        last.checked_add(i64::try_from(records.len()).ok()?)?;
        let mut image = Vec::with_capacity(self.bytes.len() + records.len() * 512);
        image.extend_from_slice(&self.bytes);
        let mut table = Table::begin(&mut image);
        let mut row = Row::new();
        let mut entries = Vec::with_capacity(records.len());
        for (seq, record) in (last + 1..).zip(records) {
            let values = values(record);
            row.encode(
                self.columns.iter().map(|column| column.map_or(Value::Null, |column| values[column])),
            )?;
            table.push(seq, row.parts())?;
            entries.push((started_at(record), seq));
        }
        table.end(self.table);
        // The order of requests' ends is almost that of their starts.
        entries.sort_unstable();
        put_index(&mut image, self.index, &entries);
        let pages = u32::try_from(image.len() / PAGE).ok()?;
        image[SIZE_AT..SIZE_AT + 4].copy_from_slice(&pages.to_be_bytes());
        Some(image)
    }
}
