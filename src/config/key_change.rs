//! Makes, replaces and revokes stored keys, for commands and the admin port.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::key_place::{KeyPlace, key_end};
use super::key_store::{KeyStore, StoreError};
use super::settings::StoredKey;
use crate::gate::{ID_DIGITS, KeyDigest, RANDOM_BYTES, new_key};
use crate::support::secret::Secret;

/// A new key.
#[derive(Serialize)]
pub struct CreatedKey {
    pub client: String,
    pub id: String,
    #[serde(serialize_with = "exposed")]
    pub key: Secret,
    pub created: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The keys that it replaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<EndedKey>,
    /// The reason for which it is not used yet, or for which others still are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

fn exposed<S: serde::Serializer>(key: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(key.expose())
}

/// A key that ends or has been removed.
#[derive(Debug, PartialEq, Serialize)]
pub struct EndedKey {
    pub client: String,
    pub id: String,
    pub until: Option<Timestamp>,
}

/// Keys that were removed.
#[derive(Serialize)]
pub struct RevokedKeys {
    pub revoked: Vec<EndedKey>,
    /// Requests with them that run end too.
    pub cut: bool,
    /// The reason for which they are still used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The stored keys.
#[derive(Serialize)]
pub struct KeyListing {
    /// The name of their store.
    pub store: String,
    /// The ledger of the last uses. `None`: they are unknown.
    pub ledger: Option<String>,
    pub keys: Vec<ListedKey>,
}

/// A stored key without its digest.
#[derive(Serialize)]
pub struct ListedKey {
    pub client: String,
    pub id: String,
    pub created: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub expired: bool,
    /// Revoked with `--now`.
    pub cut: bool,
    pub last_used: Option<Timestamp>,
}

/// A change that was not made.
#[derive(Debug)]
pub enum KeyError {
    /// The configuration stores no keys.
    NoStore,
    /// The configuration does not have the client.
    UnknownClient(String),
    /// The end of the key.
    Until(String),
    /// The time for which other keys are still accepted.
    Grace(String),
    /// A text that is not the id of a key. It is not repeated, since it may be a key.
    NotAnId,
    /// The system gives no random bytes.
    NoRandom,
    /// A panic, which is in the log.
    Failed,
    Store(StoreError),
}

impl From<StoreError> for KeyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl CreatedKey {
    pub fn new(stored: &StoredKey, key: Secret, replaced: Vec<EndedKey>) -> Self {
        let StoredKey { client, digest, created, until, .. } = stored;
        let (client, id, warning) = (client.clone(), digest.id(), None);
        Self { client, id, key, created: *created, until: *until, replaced, warning }
    }
}

impl EndedKey {
    pub fn new(key: &StoredKey) -> Self {
        Self { client: key.client.clone(), id: key.digest.id(), until: key.until }
    }
}

impl ListedKey {
    pub fn new(key: &StoredKey, last_used: Option<Timestamp>, now: Timestamp) -> Self {
        let StoredKey { client, digest, created, until, cut, .. } = key;
        let (client, id, expired) = (client.clone(), digest.id(), key.has_expired(now));
        Self { client, id, created: *created, until: *until, expired, cut: *cut, last_used }
    }
}

impl KeyPlace {
    /// # Errors
    /// Fails if the configuration stores no keys.
    pub fn store(&self) -> Result<&dyn KeyStore, KeyError> {
        self.store.as_deref().ok_or(KeyError::NoStore)
    }

    /// Stores a new key of a client. It blocks.
    ///
    /// # Errors
    /// Fails for an unknown client, an end that is none, or a file that cannot be changed.
    pub fn create_key(&self, client: &str, until: Option<&str>) -> Result<CreatedKey, KeyError> {
        let (store, now) = (self.store()?, this_second());
        let (stored, key) = self.new_key(client, until, now)?;
        store.change(|keys| {
            // The process would take the new file for all of its keys.
            if self.has_keys && keys.is_empty() {
                return Err(StoreError::Unread(format!(
                    "{} is missing or empty, and its keys are in use: restore it first, or write a line `# none` into it, which revokes all of them",
                    store.name()
                )));
            }
            forget_cut(keys, now);
            keys.push(stored.clone());
            Ok(())
        })?;
        Ok(CreatedKey::new(&stored, key, Vec::new()))
    }

    /// Stores a new key of a client, and ends its other stored keys after `grace`. It blocks.
    ///
    /// # Errors
    /// Fails like [`Self::create_key`], or if no other key is stored.
    pub fn rotate_keys(
        &self,
        client: &str,
        grace: Duration,
        until: Option<&str>,
    ) -> Result<CreatedKey, KeyError> {
        let (store, now) = (self.store()?, this_second());
        let (stored, key) = self.new_key(client, until, now)?;
        let end = now.checked_add(grace).map_err(|error| KeyError::Grace(error.to_string()))?;
        let replaced = store.change(|keys| {
            let of_client = |key: &&mut StoredKey| key.client == client && !key.has_expired(now);
            let mut replaced = Vec::new();
            for key in keys.iter_mut().filter(of_client) {
                key.until = Some(key.until.map_or(end, |until| until.min(end)));
                replaced.push(EndedKey::new(key));
            }
            if replaced.is_empty() {
                return Err(StoreError::Refused(format!(
                    "no key of {client} is stored that could be replaced: write `streamgauge keys create {client}`"
                )));
            }
            forget_cut(keys, now);
            keys.push(stored.clone());
            Ok(replaced)
        })?;
        let warning = self.own_keys.iter().any(|name| name == client).then(|| {
            format!("the keys in [clients.{client}] of the configuration are still accepted: remove them there, or add an `until`")
        });
        Ok(CreatedKey { warning, ..CreatedKey::new(&stored, key, replaced) })
    }

    /// Removes keys by their ids, all or none. `cut`: they stay in the store, refused, so that every
    /// instance ends the requests with them that run. It blocks.
    ///
    /// # Errors
    /// Fails for an id that no key has, or several have, or if the file cannot be changed.
    pub fn revoke_keys(&self, ids: &[String], cut: bool) -> Result<RevokedKeys, KeyError> {
        let (store, now) = (self.store()?, this_second());
        let ids = ids.iter().map(|id| checked_id(id)).collect::<Result<BTreeSet<_>, _>>()?;
        let revoked = store.change(|keys| {
            forget_cut(keys, now);
            let (mut revoked, mut still) = (Vec::new(), Vec::new());
            for id in &ids {
                let found: Vec<_> = keys.extract_if(.., |key| key.digest.to_hex().starts_with(id)).collect();
                match &found[..] {
                    [] => {
                        let store = store.name();
                        return Err(StoreError::Refused(format!(
                            "no key {id} is stored in {store}, so that nothing was revoked: `streamgauge keys list` shows them"
                        )));
                    }
                    [key] if cut => {
                        let until = Some(key.until.map_or(now, |until| until.min(now)));
                        let key = StoredKey { until, cut, ..key.clone() };
                        revoked.push(EndedKey::new(&key));
                        still.push(key);
                    }
                    [key] => revoked.push(EndedKey::new(key)),
                    more => {
                        let digests: Vec<_> = more.iter().map(|key| key.digest.to_hex()).collect();
                        return Err(StoreError::Refused(format!(
                            "{id} is the beginning of {}, so that nothing was revoked: write one of them",
                            digests.join(" and ")
                        )));
                    }
                }
            }
            keys.append(&mut still);
            Ok(revoked)
        })?;
        Ok(RevokedKeys { revoked, cut, warning: None })
    }

    /// A new key and what is stored of it.
    fn new_key(
        &self,
        client: &str,
        until: Option<&str>,
        now: Timestamp,
    ) -> Result<(StoredKey, Secret), KeyError> {
        self.check_client(client).map_err(KeyError::UnknownClient)?;
        let until = until.map(|text| key_end(text, now, &self.time_zone)).transpose();
        let until = until.map_err(KeyError::Until)?;
        let mut random = [0; RANDOM_BYTES];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| KeyError::NoRandom)?;
        let key = new_key(random);
        let digest = KeyDigest::of(key.expose().as_bytes());
        let (client, created) = (client.to_owned(), Some(now));
        Ok((StoredKey { client, digest, created, until, cut: false, place: String::new() }, key))
    }
}

/// The time for which a key that was revoked with `--now` stays in the store: an instance that was
/// away from it meanwhile ends its requests too.
const KEPT: Duration = Duration::from_hours(24);

/// Removes keys that were revoked with `--now` long ago.
fn forget_cut(keys: &mut Vec<StoredKey>, now: Timestamp) {
    let is_over = |until: Timestamp| until.checked_add(KEPT).is_ok_and(|end| end < now);
    keys.retain(|key| !(key.cut && key.until.is_some_and(is_over)));
}

fn checked_id(text: &str) -> Result<String, KeyError> {
    if text.len() < ID_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(KeyError::NotAnId);
    }
    Ok(text.to_ascii_lowercase())
}

/// The present time without a fraction, for people who read the file.
fn this_second() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStore => f.write_str("no keys are stored: `file` in [keys] is \"\"; name a file there"),
            Self::UnknownClient(reason) => f.write_str(reason),
            Self::Until(reason) => write!(f, "until: {reason}"),
            Self::Grace(reason) => write!(f, "grace: {reason}"),
            Self::NotAnId => write!(
                f,
                "an id has {ID_DIGITS} hexadecimal digits, the first of a key's digest: `streamgauge keys list` shows it"
            ),
            Self::NoRandom => f.write_str("the system gives no random bytes"),
            Self::Failed => f.write_str(
                "an internal error, which is in the log; look at the stored keys before you try again",
            ),
            Self::Store(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_that_may_be_a_key_is_not_repeated() {
        assert_eq!(checked_id("9F86D081").unwrap(), "9f86d081");
        assert_eq!(checked_id("9f86d081884c").unwrap(), "9f86d081884c");
        for text in ["", "9f86d08", "sg-marker-0123456789", "9f86d08g"] {
            let reason = checked_id(text).expect_err(text).to_string();
            assert!(!reason.contains("marker"), "{reason}");
        }
    }
}
