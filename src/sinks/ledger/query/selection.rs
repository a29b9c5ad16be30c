//! Selects the rows of a query.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, ToSql};

use super::super::calendar::nanoseconds;
use super::super::error::Reason;
use super::super::groups::FAILED;
use super::parallel::Range;
use super::tag;
use crate::support::tags::TagName;

/// The team of each client that is in one. Records have no team: reports take that of the client in
/// the configuration.
pub type Teams = Arc<BTreeMap<String, String>>;

/// The rows of a time range with certain values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Rows that started at this moment or later.
    pub since: Timestamp,
    /// Rows that started before this moment. `None`: no end.
    pub until: Option<Timestamp>,
    /// Rows of this client. `None`: any, likewise in the next fields.
    pub client: Option<String>,
    /// Rows of this user.
    pub user: Option<String>,
    /// Rows of this upstream.
    pub upstream: Option<String>,
    /// Rows of this model, as the response named it.
    pub model: Option<String>,
    /// Rows of this endpoint.
    pub endpoint: Option<String>,
    /// Rows with this outcome; `failed` for all that [`FAILED`] describes.
    pub outcome: Option<String>,
    /// Rows of the clients in this team.
    pub team: Option<String>,
    /// The team of each client, for `team` and for groups by it.
    pub teams: Teams,
    /// Rows with these values of tags. Empty: any.
    pub tags: Vec<(TagName, String)>,
    /// The time zone of the hours, days, weeks and months in groups.
    pub zone: TimeZone,
    /// Reports also add the tokens of attempts whose response was thrown away, each as a row of its
    /// upstream and model that is no request.
    pub attempts: bool,
}

impl Selection {
    /// All rows that started at `since` or later, with the days of UTC.
    pub fn since(since: Timestamp) -> Self {
        let zone = TimeZone::UTC;
        Self {
            since,
            until: None,
            client: None,
            user: None,
            upstream: None,
            model: None,
            endpoint: None,
            outcome: None,
            team: None,
            teams: Teams::default(),
            tags: Vec::new(),
            zone,
            attempts: false,
        }
    }

    /// The first and the last `seq` of the selected rows. Other rows may lie in between.
    ///
    /// Rows are written in the order in which they end, so the first and the last selected row
    /// bound the scan: reading all rows between them is much faster than looking up each row of the
    /// index.
    pub(super) fn range(&self, connection: &Connection) -> Result<Range, Reason> {
        let (since, until) = self.times();
        let range = "SELECT min(seq), max(seq) FROM usage_records INDEXED BY usage_records_started_at
            WHERE started_at >= ?1 AND started_at < ?2";
        let (first, last): (Option<i64>, Option<i64>) =
            connection.query_row(range, [since, until], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((first.unwrap_or(i64::MAX), last.unwrap_or(i64::MIN)))
    }

    /// Returns true if only failed requests are selected.
    pub fn is_of_failed(&self) -> bool {
        self.outcome.as_deref() == Some(Self::ALL_FAILED)
    }

    /// The only outcome, if one is selected.
    pub(in super::super) fn one_outcome(&self) -> Option<String> {
        self.outcome.clone().filter(|_| !self.is_of_failed())
    }

    /// The clients of the selected team.
    pub(in super::super) fn clients_of_team(&self) -> Option<Vec<String>> {
        let team = self.team.as_ref()?;
        let members = self.teams.iter().filter(|(_, of)| *of == team);
        Some(members.map(|(client, _)| client.clone()).collect())
    }

    /// The value of `outcome` for all failed requests.
    pub const ALL_FAILED: &str = "failed";

    /// The first time, and the first time behind the last, in nanoseconds since 1970.
    pub(super) fn times(&self) -> (i64, i64) {
        (whole_microseconds(self.since), self.until.map_or(i64::MAX, whole_microseconds))
    }

    /// The condition with its parameters, for rows of that range. `has_tags`: the file has the
    /// column, which earlier versions lack.
    pub(super) fn condition(&self, (first, last): Range, has_tags: bool) -> Condition {
        let (since, until) = self.times();
        let mut condition = Condition {
            text: "seq BETWEEN ? AND ? AND started_at >= ? AND started_at < ?".to_owned(),
            values: vec![Box::new(first), Box::new(last), Box::new(since), Box::new(until)],
        };
        for (column, value) in [
            ("client", &self.client),
            ("user", &self.user),
            ("upstream", &self.upstream),
            ("model", &self.model),
            ("endpoint", &self.endpoint),
            ("outcome", &self.one_outcome()),
        ] {
            if let Some(value) = value {
                condition.text += &format!(" AND {column} = ?");
                condition.values.push(Box::new(value.clone()));
            }
        }
        if self.is_of_failed() {
            condition.text += &format!(" AND {FAILED}");
        }
        if let Some(clients) = self.clients_of_team() {
            condition.text += &format!(" AND client IN ({})", vec!["?"; clients.len()].join(", "));
            condition.values.extend(clients.into_iter().map(|client| Box::new(client) as Box<dyn ToSql>));
        }
        for (name, value) in &self.tags {
            let tag = if has_tags { tag(*name) } else { "NULL".to_owned() };
            condition.text += &format!(" AND {tag} = ?");
            condition.values.push(Box::new(value.clone()));
        }
        condition
    }
}

/// The text after WHERE.
pub(super) struct Condition {
    pub(super) text: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Condition {
    pub(super) fn values(&self) -> Vec<&dyn ToSql> {
        self.values.iter().map(Box::as_ref).collect()
    }
}

/// A bound in whole microseconds, PostgreSQL's resolution, so that both databases give the same
/// result.
fn whole_microseconds(at: Timestamp) -> i64 {
    let at = nanoseconds(at);
    at.saturating_sub(at.rem_euclid(1000))
}

/// Bounds on the cost of a query; none by default.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The largest number of groups. `None`: any number.
    pub groups: Option<usize>,
    /// The deadline.
    pub deadline: Option<Instant>,
    /// Set when the result is no longer wanted.
    pub given_up: Arc<AtomicBool>,
}

impl Bounds {
    /// Interrupts the connection's statements when a bound is reached.
    pub(super) fn hold(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let bounds = self.clone();
        connection.progress_handler(LOOK_EVERY, Some(move || bounds.is_over()))
    }

    fn is_over(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| Instant::now() > deadline)
    }

    /// Fails if the deadline is over or the result is no longer wanted.
    pub(super) fn check(&self) -> Result<(), Reason> {
        if self.is_over() { Err(Reason::TooLong) } else { Ok(()) }
    }

    /// Fails if this number of groups is not allowed.
    pub(in super::super) fn allow(&self, groups: usize) -> Result<(), Reason> {
        match self.groups {
            Some(most) if groups > most => Err(Reason::TooMany(most)),
            _ => Ok(()),
        }
    }
}

/// Steps of SQLite's machine between two checks: about a millisecond.
const LOOK_EVERY: i32 = 20_000;
