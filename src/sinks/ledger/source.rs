//! The place of usage records: this instance's file, or the fleet's database.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use uuid::Uuid;

use super::by::By;
use super::error::LedgerError;
use super::query::{Bounds, Next, Overview, OverviewSpec, Page, Record, Selection};
use super::report::Report;
use super::{postgres, query};
use crate::config;
use crate::llm::price::Prices;

/// A ledger to read.
#[derive(Clone, Debug)]
pub enum LedgerSource {
    /// This instance's ledger, in SQLite.
    File(PathBuf),
    /// The fleet's ledger, in PostgreSQL.
    Fleet(Box<config::Postgres>),
}

impl LedgerSource {
    /// The ledger that the configuration selects for reading (`ledger.postgres.read`). `None` if it
    /// keeps none.
    pub fn configured(ledger: &config::LedgerSettings) -> Option<Self> {
        match &ledger.postgres {
            Some(postgres) if postgres.read => Some(Self::Fleet(Box::new(postgres.clone()))),
            _ => ledger.path.clone().map(Self::File),
        }
    }

    /// The ledger that the admin pages show (`admin.ledger`). `None` if none is kept.
    pub fn shown(settings: &config::Settings) -> Option<Self> {
        let ledger = &settings.ledger;
        match (settings.admin.ledger, &ledger.postgres) {
            (config::Database::Postgres, Some(postgres)) => Some(Self::Fleet(Box::new(postgres.clone()))),
            _ => ledger.path.clone().map(Self::File),
        }
    }

    /// Adds up the selected rows, and their costs by `prices`. It blocks: on a thread of tokio,
    /// call it by `spawn_blocking`.
    ///
    /// # Errors
    /// Fails like [`report`](super::report()), or [`postgres::report`].
    pub fn report(
        &self,
        selection: &Selection,
        by: &[By],
        prices: &Prices,
        bounds: &Bounds,
    ) -> Result<Report, LedgerError> {
        match self {
            Self::File(path) => query::report(path, selection, by, prices, bounds),
            Self::Fleet(settings) => postgres::report(settings, selection, by, prices, bounds),
        }
    }

    /// Reads the data of the dashboard. It blocks.
    ///
    /// # Errors
    /// Fails like [`Self::report`].
    pub fn overview(
        &self,
        selection: &Selection,
        spec: &OverviewSpec,
        prices: &Prices,
        bounds: &Bounds,
    ) -> Result<Overview, LedgerError> {
        match self {
            Self::File(path) => query::overview(path, selection, spec, prices, bounds),
            Self::Fleet(settings) => postgres::overview(settings, selection, spec, prices, bounds),
        }
    }

    /// The latest of the selected records, at most `limit` and no more than fit on a page, in the
    /// order of descending ends. `from` is the end of an earlier page. It blocks.
    ///
    /// # Errors
    /// Fails like [`Self::report`].
    pub fn records(
        &self,
        selection: &Selection,
        limit: usize,
        from: Option<&Next>,
        bounds: &Bounds,
    ) -> Result<Page, LedgerError> {
        match self {
            Self::File(path) => query::records(path, selection, limit, from, bounds),
            Self::Fleet(settings) => postgres::records(settings, selection, limit, from, bounds),
        }
    }

    /// The start of the latest request with each of these keys, by the key's id. Requests before
    /// `since` do not count. It blocks.
    ///
    /// # Errors
    /// Fails like [`Self::report`].
    pub fn last_used(
        &self,
        ids: &[String],
        since: Timestamp,
        bounds: &Bounds,
    ) -> Result<HashMap<String, Timestamp>, LedgerError> {
        match self {
            Self::File(path) => query::last_used(path, ids, since, bounds),
            Self::Fleet(settings) => postgres::last_used(settings, ids, since, bounds),
        }
    }

    /// The record with this id. It blocks.
    ///
    /// # Errors
    /// Fails like [`Self::report`].
    pub fn record(&self, id: Uuid, bounds: &Bounds) -> Result<Option<Record>, LedgerError> {
        match self {
            Self::File(path) => query::record(path, id, bounds),
            Self::Fleet(settings) => postgres::record(settings, id, bounds),
        }
    }
}

/// The name that pages show: the instance or the fleet, and the place.
impl fmt::Display for LedgerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "this instance, from {}", path.display()),
            Self::Fleet(settings) => write!(f, "the whole fleet, from {}", postgres::address(settings)),
        }
    }
}
