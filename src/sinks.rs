//! Receivers of closed usage records. Each runs on a thread of its own, so that one that blocks,
//! fails or panics loses only its own records.

pub mod access_log;
pub mod jsonl;
pub mod ledger;
pub mod otlp;
pub mod prometheus;
