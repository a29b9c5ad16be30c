//! Keys that are stored beside the configuration, and change without it.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{KeyDigest, UnknownKeys};
use crate::support::Live;

/// The state of authentication that all configurations of a process share: the stored keys in use,
/// and the count of unknown ones.
#[derive(Debug, Default)]
pub struct LiveKeys {
    pub stored: Live<StoredKeys>,
    pub unknown: UnknownKeys,
}

/// The stored keys, by digest.
#[derive(Debug, Default)]
pub struct StoredKeys(HashMap<KeyDigest, KeyOwner>);

/// The client of a stored key. It is looked up in the configuration in use, which may not have it.
#[derive(Debug)]
pub(in crate::gate) struct KeyOwner {
    pub(in crate::gate) client: Arc<str>,
    pub(in crate::gate) id: Arc<str>,
    /// The time from which it is refused.
    until: Option<Timestamp>,
}

impl StoredKeys {
    pub(in crate::gate) fn get(&self, digest: &KeyDigest) -> Option<&KeyOwner> {
        self.0.get(digest)
    }
}

impl<'a> FromIterator<(KeyDigest, &'a str, Option<Timestamp>)> for StoredKeys {
    /// Each key has its digest, the name of its client, and its end.
    fn from_iter<I: IntoIterator<Item = (KeyDigest, &'a str, Option<Timestamp>)>>(keys: I) -> Self {
        let key = |(digest, client, until): (KeyDigest, &str, _)| {
            (digest, KeyOwner { client: client.into(), id: digest.id().into(), until })
        };
        Self(keys.into_iter().map(key).collect())
    }
}

impl KeyOwner {
    pub(in crate::gate) fn has_expired(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}
