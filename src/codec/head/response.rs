//! The head of a response.

use http::{StatusCode, response};

use super::Headers;

/// The head of a response over either version of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: StatusCode,
    /// HTTP/1.1's reason phrase, if it differs from the usual one. May be empty.
    pub reason: Option<Box<[u8]>>,
    pub headers: Headers,
}

impl ResponseHead {
    /// A head without fields.
    pub fn new(status: StatusCode) -> Self {
        Self { status, reason: None, headers: Headers::default() }
    }
}

impl From<&response::Parts> for ResponseHead {
    fn from(parts: &response::Parts) -> Self {
        Self { headers: Headers::from(&parts.headers), ..Self::new(parts.status) }
    }
}
