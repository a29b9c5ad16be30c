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
mod query;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::codec::head::{Headers, KnownName};
use crate::llm::rewrite::headers::KEY_NAMES;
use crate::llm::rewrite::upgrade;
use crate::support::secret::Secret;
pub use query::QueryKeys;

/// The configured clients.
#[derive(Clone, Default)]
pub struct Clients {
    names: HashMap<Digest, Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthorized {
    /// The request has no key.
    Missing,
    /// The request's key is not one of the configured keys.
    Unknown,
}

impl Clients {
    /// Takes clients by name and key. The first of two clients with the same key counts, and empty
    /// keys are ignored.
    pub fn new(clients: impl IntoIterator<Item = (String, Secret)>) -> Self {
        let mut names = HashMap::new();
        for (name, key) in clients {
            if !key.expose().is_empty() {
                names.entry(digest(key.expose().as_bytes())).or_insert_with(|| Arc::from(name));
            }
        }
        Self { names }
    }

    /// Returns true if no client is configured, so that every request is accepted.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of the client with the request's key. `None` if no client is configured.
    ///
    /// # Errors
    ///
    /// Fails if clients are configured and the request has none of their keys.
    pub fn authenticate(
        &self,
        headers: &Headers,
        query: &QueryKeys,
    ) -> Result<Option<Arc<str>>, Unauthorized> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut refusal = Unauthorized::Missing;
        for key in keys(headers).chain(query.iter().filter(|key| !key.is_empty())) {
            if let Some(name) = self.names.get(&digest(key)) {
                return Ok(Some(Arc::clone(name)));
            }
            refusal = Unauthorized::Unknown;
        }
        Err(refusal)
    }
}

impl fmt::Debug for Clients {
    /// Prints names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names.values()).finish()
    }
}

/// The SHA-256 digest of a key.
type Digest = [u8; digest::SHA256_OUTPUT_LEN];

fn digest(key: &[u8]) -> Digest {
    digest::digest(&digest::SHA256, key)
        .as_ref()
        .try_into()
        .expect("a SHA-256 digest has SHA256_OUTPUT_LEN bytes")
}

/// The keys in a request's headers.
fn keys(headers: &Headers) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.values(KnownName::Authorization).filter_map(bearer);
    let plain = KEY_NAMES.iter().flat_map(|name| headers.values(*name)).map(<[u8]>::trim_ascii);
    bearer.chain(plain).chain(upgrade::keys(headers)).filter(|key| !key.is_empty())
}

/// The token of `Bearer <token>`.
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> Clients {
        let keys = [("alice", "sg-alice"), ("bob", "sg-bob"), ("double", "sg-alice"), ("nobody", "")];
        Clients::new(keys.map(|(name, key)| (name.to_owned(), Secret::new(key.to_owned()))))
    }

    fn who(lines: &[(&str, &str)]) -> Result<Option<String>, Unauthorized> {
        let mut headers = Headers::default();
        lines.iter().for_each(|(name, value)| headers.append(name.as_bytes(), value.as_bytes()));
        clients().authenticate(&headers, &QueryKeys::default()).map(|name| name.map(|name| name.to_string()))
    }

    #[test]
    fn without_clients_everybody_is_anonymous() {
        let none = Clients::new([]);
        assert!(none.is_empty());
        assert_eq!(none.authenticate(&Headers::default(), &QueryKeys::default()), Ok(None));
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
    fn first_of_two_clients_with_one_key_has_it() {
        assert_eq!(who(&[("api-key", "sg-alice")]), Ok(Some("alice".to_owned())));
    }

    #[test]
    fn no_key_is_shown() {
        let shown = format!("{:?}", clients());
        assert!(shown.contains("alice") && !shown.contains("sg-"), "{shown}");
    }
}
