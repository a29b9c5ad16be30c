//! Where to read usage records: in this instance's file, or where those of the fleet are.

use std::path::PathBuf;

use super::error::LedgerError;
use super::groups::By;
use super::query::{Bounds, Report, Selection};
use super::{postgres, query};
use crate::config;
use crate::price::Prices;

/// A ledger to be read.
#[derive(Clone, Debug)]
pub enum Place {
    /// This instance's, in SQLite.
    File(PathBuf),
    /// The fleet's, in PostgreSQL.
    Fleet(Box<config::Postgres>),
}

impl Place {
    /// The one that the configuration wants to be read (`ledger.postgres.read`); `None`: it keeps none.
    pub fn configured(ledger: &config::Ledger) -> Option<Self> {
        match &ledger.postgres {
            Some(postgres) if postgres.read => Some(Self::Fleet(Box::new(postgres.clone()))),
            _ => ledger.path.clone().map(Self::File),
        }
    }

    /// Adds up the selected rows, and what they cost by `prices`. It blocks: on a thread of tokio's, call it by `spawn_blocking`.
    ///
    /// # Errors
    /// As [`report`](super::report()), or as [`postgres::report`].
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
}
