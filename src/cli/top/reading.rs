//! The state of a running proxy at one moment, as its admin port says it.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use serde::Deserialize;

/// One moment.
#[derive(Debug)]
pub(super) struct Reading {
    /// The time, by the clock of this machine.
    pub(super) at: Timestamp,
    pub(super) taken: Instant,
    pub(super) running: Running,
    pub(super) groups: Groups,
    pub(super) limits: Limits,
    pub(super) status: Status,
    /// `Err`: why the ledger gives none.
    pub(super) sums: Result<Sums, String>,
}

/// `/running`.
#[derive(Debug, Deserialize)]
pub(super) struct Running {
    pub(super) running: usize,
    pub(super) streams: Vec<Stream>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Stream {
    pub(super) id: String,
    pub(super) client: String,
    pub(super) user: Option<String>,
    pub(super) model: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) events: u64,
    pub(super) output_tokens: Option<u64>,
    pub(super) time_to_first_token_ms: Option<f64>,
    pub(super) duration_ms: f64,
}

/// `/members`.
#[derive(Debug, Deserialize)]
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) waiting: usize,
    pub(super) members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Member {
    pub(super) upstream: String,
    pub(super) model: Option<String>,
    pub(super) tier: usize,
    pub(super) running: u32,
    pub(super) out: Option<Out>,
    pub(super) models: Vec<MemberModel>,
}

#[derive(Debug, Deserialize)]
pub(super) struct MemberModel {
    pub(super) model: Option<String>,
    pub(super) available: bool,
    pub(super) out: Option<Out>,
    pub(super) rate_limited_until: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Out {
    pub(super) reason: String,
    pub(super) until: Option<Timestamp>,
}

/// `/limits`.
#[derive(Debug, Deserialize)]
pub(super) struct Limits {
    pub(super) limits: Vec<Limit>,
    pub(super) unlisted: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct Limit {
    pub(super) whose: String,
    pub(super) counts: String,
    pub(super) used: Option<f64>,
    pub(super) limit: Option<f64>,
    pub(super) used_ratio: f64,
    pub(super) waiting: usize,
    pub(super) period: Option<Period>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Period {
    pub(super) until: Timestamp,
}

/// `/config/status`.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) generation: u64,
    /// The latest configuration, if it was refused.
    pub(super) refused: Option<serde::de::IgnoredAny>,
}

/// Sums of records of requests that have ended.
#[derive(Debug)]
pub(super) struct Sums {
    pub(super) minute: Usage,
    pub(super) today: Usage,
}

/// `/usage`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Usage {
    /// The zone of the day, and of the times in a frame.
    pub(super) time_zone: String,
    pub(super) total: Total,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Total {
    pub(super) requests: u64,
    pub(super) failed_requests: u64,
    pub(super) input_tokens: Option<u64>,
    pub(super) cached_input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) estimated_input_tokens: Option<u64>,
    pub(super) estimated_output_tokens: Option<u64>,
    /// An amount of each currency; unknown if no request has a price in it.
    pub(super) cost: BTreeMap<String, Option<f64>>,
    pub(super) requests_without_price: u64,
}

/// The body of an error.
#[derive(Debug, Deserialize)]
pub(super) struct Failed {
    pub(super) error: Message,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message {
    pub(super) message: String,
}
