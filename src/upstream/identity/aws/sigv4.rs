//! AWS Signature Version 4
//! (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).

use aws_lc_rs::{digest, hmac};

use crate::support::hex;
use crate::support::secret::Secret;

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The scope of a signature.
pub(super) struct Signing<'a> {
    pub(super) access_key: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// `20150830T123600Z`.
    pub(super) date: &'a str,
}

impl Signing<'_> {
    /// The access key with the scope.
    pub(super) fn credential(&self) -> String {
        format!("{}/{}", self.access_key, self.scope())
    }

    fn day(&self) -> &str {
        self.date.split('T').next().unwrap_or_default()
    }

    fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.day(), self.region, self.service)
    }

    /// The text that is signed for a canonical request.
    pub(super) fn string_to_sign(&self, canonical: &str) -> String {
        format!("{ALGORITHM}\n{}\n{}\n{}", self.date, self.scope(), hash(canonical.as_bytes()))
    }

    /// The signature in hexadecimal digits.
    pub(super) fn signature(&self, secret: &Secret, canonical: &str) -> String {
        let first = format!("AWS4{}", secret.expose()).into_bytes();
        let parts = [self.day(), self.region, self.service, "aws4_request"];
        let key = parts.into_iter().fold(first, |key, part| sign(&key, part));
        hexadecimal(&sign(&key, &self.string_to_sign(canonical)))
    }
}

/// The canonical form of a request. `path` is encoded already; `query` has encoded names and values
/// in any order; `headers` have names in lower case, in alphabetical order.
pub(super) fn canonical_request(
    method: &str,
    path: &str,
    query: &str,
    headers: &[(&str, &str)],
    payload_hash: &str,
) -> String {
    let mut parameters: Vec<(&str, &str)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .collect();
    parameters.sort_unstable();
    let parameters: Vec<_> = parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", trimmed(value))).collect();
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    format!("{method}\n{path}\n{}\n{lines}\n{}\n{payload_hash}", parameters.join("&"), names.join(";"))
}

/// The value of a header without spaces at its ends, and with single ones inside.
fn trimmed(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The SHA-256 digest in hexadecimal digits.
pub(super) fn hash(bytes: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The text with all but unreserved characters percent-encoded.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    crate::llm::provider::push_segment(&mut encoded, text);
    encoded
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    hex::push(&mut text, bytes);
    text
}

#[cfg(test)]
mod tests;
