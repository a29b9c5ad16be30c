//! A selection of rows as a condition of PostgreSQL.

use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::super::columns::TAGS;
use super::super::groups::FAILED;
use super::super::query::Selection;
use super::ask::Moment;
use super::rows::Micros;
use crate::support::tags::TagName;

/// The end of a record.
pub(super) const END: &str = "started_at + duration_ms * interval '1 millisecond'";

/// The value of a tag, whose name needs no quoting. The column is that of a JSON text.
pub(super) fn tag(name: TagName) -> String {
    format!("({TAGS}::jsonb->>'{name}')")
}

/// The text after WHERE, with its parameters. Further parameters can follow.
pub(super) struct Condition {
    pub(super) text: String,
    parameters: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Condition {
    pub(super) fn of(moment: &Moment<'_>, selection: &Selection) -> Self {
        let mut condition = Self { text: String::new(), parameters: Vec::new() };
        let since = condition.time(selection.since);
        condition.text = format!("started_at >= {since}");
        if let Some(until) = selection.until {
            let until = condition.time(until);
            condition.text += &format!(" AND started_at < {until}");
        }
        for (column, value) in [
            ("client", &selection.client),
            ("\"user\"", &selection.user),
            ("upstream", &selection.upstream),
            ("model", &selection.model),
            ("endpoint", &selection.endpoint),
            ("outcome", &selection.one_outcome()),
        ] {
            if let Some(value) = value {
                condition.parameters.push((Box::new(value.clone()), Type::TEXT));
                condition.text += &format!(" AND {column} = ${}", condition.parameters.len());
            }
        }
        if selection.is_of_failed() {
            condition.text += &format!(" AND {FAILED}");
        }
        if let Some(clients) = selection.clients_of_team() {
            condition.parameters.push((Box::new(clients), Type::TEXT_ARRAY));
            condition.text += &format!(" AND client = ANY(${})", condition.parameters.len());
        }
        for (name, value) in &selection.tags {
            condition.parameters.push((Box::new(value.clone()), Type::TEXT));
            let tag = if moment.has(TAGS) { tag(*name) } else { "NULL::text".to_owned() };
            condition.text += &format!(" AND {tag} = ${}", condition.parameters.len());
        }
        condition
    }

    /// Limits the selection to records behind this one, in the order of descending ends.
    pub(super) fn ends_before(&mut self, started: i64, duration: f64, id: Uuid) {
        let count = self.parameters.len();
        self.parameters.extend([
            (Box::new(Micros(started)) as Box<dyn ToSql + Sync + Send>, Type::TIMESTAMPTZ),
            (Box::new(duration), Type::FLOAT8),
            (Box::new(id), Type::UUID),
        ]);
        let [started, duration, id] = [1, 2, 3].map(|place| format!("${}", count + place));
        self.text += &format!(
            " AND ({END}, started_at, id) < ({started} + {duration} * interval '1 millisecond', {started}, {id})"
        );
    }

    /// Adds a time as a parameter, and returns its name. Times in the database are whole
    /// microseconds, rounded down, and so are the bounds of a selection.
    pub(super) fn time(&mut self, at: Timestamp) -> String {
        self.parameters.push((Box::new(Micros(at.as_microsecond())), Type::TIMESTAMPTZ));
        format!("${}", self.parameters.len())
    }

    /// The expression for the position of a row's start among ascending `times`: 0 before the
    /// first, 1 from the first on, 2 from the second on.
    pub(super) fn place(&mut self, times: &[Timestamp]) -> String {
        let times: Vec<_> = times.iter().map(|at| Micros(at.as_microsecond())).collect();
        self.parameters.push((Box::new(times), Type::TIMESTAMPTZ_ARRAY));
        format!("width_bucket(started_at, ${})", self.parameters.len())
    }

    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.parameters.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect()
    }
}
