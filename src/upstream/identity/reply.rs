//! Reads the responses of places that issue tokens.

use std::time::Duration;

use serde_json::Value;

use super::exchange::Failure;
use super::token::Issued;
use crate::support::secret::Secret;

/// A token of OAuth 2.0 (RFC 6749 section 5.1). `expires_in` may be text, as machines of Azure send
/// it; `expires_on`, in seconds since 1970, serves if it is missing. `now` is in those seconds.
///
/// # Errors
/// Fails without a token that a header can carry, of the type `Bearer`, with a life. The message
/// does not repeat the response.
pub(super) fn token(body: &[u8], now: i64) -> Result<Issued, Failure> {
    let json = object(body)?;
    if json.get("token_type").and_then(Value::as_str).is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer"))
    {
        return Err(Failure::new("the token is of another type than Bearer"));
    }
    let text = text(&json, "access_token")?;
    let life = match seconds(&json, "expires_in") {
        Some(seconds) => seconds,
        None => seconds(&json, "expires_on").map_or(0, |end| end - now),
    };
    let refresh_in = seconds(&json, "refresh_in").and_then(|seconds| u64::try_from(seconds).ok());
    Ok(Issued { text, life: life_of(life)?, refresh_in: refresh_in.map(Duration::from_secs) })
}

/// # Errors
/// Fails if the life is over.
pub(super) fn life_of(seconds: i64) -> Result<Duration, Failure> {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(Failure::new("the response has no time for which it is valid, or one that is over")),
    }
}

/// # Errors
/// Fails if the response is no JSON object.
pub(super) fn object(body: &[u8]) -> Result<Value, Failure> {
    match serde_json::from_slice(body) {
        Ok(json @ Value::Object(_)) => Ok(json),
        _ => Err(Failure::new("the response is no JSON object")),
    }
}

/// # Errors
/// Fails if there is no text that a header can carry.
pub(super) fn text(json: &Value, key: &str) -> Result<Secret, Failure> {
    match json.get(key) {
        Some(Value::String(text)) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Secret::new(text.clone()))
        }
        _ => Err(Failure::new(format!("the response has no valid {key}"))),
    }
}

fn seconds(json: &Value, key: &str) -> Option<i64> {
    match json.get(key)? {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn read(body: &str) -> Result<(u64, Option<u64>), String> {
        let issued = token(body.as_bytes(), NOW).map_err(|failure| failure.reason)?;
        assert_eq!(issued.text.expose(), "tok");
        Ok((issued.life.as_secs(), issued.refresh_in.map(|refresh| refresh.as_secs())))
    }

    #[test]
    fn life_is_a_number_or_text_or_an_end() {
        for (body, expected) in [
            (r#"{"access_token":"tok","token_type":"Bearer","expires_in":3599}"#, (3599, None)),
            (r#"{"access_token":"tok","token_type":"bearer","expires_in":"86399"}"#, (86399, None)),
            (r#"{"access_token":"tok","expires_in":3599.5,"refresh_in":"1800"}"#, (3599, Some(1800))),
            (r#"{"access_token":"tok","expires_on":"1700000060","not_before":"1"}"#, (60, None)),
            (r#"{"access_token":"tok","expires_in":5,"expires_on":1700000060}"#, (5, None)),
        ] {
            assert_eq!(read(body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn response_that_is_no_token_is_refused_unseen() {
        let no_life = "the response has no time for which it is valid, or one that is over";
        for (body, reason) in [
            ("<html>tok</html>", "the response is no JSON object"),
            ("[]", "the response is no JSON object"),
            ("{}", "the response has no valid access_token"),
            (r#"{"access_token":7,"expires_in":1}"#, "the response has no valid access_token"),
            (r#"{"access_token":"a\nb","expires_in":1}"#, "the response has no valid access_token"),
            (r#"{"access_token":"tok","expires_in":0}"#, no_life),
            (r#"{"access_token":"tok","expires_in":-1}"#, no_life),
            (r#"{"access_token":"tok","expires_in":"soon"}"#, no_life),
            (r#"{"access_token":"tok","expires_in":{}}"#, no_life),
            (r#"{"access_token":"tok"}"#, no_life),
            (r#"{"access_token":"tok","expires_on":1600000000}"#, no_life),
            (
                r#"{"access_token":"tok","token_type":"mac","expires_in":1}"#,
                "the token is of another type than Bearer",
            ),
        ] {
            assert_eq!(read(body), Err(reason.to_owned()), "{body}");
        }
    }
}
