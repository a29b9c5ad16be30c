//! Receivers of closed usage records. Each runs on a thread of its own, so that one that blocks,
//! fails or panics loses only its own records.
//!
//! # Order
//!
//! A module uses those of the lines below its own. `tests/layering.rs` reads this table.
//!
//! | line | modules | what they are |
//! |---|---|---|
//! | 1 | `access_log`, `alerts`, `jsonl`, `ledger`, `otlp`, `prometheus` | one sink each; `alerts` looks at limits and upstreams instead of records |

pub mod access_log;
pub mod alerts;
pub mod jsonl;
pub mod ledger;
pub mod otlp;
pub mod prometheus;
