//! Converts rows of SQLite into parameters of PostgreSQL: a list of values per column, so that a
//! batch is one statement.

use std::error::Error;
use std::ops::Range;

use bytes::{BufMut, BytesMut};
use rusqlite::Row;
use rusqlite::types::ValueRef;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::super::columns::{COLUMNS, Kind, list};
use super::partitions::Month;

/// Microseconds from 1970 to 2000, PostgreSQL's epoch.
const EPOCH: i64 = 946_684_800_000_000;

/// The statement that writes a batch. Existing rows stay unchanged.
pub(super) fn insert() -> String {
    let parameters =
        COLUMNS.iter().enumerate().map(|(index, (_, kind))| format!("${}::{}[]", index + 2, sql(*kind)));
    let parameters: Vec<_> = parameters.collect();
    format!(
        "INSERT INTO usage_records (instance, {}) SELECT $1::text, r.* FROM unnest({}) AS r ON CONFLICT DO NOTHING",
        list(COLUMNS),
        parameters.join(", ")
    )
}

fn sql(kind: Kind) -> &'static str {
    match kind {
        Kind::Time => "timestamptz",
        Kind::Id => "uuid",
        Kind::Text => "text",
        Kind::Integer => "bigint",
        Kind::Real => "double precision",
        Kind::Boolean => "boolean",
    }
}

/// A batch.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<Values>,
    len: usize,
}

#[derive(Debug)]
enum Values {
    Time(Vec<Option<Micros>>),
    Id(Vec<Option<Uuid>>),
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Boolean(Vec<Option<bool>>),
}

impl Rows {
    /// An empty batch.
    pub(super) fn new() -> Self {
        let columns = COLUMNS.iter().map(|(_, kind)| match kind {
            Kind::Time => Values::Time(Vec::new()),
            Kind::Id => Values::Id(Vec::new()),
            Kind::Text => Values::Text(Vec::new()),
            Kind::Integer => Values::Integer(Vec::new()),
            Kind::Real => Values::Real(Vec::new()),
            Kind::Boolean => Values::Boolean(Vec::new()),
        });
        Self { columns: columns.collect(), len: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        for column in &mut self.columns {
            match column {
                Values::Time(values) => values.clear(),
                Values::Id(values) => values.clear(),
                Values::Text(values) => values.clear(),
                Values::Integer(values) => values.clear(),
                Values::Real(values) => values.clear(),
                Values::Boolean(values) => values.clear(),
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a row with the columns `seq` and [`COLUMNS`]. An invalid value, which another program
    /// must have written, becomes null.
    pub(super) fn push(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        for (index, column) in self.columns.iter_mut().enumerate() {
            let value = row.get_ref(index + 1)?;
            match column {
                Values::Time(values) => {
                    values.push(integer(value).map(|nanos| Micros(nanos.div_euclid(1000))))
                }
                Values::Id(values) => values.push(text(value).and_then(|text| Uuid::try_parse(&text).ok())),
                Values::Text(values) => values.push(text(value)),
                Values::Integer(values) => values.push(integer(value)),
                Values::Real(values) => values.push(match value {
                    ValueRef::Real(number) => Some(number),
                    _ => None,
                }),
                Values::Boolean(values) => values.push(integer(value).map(|number| number != 0)),
            }
        }
        self.len += 1;
        Ok(())
    }

    /// The months of the rows, each once.
    pub(super) fn months(&self) -> Vec<Month> {
        let times = self.columns.iter().find_map(|column| match column {
            Values::Time(values) => Some(values),
            _ => None,
        });
        let mut months: Vec<_> =
            times.into_iter().flatten().flatten().map(|at| Month::of_micros(at.0)).collect();
        months.sort_unstable();
        months.dedup();
        months
    }

    /// The id of a row, for messages.
    pub(super) fn id(&self, row: usize) -> Option<Uuid> {
        self.columns.iter().find_map(|column| match column {
            Values::Id(values) => values.get(row).copied().flatten(),
            _ => None,
        })
    }

    /// A range of the rows, as [`insert`] takes them after its first parameter.
    pub(super) fn slices(&self, range: Range<usize>) -> Vec<Slice<'_>> {
        let slices = self.columns.iter().map(|column| match column {
            Values::Time(values) => Slice::Time(&values[range.clone()]),
            Values::Id(values) => Slice::Id(&values[range.clone()]),
            Values::Text(values) => Slice::Text(&values[range.clone()]),
            Values::Integer(values) => Slice::Integer(&values[range.clone()]),
            Values::Real(values) => Slice::Real(&values[range.clone()]),
            Values::Boolean(values) => Slice::Boolean(&values[range.clone()]),
        });
        slices.collect()
    }
}

/// A column of a range of rows.
pub(super) enum Slice<'a> {
    Time(&'a [Option<Micros>]),
    Id(&'a [Option<Uuid>]),
    Text(&'a [Option<String>]),
    Integer(&'a [Option<i64>]),
    Real(&'a [Option<f64>]),
    Boolean(&'a [Option<bool>]),
}

impl Slice<'_> {
    /// The column as a parameter.
    pub(super) fn parameter(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Time(values) => (values, Type::TIMESTAMPTZ_ARRAY),
            Self::Id(values) => (values, Type::UUID_ARRAY),
            Self::Text(values) => (values, Type::TEXT_ARRAY),
            Self::Integer(values) => (values, Type::INT8_ARRAY),
            Self::Real(values) => (values, Type::FLOAT8_ARRAY),
            Self::Boolean(values) => (values, Type::BOOL_ARRAY),
        }
    }
}

fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    }
}

/// PostgreSQL's text type has every character except NUL, which a client may have put into a field.
fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
            Some(if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text.into_owned() })
        }
        _ => None,
    }
}

/// A time in microseconds since 1970, PostgreSQL's resolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Micros(pub(super) i64);

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0.saturating_sub(EPOCH));
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}
