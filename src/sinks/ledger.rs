//! Stores usage records in SQLite: one file with a row per record, whose columns have the names of
//! the record's fields.
//!
//! [`Ledger`] is the sink. It writes on a thread of its own, as every sink does, so that a slow
//! disk stalls neither the other sinks nor any stream. [`report()`] serves `streamgauge usage`,
//! from another process, also while the ledger is being written.
//!
//! | module | what it is |
//! |---|---|
//! | `sink` | group commit, retries, when to delete |
//! | `late` | a ledger of an earlier schema, during an upgrade |
//! | `store` | the file and the connection to it: a transaction per batch, healing |
//! | `checkpoint` | copies the log into the file beside the commits |
//! | `log` | detects a log that another program has truncated, and keeps its records |
//! | `file` | what is at the path before SQLite opens it |
//! | `spill` | records that could not be written before the end, for the next start |
//! | `counted` | which stored results are counted |
//! | `columns` | what a row has, in both databases |
//! | `shipped` | what of the file is in PostgreSQL already |
//! | [`postgres`] | the fleet's ledger |
//! | `schema` | tables and their versions |
//! | `row` | a record as a row |
//! | `backup` | a copy of a ledger in use |
//! | `repair` | moves a broken file aside |
//! | `sweep`, `retention` | when what is old is deleted; deletes it, in small steps |
//! | `clock` | the clock of retention |
//! | `query`, `groups` | reads, and adds up |
//! | `rollup`, `summing` | hourly sums of rows; when rows are added to them |
//! | `report`, `by`, `order` | sums of groups; what they are grouped by, and sorted by |
//! | `calendar` | hours, days, weeks and months of a time zone |
//! | `source` | which of the two to read |
//! | `time_spec` | a moment as people write it |
//! | `output` | what was read, as JSON and CSV |

mod backup;
mod by;
mod calendar;
mod checkpoint;
mod clock;
mod columns;
mod counted;
mod error;
mod file;
mod groups;
mod late;
mod log;
mod order;
pub mod output;
pub mod postgres;
mod query;
mod repair;
mod report;
mod retention;
mod rollup;
mod row;
mod schema;
mod shipped;
mod sink;
mod source;
mod spill;
mod store;
mod summing;
#[cfg(test)]
mod support;
mod sweep;
mod time_spec;

pub use backup::backup;
pub use by::By;
pub use error::LedgerError;
pub use file::refusal;
pub use groups::{Estimated, Group, Key, SOURCES, Sums};
pub use late::{LateLedger, is_of_earlier_schema};
pub use order::Order;
pub use query::{
    Bounds, Next, Overview, OverviewSpec, Page, Percentiles, Record, RowUse, Selection, Teams, ledger_id,
    overview, record, records, report, uses,
};
pub use report::{Before, Report, Rest};
pub use rollup::{Rebuilt, rebuild};
pub use sink::{Ledger, ShippingEnd};
pub use source::LedgerSource;
pub use time_spec::{TimeSpec, earlier};
