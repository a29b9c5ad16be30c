//! Stores records that could not be written before the end in a file beside the ledger, which the
//! next start reads.
//!
//! The file has one JSON object per line, like the JSON lines. It is on the disk before the process
//! ends, and is deleted only after the ledger has its records on the disk. A crash in between
//! leaves both, so a record is written only if the ledger lacks its id: each is there exactly once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jiff::Timestamp;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Statement, TransactionBehavior, params_from_iter};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::columns::{ATTEMPTS, COLUMNS, Kind, TAGS, TOOL_CALLS, list};
use super::error::Reason;
use super::file::{PRIVATE, identity};
use super::repair::{move_to_new_name, with};
use crate::record::UsageRecord;

/// Writes a record unless its id exists. The index has times, but no ids.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let place = |column| COLUMNS.iter().position(|(name, _)| *name == column).map_or(0, |index| index + 1);
    let values: Vec<_> = (1..=COLUMNS.len()).map(|index| format!("?{index}")).collect();
    format!(
        "INSERT INTO usage_records ({}) SELECT {} WHERE NOT EXISTS
         (SELECT 1 FROM usage_records WHERE started_at = ?{} AND id = ?{})",
        list(COLUMNS),
        values.join(", "),
        place("started_at"),
        place("id")
    )
});

/// The file for the ledger at `path`.
pub(super) fn file_of(path: &Path) -> PathBuf {
    with(path, ".spill")
}

/// The result of [`append`].
#[derive(Debug)]
pub(super) struct Appended {
    /// Records that are in the file, on the disk.
    pub(super) records: usize,
    /// The reason for which not all of them are.
    pub(super) error: Option<io::Error>,
}

/// Appends records to the file.
pub(super) fn append<'r>(path: &Path, records: impl Iterator<Item = &'r UsageRecord>) -> Appended {
    let mut lines = Vec::new();
    for record in records {
        // A record consists of numbers and texts, which JSON can represent.
        if serde_json::to_writer(&mut lines, record).is_ok() {
            lines.push(b'\n');
        }
    }
    let appended = open(path).and_then(|file| write(file, &lines));
    let (written, error) = match appended.and_then(|done| sync_folder_of(path).map(|()| done)) {
        Ok((written, error)) => (written, error),
        Err(error) => (0, Some(error)),
    };
    Appended { records: lines[..written].iter().filter(|byte| **byte == b'\n').count(), error }
}

/// The file, locked against its readers. It is created if it does not exist.
fn open(path: &Path) -> io::Result<File> {
    loop {
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(PRIVATE).open(file_of(path))?;
        file.lock()?;
        // The last holder of the lock may have deleted the file.
        if is_at(&file, &file_of(path))? {
            return Ok(file);
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = file.metadata()?;
    Ok(identity(path) == Some((metadata.dev(), metadata.ino())))
}

/// Appends as many whole lines as there is room for, and syncs them. Returns their bytes, and the
/// error that prevented the rest.
fn write(mut file: File, lines: &[u8]) -> io::Result<(usize, Option<io::Error>)> {
    let mut end = file.metadata()?.len();
    if end > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(end - 1))?;
        file.read_exact(&mut last)?;
        // A process was killed while it wrote.
        if last != *b"\n" {
            file.write_all(b"\n")?;
            end += 1;
        }
    }
    let mut written = 0;
    let mut error = None;
    while written < lines.len() {
        match file.write(&lines[written..]) {
            Ok(0) => error = Some(io::ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(failure) if failure.kind() == io::ErrorKind::Interrupted => continue,
            Err(failure) => error = Some(failure),
        }
        if error.is_some() {
            written = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            file.set_len(end + written as u64)?;
            break;
        }
    }
    file.sync_all()?;
    Ok((written, error))
}

/// A new file is on the disk only after its directory is.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The result of [`take_in`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TakenIn {
    /// Records that were added to the ledger.
    pub(super) records: usize,
    /// Records that the ledger had already.
    pub(super) known: usize,
    /// Lines that are not records, and the file in which they are kept.
    pub(super) unreadable: Option<(usize, PathBuf)>,
}

/// Reads the file of the ledger at `path`, which `connection` has open, and deletes it. `None` if
/// there is no such file.
///
/// # Errors
/// On failure the records stay in the file for the next attempt.
pub(super) fn take_in(path: &Path, connection: &mut Connection) -> Result<Option<TakenIn>, Reason> {
    let spilled = file_of(path);
    let file = match File::open(&spilled) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    file.lock()?;
    if !is_at(&file, &spilled)? {
        return Ok(None);
    }
    // On the disk before the file is deleted.
    connection.pragma_update(None, "synchronous", "full")?;
    let taken = insert(&file, connection);
    connection.pragma_update(None, "synchronous", "normal")?;
    let (mut taken, unreadable) = taken?;
    if unreadable == 0 {
        fs::remove_file(&spilled)?;
    } else {
        taken.unreadable = Some((unreadable, move_to_new_name(&spilled, "unread", Timestamp::now())?));
    }
    Ok(Some(taken))
}

fn insert(file: &File, connection: &mut Connection) -> Result<(TakenIn, usize), Reason> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut statement = transaction.prepare(&INSERT)?;
    let (mut taken, mut unreadable) = (TakenIn::default(), 0);
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let fields = serde_json::from_slice::<Map<String, Value>>(&line).ok();
        match fields.and_then(|fields| row(&fields)) {
            Some(row) => match insert_new(&mut statement, row)? {
                true => taken.records += 1,
                false => taken.known += 1,
            },
            None if line.trim_ascii().is_empty() => {}
            None => unreadable += 1,
        }
        line.clear();
    }
    drop(statement);
    transaction.commit()?;
    Ok((taken, unreadable))
}

fn insert_new(statement: &mut Statement<'_>, row: Vec<Sql>) -> rusqlite::Result<bool> {
    Ok(statement.execute(params_from_iter(row))? > 0)
}

/// Writes the records that the ledger lacks. Returns their number.
pub(super) fn insert_missing<'r>(
    connection: &Connection,
    records: impl Iterator<Item = &'r UsageRecord>,
) -> Result<usize, Reason> {
    let mut statement = connection.prepare(&INSERT)?;
    let mut inserted = 0;
    for record in records {
        if let Ok(Value::Object(fields)) = serde_json::to_value(record)
            && let Some(row) = row(&fields)
        {
            inserted += usize::from(insert_new(&mut statement, row)?);
        }
    }
    Ok(inserted)
}

/// The values of the columns. `None` if it is not a record.
fn row(fields: &Map<String, Value>) -> Option<Vec<Sql>> {
    let null = Value::Null;
    let is_required = |name: &str| {
        matches!(
            name,
            "started_at"
                | "client"
                | "usage_source"
                | "id"
                | "stream"
                | "outcome"
                | "request_bytes"
                | "response_bytes"
                | "duration_ms"
        )
    };
    let value = |(name, kind): &(&str, Kind)| {
        let value = fields.get(*name).unwrap_or(&null);
        match (kind, value) {
            (_, Value::Null) => (!is_required(name)).then_some(Sql::Null),
            (Kind::Time, Value::String(text)) => {
                let at: Timestamp = text.parse().ok()?;
                i64::try_from(at.as_nanosecond()).ok().map(Sql::Integer)
            }
            (Kind::Id, Value::String(text)) => {
                Uuid::try_parse(text).ok().map(|id| Sql::Text(id.hyphenated().to_string()))
            }
            (Kind::Text, Value::String(text)) => Some(Sql::Text(text.clone())),
            (Kind::Text, Value::Object(_)) if [TOOL_CALLS, TAGS].contains(name) => {
                Some(Sql::Text(value.to_string()))
            }
            (Kind::Text, Value::Array(_)) if *name == ATTEMPTS => Some(Sql::Text(value.to_string())),
            // SQLite's integers are signed; a larger count is saturated, as in `row`.
            (Kind::Integer, Value::Number(number)) => {
                number.as_u64().map(|count| Sql::Integer(i64::try_from(count).unwrap_or(i64::MAX)))
            }
            (Kind::Real, Value::Number(number)) => number.as_f64().map(Sql::Real),
            (Kind::Boolean, Value::Bool(flag)) => Some(Sql::Integer((*flag).into())),
            _ => None,
        }
    };
    COLUMNS.iter().map(value).collect()
}

#[cfg(test)]
mod tests;
