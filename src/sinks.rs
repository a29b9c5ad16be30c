//! Receivers of closed usage records. Each runs on a thread of its own, so that one that blocks,
//! fails or panics loses only its own records.
//!
//! # Order
//!
//! A module uses those of the lines below its own. `tests/layering.rs` reads this table.
//!
//! | line | modules | what they are |
//! |---|---|---|
//! | 1 | `alerts` | looks at limits, upstreams and the ledger instead of records |
//! | 2 | `access_log`, `jsonl`, `ledger`, `otlp`, `prometheus`, `redis` | one sink each; `redis` shares limits |

pub mod access_log;
pub mod alerts;
pub mod jsonl;
pub mod ledger;
pub mod otlp;
pub mod prometheus;
pub mod redis;
