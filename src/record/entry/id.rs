//! Ids of records.

use std::time::Duration;

use http::HeaderValue;
use uuid::Uuid;

use super::Entry;

impl Entry {
    /// The record's id.
    pub fn uuid(&self) -> Uuid {
        self.open.id
    }

    /// The record's id as a header value.
    pub fn id(&self) -> HeaderValue {
        header(self.open.id)
    }
}

/// A UUIDv7 of the millisecond `now` since 1970. Its 74 random bits come from a generator per thread
/// that the system seeded: an id must be unique, but need not be secret.
pub(super) fn new_id(now: Duration) -> Uuid {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&fastrand::u64(..).to_ne_bytes());
    random[8..].copy_from_slice(&fastrand::u16(..).to_ne_bytes());
    uuid::Builder::from_unix_timestamp_millis(now.as_millis() as u64, &random).into_uuid()
}

/// The id as the value of a header.
pub(super) fn header(id: Uuid) -> HeaderValue {
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
        .expect("a UUID is hexadecimal digits and hyphens")
}
