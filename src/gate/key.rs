//! Keys, of which only digests are stored.

mod form;
mod stored;
mod unknown;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use jiff::Timestamp;

use crate::codec::head::{Headers, KnownName};
use crate::llm::rewrite::headers::KEY_NAMES;
use crate::llm::rewrite::upgrade;
use crate::support::{CutSwitch, hex};

pub(super) use form::is_mistyped;
pub use form::{RANDOM_BYTES, new_key};
pub use stored::{LiveKey, LiveKeys};
pub use unknown::{KeySource, UnknownKeys};

/// The digits of a digest in a key's id.
pub const ID_DIGITS: usize = 8;

/// The SHA-256 digest of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; digest::SHA256_OUTPUT_LEN]);

impl KeyDigest {
    pub fn of(key: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, key);
        Self(digest.as_ref().try_into().expect("a SHA-256 digest has SHA256_OUTPUT_LEN bytes"))
    }

    /// Parses 64 hexadecimal digits, as `sha256sum` prints them.
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text.as_bytes()).map(Self)
    }

    /// All digits, in lower case.
    pub fn to_hex(&self) -> String {
        let mut digits = String::with_capacity(2 * self.0.len());
        hex::push(&mut digits, &self.0);
        digits
    }

    /// The beginning of the digest, which tells the keys of a client apart.
    pub fn id(&self) -> String {
        let mut id = String::with_capacity(ID_DIGITS);
        hex::push(&mut id, &self.0[..ID_DIGITS / 2]);
        id
    }
}

impl fmt::Debug for KeyDigest {
    /// Prints the key's id only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id())
    }
}

/// A key of a client; `C` says whose.
#[derive(Clone, Debug)]
pub(super) struct KnownKey<C> {
    pub(super) client: C,
    pub(super) id: Arc<str>,
    /// The time from which it is refused.
    pub(super) until: Option<Timestamp>,
    /// Thrown when requests with the key that run must end. `None`: they never must.
    pub(super) cut: Option<Arc<CutSwitch>>,
}

impl<C> KnownKey<C> {
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// The keys in a request's headers.
pub(super) fn keys(headers: &Headers) -> impl Iterator<Item = &[u8]> {
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

    #[test]
    fn digest_is_the_one_that_sha256sum_prints() {
        let digest = KeyDigest::of(b"sg-alice");
        let text = digest.to_hex();
        assert_eq!(KeyDigest::parse(&text), Some(digest));
        assert_eq!(KeyDigest::parse(&text.to_uppercase()), Some(digest));
        assert_eq!(digest.id(), text[..8]);
        assert_eq!(
            KeyDigest::parse("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
            Some(KeyDigest::of(b"test"))
        );
        for text in ["", "9f86d081", &text[1..], &format!("{text}0"), &format!("g{}", &text[1..])] {
            assert_eq!(KeyDigest::parse(text), None, "{text}");
        }
    }
}
