//! Clients and their keys.
//!
//! A key is accepted on every path as `Authorization: Bearer <key>` (RFC 6750 section 2.1, the
//! scheme in any case), as `api-key` (Azure's SDKs), `x-api-key` (Anthropic's), `x-goog-api-key`
//! (Google's) or `ocp-apim-subscription-key` (Azure API Management), in the query ([`QueryKeys`]
//! lists the parameters), and among a WebSocket's subprotocols (browsers). One known key suffices,
//! also if a header or a parameter is repeated.
//!
//! Keys are stored and looked up as SHA-256 digests. The time of a lookup may depend on the digest,
//! but reveals nothing about a key: a client that guesses keys cannot choose their digests.

pub mod browser;
mod client;
mod key;
pub mod limit;
mod query;
mod tags;
mod trusted_proxies;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::codec::head::Headers;
use crate::support::CutSwitch;
use crate::support::tags::Tags;
pub use client::{AllowedEndpoints, KnownClient, Models};
use key::KnownKey;
pub(crate) use key::bearer;
pub use key::{ID_DIGITS, KeyDigest, KeySource, LiveKey, LiveKeys, RANDOM_BYTES, UnknownKeys, new_key};
pub use query::QueryKeys;
pub use tags::{FoundTags, TAGS_HEADER, TagRule, TagRules};
pub use trusted_proxies::TrustedProxies;

/// The configured clients.
#[derive(Clone, Default)]
pub struct Clients {
    keys: HashMap<KeyDigest, KnownKey<Arc<KnownClient>>>,
    /// The keys that change without the configuration. A configured key has precedence.
    live: Arc<LiveKeys>,
    /// All clients, also those without keys, which have certificates.
    by_name: HashMap<Arc<str>, Arc<KnownClient>>,
    /// The rules of requests without a configured client. `None`: there are none.
    others: Option<Arc<KnownClient>>,
}

/// The client of a request, and the id of the key that it sent.
#[derive(Clone, Debug)]
pub struct Known {
    pub client: Arc<KnownClient>,
    /// `None`: a certificate named the client.
    pub key_id: Option<Arc<str>>,
    /// Thrown when the request must end, since its key was revoked. `None`: it never must.
    pub cut: Option<Arc<CutSwitch>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthorized {
    /// The request has no key.
    Missing,
    /// The request's key is not one of the configured and stored keys.
    Unknown,
    /// The same, and the key's own checksum is wrong.
    Mistyped,
    /// The time of the request's key is over.
    Expired,
}

impl Clients {
    /// Clients that may use the stored keys too.
    pub fn with_stored(live: Arc<LiveKeys>) -> Self {
        Self { live, ..Self::default() }
    }

    /// Adds a client with its keys, each with the time from which it is refused. The first of two
    /// clients with the same key keeps it. A key with fixed tags has a copy of the client with them.
    pub fn add(
        &mut self,
        client: KnownClient,
        keys: impl IntoIterator<Item = (KeyDigest, Option<Timestamp>, Option<Arc<Tags>>)>,
    ) {
        let client = Arc::new(client);
        self.by_name.insert(Arc::clone(&client.name), Arc::clone(&client));
        for (digest, until, tags) in keys {
            let client = match tags {
                None => Arc::clone(&client),
                tags => Arc::new(KnownClient { tags, ..KnownClient::clone(&client) }),
            };
            let key = KnownKey { client, id: digest.id().into(), until, cut: None };
            self.keys.entry(digest).or_insert(key);
        }
    }

    /// Sets the rules of requests without a configured client.
    pub fn limit_others(&mut self, others: KnownClient) {
        self.others = Some(Arc::new(others));
    }

    /// The rules of requests without a configured client, if there are any.
    pub fn others(&self) -> Option<&Arc<KnownClient>> {
        self.others.as_ref()
    }

    /// Returns true if no client is configured, so that every request is accepted.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Returns true if some client may not ask for all models.
    pub fn limit_models(&self) -> bool {
        self.by_name.values().any(|client| client.models != Models::All)
    }

    /// The client of this name, which a certificate proves. `None`: it is not configured, and is one
    /// of the [others](Self::others).
    pub fn named(&self, name: &str) -> Option<&Arc<KnownClient>> {
        self.by_name.get(name)
    }

    /// The client with the request's key at the time `now`. `None` if no client is configured.
    ///
    /// # Errors
    ///
    /// Fails if clients are configured and the request has none of their keys.
    pub fn authenticate(
        &self,
        headers: &Headers,
        query: &QueryKeys,
        now: Timestamp,
    ) -> Result<Option<Known>, Unauthorized> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut refusal = Unauthorized::Missing;
        for key in key::keys(headers).chain(query.iter().filter(|key| !key.is_empty())) {
            let digest = KeyDigest::of(key);
            let found = match self.keys.get(&digest) {
                Some(key) if !key.has_expired(now) => {
                    let (client, id) = (Arc::clone(&key.client), Arc::clone(&key.id));
                    Ok(Known { client, key_id: Some(id), cut: None })
                }
                Some(_) => Err(Unauthorized::Expired),
                None => self.stored(&digest, now),
            };
            match found {
                Ok(known) => return Ok(Some(known)),
                Err(Unauthorized::Expired) => refusal = Unauthorized::Expired,
                Err(_) if refusal == Unauthorized::Expired => {}
                Err(_) if key::is_mistyped(key) => refusal = Unauthorized::Mistyped,
                Err(_) if refusal == Unauthorized::Missing => refusal = Unauthorized::Unknown,
                Err(_) => {}
            }
        }
        Err(refusal)
    }

    /// The client with this stored key. A key of a client that is not configured is unknown.
    fn stored(&self, digest: &KeyDigest, now: Timestamp) -> Result<Known, Unauthorized> {
        let stored = self.live.stored.peek();
        let key = stored.get(digest).ok_or(Unauthorized::Unknown)?;
        let client = self.by_name.get(&key.client).ok_or(Unauthorized::Unknown)?;
        if key.has_expired(now) {
            return Err(Unauthorized::Expired);
        }
        Ok(Known { client: Arc::clone(client), key_id: Some(Arc::clone(&key.id)), cut: key.cut.clone() })
    }

    /// Returns true if a client still has the key with this id at the time `now`.
    pub fn has_key(&self, client: &str, id: &str, now: Timestamp) -> bool {
        let is_it = |key: &KnownKey<Arc<KnownClient>>| {
            *key.client.name == *client && *key.id == *id && !key.has_expired(now)
        };
        self.keys.values().any(is_it)
            || (self.by_name.contains_key(client) && self.live.stored.peek().has(client, id, now))
    }

    /// The count of unknown keys.
    pub fn unknown_keys(&self) -> &UnknownKeys {
        &self.live.unknown
    }
}

impl fmt::Debug for Clients {
    /// Prints names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
