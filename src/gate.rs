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
mod tests {
    use super::*;

    /// The second of a key's end.
    const END: i64 = 1_000;

    fn clients() -> Clients {
        let mut clients = Clients::default();
        for (name, key, until) in [
            ("alice", "sg-alice", None),
            ("bob", "sg-bob", None),
            ("double", "sg-alice", None),
            ("carol", "sg-carol", Some(Timestamp::from_second(END).unwrap())),
        ] {
            clients.add(KnownClient::new(name), [(KeyDigest::of(key.as_bytes()), until, None)]);
        }
        clients.add(KnownClient::new("certificate"), []);
        clients
    }

    fn who_at(lines: &[(&str, &str)], second: i64) -> Result<Option<String>, Unauthorized> {
        let mut headers = Headers::default();
        lines.iter().for_each(|(name, value)| headers.append(name.as_bytes(), value.as_bytes()));
        let now = Timestamp::from_second(second).unwrap();
        let known = clients().authenticate(&headers, &QueryKeys::default(), now)?;
        Ok(known.map(|known| known.client.name.to_string()))
    }

    fn who(lines: &[(&str, &str)]) -> Result<Option<String>, Unauthorized> {
        who_at(lines, END)
    }

    #[test]
    fn without_clients_everybody_is_anonymous() {
        let none = Clients::default();
        assert!(none.is_empty());
        let known = none.authenticate(&Headers::default(), &QueryKeys::default(), Timestamp::UNIX_EPOCH);
        assert!(known.unwrap().is_none());
    }

    #[test]
    fn client_with_certificate_only_has_no_key() {
        let mut clients = Clients::default();
        clients.add(KnownClient::new("certificate"), []);
        assert!(!clients.is_empty());
        assert_eq!(who(&[("api-key", "certificate")]), Err(Unauthorized::Unknown));
        assert!(clients.named("certificate").is_some() && clients.named("other").is_none());
    }

    #[test]
    fn key_is_accepted_until_its_end() {
        let carol = ("api-key", "sg-carol");
        assert_eq!(who_at(&[carol], END - 1), Ok(Some("carol".to_owned())));
        assert_eq!(who_at(&[carol], END), Err(Unauthorized::Expired));
        assert_eq!(who_at(&[carol, ("x-api-key", "unknown")], END), Err(Unauthorized::Expired));
        assert_eq!(who_at(&[carol, ("x-api-key", "sg-bob")], END), Ok(Some("bob".to_owned())));
    }

    #[test]
    fn two_keys_of_a_client_have_different_ids() {
        let mut clients = Clients::default();
        let digests = [KeyDigest::of(b"one"), KeyDigest::of(b"two")];
        clients.add(KnownClient::new("a"), digests.map(|digest| (digest, None, None)));
        let ids = ["one", "two"].map(|key| {
            let mut headers = Headers::default();
            headers.append(b"api-key", key.as_bytes());
            let known = clients.authenticate(&headers, &QueryKeys::default(), Timestamp::UNIX_EPOCH);
            known.unwrap().unwrap().key_id.unwrap().to_string()
        });
        assert_eq!(ids, digests.map(|digest| digest.id()));
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn a_key_is_read_from_where_the_sdks_put_it() {
        for line in [
            ("authorization", "Bearer sg-bob"),
            ("authorization", "bearer sg-bob"),
            ("authorization", "BEARER   sg-bob "),
            ("api-key", "sg-bob"),
            ("x-api-key", "sg-bob"),
            ("x-goog-api-key", "sg-bob"),
            ("ocp-apim-subscription-key", "sg-bob"),
        ] {
            assert_eq!(who(&[line]), Ok(Some("bob".to_owned())), "{line:?}");
        }
    }

    #[test]
    fn any_known_key_will_do() {
        for lines in [
            [("authorization", "Bearer unknown"), ("api-key", "sg-alice")],
            [("authorization", "Basic c2ctYm9i"), ("x-api-key", "sg-alice")],
            [("authorization", "Bearer unknown"), ("authorization", "Bearer sg-alice")],
        ] {
            assert_eq!(who(&lines), Ok(Some("alice".to_owned())), "{lines:?}");
        }
    }

    #[test]
    fn no_key_and_a_wrong_key_are_told_apart() {
        for lines in [
            &[][..],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer")],
            &[("authorization", "sg-bob")],
            &[("authorization", "Basic sg-bob")],
            &[("authorization", "Bearersg-bob")],
            &[("api-key", "")],
            &[("cookie", "sg-bob")],
        ] {
            assert_eq!(who(lines), Err(Unauthorized::Missing), "{lines:?}");
        }
        for key in ["sg-bo", "sg-bobb", "SG-BOB", "sg-bob, sg-bob"] {
            assert_eq!(who(&[("api-key", key)]), Err(Unauthorized::Unknown), "{key}");
        }
    }

    #[test]
    fn stored_key_is_that_of_a_configured_client_until_its_end() {
        let live = Arc::new(LiveKeys::default());
        let mut clients = Clients::with_stored(Arc::clone(&live));
        clients.add(KnownClient::new("alice"), [(KeyDigest::of(b"sg-alice"), None, None)]);
        let who = |key: &str, second| {
            let mut headers = Headers::default();
            headers.append(b"api-key", key.as_bytes());
            let now = Timestamp::from_second(second).unwrap();
            let known = clients.authenticate(&headers, &QueryKeys::default(), now)?.unwrap();
            Ok((known.client.name.to_string(), known.key_id.unwrap().to_string()))
        };
        assert_eq!(who("sg-new", END), Err(Unauthorized::Unknown));
        let digest = KeyDigest::of(b"sg-new");
        let until = Timestamp::from_second(END).ok();
        let key = |digest, client, until, is_cut| LiveKey { digest, client, until, is_cut };
        let gone = key(KeyDigest::of(b"sg-gone"), "gone", None, false);
        live.replace([key(digest, "alice", until, false), gone]);
        assert_eq!(who("sg-new", END - 1), Ok(("alice".to_owned(), digest.id())));
        assert_eq!(who("sg-new", END), Err(Unauthorized::Expired));
        assert_eq!(who("sg-gone", 0), Err(Unauthorized::Unknown), "its client is not configured");
        live.replace([]);
        assert_eq!(who("sg-new", 0), Err(Unauthorized::Unknown));
        assert!(who("sg-alice", 0).is_ok());
    }

    #[test]
    fn cut_key_is_refused_at_any_time_and_ends_its_requests() {
        let live = Arc::new(LiveKeys::default());
        let mut clients = Clients::with_stored(Arc::clone(&live));
        clients.add(KnownClient::new("alice"), []);
        let known = |key: &str| {
            let mut headers = Headers::default();
            headers.append(b"api-key", key.as_bytes());
            clients.authenticate(&headers, &QueryKeys::default(), Timestamp::UNIX_EPOCH)
        };
        let use_keys = |cuts: [bool; 2]| {
            let keys = ["one", "two"].map(|key| KeyDigest::of(key.as_bytes()));
            live.replace(keys.into_iter().zip(cuts).map(|(digest, is_cut)| LiveKey {
                digest,
                client: "alice",
                until: None,
                is_cut,
            }));
        };
        use_keys([false; 2]);
        let [one, two] = ["one", "two"].map(|key| known(key).unwrap().unwrap().cut.unwrap());
        // Another change keeps what runs.
        use_keys([false; 2]);
        assert!(!one.is_thrown());
        use_keys([true, false]);
        assert!(one.is_thrown() && !two.is_thrown());
        assert_eq!(known("one").map(drop), Err(Unauthorized::Expired));
        assert!(known("two").is_ok());
        // Accepted again.
        use_keys([false; 2]);
        let again = known("one").unwrap().unwrap().cut.unwrap();
        assert!(one.is_thrown() && !again.is_thrown());
        // Revoked, and cut afterwards.
        live.replace([]);
        assert!(!again.is_thrown());
        use_keys([true, false]);
        assert!(again.is_thrown() && !two.is_thrown());
    }

    #[test]
    fn mistyped_key_is_told_from_an_unknown_one() {
        let unknown = new_key([7; RANDOM_BYTES]);
        let unknown = unknown.expose();
        let other = if unknown.ends_with('A') { 'B' } else { 'A' };
        let mistyped = format!("{}{other}", &unknown[..unknown.len() - 1]);
        assert_eq!(who(&[("api-key", unknown)]), Err(Unauthorized::Unknown));
        for lines in [
            &[("api-key", &*mistyped)][..],
            &[("api-key", unknown), ("x-api-key", &mistyped)],
            &[("api-key", &mistyped), ("x-api-key", "other")],
        ] {
            assert_eq!(who(lines), Err(Unauthorized::Mistyped), "{lines:?}");
        }
        assert_eq!(who(&[("api-key", &mistyped), ("x-api-key", "sg-bob")]), Ok(Some("bob".to_owned())));
        let expired = [("api-key", "sg-carol"), ("x-api-key", &mistyped)];
        assert_eq!(who_at(&expired, END), Err(Unauthorized::Expired));
    }

    #[test]
    fn first_of_two_clients_with_one_key_has_it() {
        assert_eq!(who(&[("api-key", "sg-alice")]), Ok(Some("alice".to_owned())));
    }

    #[test]
    fn no_key_is_shown() {
        let shown = format!("{:?}", clients());
        assert!(shown.contains("alice") && !shown.contains("sg-"), "{shown}");
    }
}
