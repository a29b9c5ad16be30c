//! `[clients.NAME]` and `[teams.NAME]`.

use jiff::Timestamp;

use crate::gate::limit::LimitSpec;
use crate::gate::{AllowedEndpoints, KeyDigest};

/// A client that may send requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    pub name: String,
    /// Empty only if a certificate may name the client.
    pub keys: Vec<ClientKey>,
    /// Patterns of the models that it may ask for; at least one.
    pub models: Vec<String>,
    pub endpoints: AllowedEndpoints,
    pub limits: Vec<LimitSpec>,
    /// The index of its team.
    pub team: Option<usize>,
    pub priority: u32,
    /// At least 1.
    pub share: u32,
}

/// A key of a client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientKey {
    pub digest: KeyDigest,
    /// The time from which it is refused.
    pub until: Option<Timestamp>,
}

/// Clients that share limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Team {
    pub name: String,
    /// The index of the team that it is in.
    pub team: Option<usize>,
    pub limits: Vec<LimitSpec>,
}
