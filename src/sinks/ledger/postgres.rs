//! Stores the usage records of a fleet in PostgreSQL.
//!
//! Each instance ships the rows of its own SQLite ledger, so that no request waits for the server,
//! and an unreachable server costs only room in that file. Rows arrive in order and exactly once:
//! `shipped` describes the state in the file, and `ship` the steps.
//!
//! | module | what it is |
//! |---|---|
//! | `ship` | the thread: connects, ships, backs off |
//! | `server` | a connection that has found its ledger; writes batches |
//! | `rows` | rows of SQLite as parameters of PostgreSQL |
//! | `schema`, `partitions` | the tables and their versions; a partition per month |
//! | `connect`, `tls` | a connection within its time; through TLS |
//! | `error` | what went wrong, in words |
//! | `ask`, `condition` | a question: one moment, within its time; which rows it is about |
//! | `keys` | the stored keys of clients, which is no part of the ledger |
//! | `sums`, `report`, `overview`, `records` | reads, and adds up, as `query` does of SQLite |

mod ask;
mod condition;
mod connect;
mod error;
mod keys;
mod last_used;
mod overview;
mod partitions;
mod records;
mod report;
mod rows;
mod schema;
mod server;
mod ship;
mod ship_lock;
mod sums;
mod tls;

pub(super) use error::Failure;
pub use keys::KeyTable;
pub use last_used::last_used;
pub use overview::overview;
pub use records::{record, records};
pub use report::report;
pub use schema::{Migrated, migrate};
pub(super) use ship::{Shipper, address};

#[cfg(test)]
mod tests;
