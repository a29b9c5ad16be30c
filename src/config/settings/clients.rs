//! `[clients.NAME]` and `[teams.NAME]`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::gate::limit::LimitSpec;
use crate::gate::{AllowedEndpoints, KeyDigest};

/// A client that may send requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    pub name: String,
    /// Empty if a certificate may name the client, or if its keys are stored.
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
    /// The names and values of the fixed tags of its requests.
    pub tags: Vec<(String, String)>,
    /// The most output tokens that a request may ask for.
    pub max_output: Option<u64>,
    /// Responses say what is left of the limits that apply.
    pub limit_headers: bool,
    /// Responses tell their cost and tokens.
    pub response_cost: bool,
}

/// A key of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientKey {
    pub digest: KeyDigest,
    /// The time from which it is refused.
    pub until: Option<Timestamp>,
    /// The names and values of the fixed tags of its requests, beside those of the client.
    pub tags: Vec<(String, String)>,
    /// Its place in messages.
    pub place: String,
}

/// `[keys]`: keys in a store of their own, which `streamgauge keys` changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeySettings {
    pub storage: KeyStorage,
    /// The keys in the file. No two have the same digest, and none has that of a client's key.
    pub stored: Vec<StoredKey>,
}

/// The store of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum KeyStorage {
    /// No keys are stored.
    #[default]
    Nowhere,
    File(PathBuf),
    /// The table of `[ledger.postgres]`.
    Table,
}

impl KeySettings {
    /// Returns true if keys can be stored.
    pub fn is_kept(&self) -> bool {
        self.storage != KeyStorage::Nowhere
    }

    /// The file, if the keys are in one.
    pub fn file(&self) -> Option<&Path> {
        match &self.storage {
            KeyStorage::File(file) => Some(file),
            KeyStorage::Nowhere | KeyStorage::Table => None,
        }
    }
}

/// A stored key.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredKey {
    /// The name of its client. The key is refused while the configuration does not have the client.
    pub client: String,
    pub digest: KeyDigest,
    /// `None`: it was not written by `streamgauge keys`.
    pub created: Option<Timestamp>,
    /// The time from which it is refused.
    pub until: Option<Timestamp>,
    /// Revoked with `--now`: the key is refused, and requests with it that run end. It stays here so
    /// that every instance sees that.
    pub cut: bool,
    /// Its place in messages.
    pub place: String,
}

impl StoredKey {
    /// Returns true if the key is refused at this time.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.cut || self.until.is_some_and(|until| until <= now)
    }
}

/// Clients that share limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Team {
    pub name: String,
    /// The index of the team that it is in.
    pub team: Option<usize>,
    pub limits: Vec<LimitSpec>,
}
