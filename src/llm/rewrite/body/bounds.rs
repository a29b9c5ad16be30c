//! The fields of a body from which limits expect its use. They are read only where a limit needs them.

use super::BOM;
use crate::codec::json::{Cursor, Error};

/// The most output tokens that a request allows for each choice, and the number of choices. `None`:
/// it does not say. Of several names the smallest number counts.
pub fn output_bounds(body: &[u8]) -> (Option<u64>, u64) {
    let (mut most, mut choices) = (None::<u64>, 1);
    each_member(body, |key, value| {
        let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        match key {
            b"n" | b"best_of" => choices = number().unwrap_or(1).max(choices),
            key if output_field(key).is_some() => most = [most, number()].into_iter().flatten().min(),
            _ => {}
        }
    });
    (most, choices)
}

/// The most output tokens that a message in a session allows for its response, by the message itself
/// or its `response` (realtime). `None`: it does not say.
pub fn session_output_bound(message: &[u8]) -> Option<u64> {
    let mut most = output_bounds(message).0;
    each_member(message, |key, value| {
        if key == b"response" {
            most = [most, output_bounds(value).0].into_iter().flatten().min();
        }
    });
    most
}

/// The largest number of output tokens that a request asks for, and the name of its field. `None`:
/// it does not say. Services use different ones of several fields or of a repeated one, and some
/// read a number in quotes. What is neither a number nor `null` is infinite.
pub fn asked_output(body: &[u8]) -> Option<(&'static str, f64)> {
    let mut asked = None::<(&'static str, f64)>;
    each_member(body, |key, value| {
        let Some(name) = output_field(key).filter(|_| value != b"null") else { return };
        let text = std::str::from_utf8(value).unwrap_or_default();
        let number = text.trim_matches('"').trim().parse::<f64>().ok();
        // Services may read more than a number here.
        let number = number.filter(|number| !number.is_nan()).unwrap_or(f64::INFINITY);
        if asked.is_none_or(|(_, most)| most < number) {
            asked = Some((name, number));
        }
    });
    asked
}

/// The service tiers that a request asks for, in the service's spelling: one, unless the field is
/// repeated.
pub fn asked_tiers(body: &[u8]) -> Vec<String> {
    let mut asked = Vec::new();
    each_member(body, |key, value| {
        if key == b"service_tier" {
            asked.extend(serde_json::from_slice::<String>(value));
        }
    });
    asked
}

/// Passes the keys, without escapes, and the values of the members of an object to `seen`, up to the
/// first mistake: the upstream refuses such a body.
pub(super) fn each_member(body: &[u8], mut seen: impl FnMut(&[u8], &[u8])) {
    let mut read = || -> Result<(), Error> {
        let mut cursor = Cursor::new(body);
        if body.starts_with(BOM) {
            cursor = cursor.skipping(BOM.len());
        }
        cursor.expect(b'{')?;
        let mut is_first = true;
        while let Some((key, value)) = cursor.member(is_first)? {
            is_first = false;
            seen(&key.plain(), &body[value]);
        }
        Ok(())
    };
    read().ok();
}

/// Returns true if [`output_bounds`] reads this key.
#[inline]
pub(super) fn is_bound(key: &[u8]) -> bool {
    matches!(key, b"n" | b"best_of" | b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens")
}

fn output_field(key: &[u8]) -> Option<&'static str> {
    OUTPUT_FIELDS.into_iter().find(|name| name.as_bytes() == key)
}

/// The fields in which requests bound their output.
const OUTPUT_FIELDS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
