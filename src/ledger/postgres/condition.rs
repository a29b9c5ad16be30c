//! Which rows a question is about, as PostgreSQL is asked.

use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};

use super::super::query::Selection;
use super::rows::Micros;

/// What stands after WHERE, with its parameters, which others can follow.
pub(super) struct Condition {
    pub(super) text: String,
    parameters: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Condition {
    pub(super) fn of(selection: &Selection) -> Self {
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
        ] {
            if let Some(value) = value {
                condition.parameters.push((Box::new(value.clone()), Type::TEXT));
                condition.text += &format!(" AND {column} = ${}", condition.parameters.len());
            }
        }
        condition
    }

    /// A time as a parameter: its name. Times in the database are whole microseconds, rounded down; so the bounds of a selection
    /// are too.
    pub(super) fn time(&mut self, at: Timestamp) -> String {
        self.parameters.push((Box::new(Micros(at.as_microsecond())), Type::TIMESTAMPTZ));
        format!("${}", self.parameters.len())
    }

    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.parameters.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect()
    }
}
