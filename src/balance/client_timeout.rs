//! The time for which a client waits for the head of a response, from the headers of SDKs.
//!
//! | header | sent by | its meaning in the SDK's source |
//! |---|---|---|
//! | `x-stainless-timeout` | openai-node 6 (`client.js`, `buildHeaders`) | whole seconds, rounded down, until the response's head; the timer is cleared then |
//! | `x-stainless-read-timeout` | openai-python 3 (`_base_client.py`, `_build_headers`) | seconds of silence on the connection, also fractions |
//!
//! Both headers apply to one attempt of the SDK, from the request's arrival. Neither bounds
//! anything after the head was sent: the first is over then, and each keep-alive comment restarts
//! the second.

use std::time::{Duration, Instant};

use crate::codec::head::{Headers, KnownName, NameSet, visible};

const TIMEOUTS: NameSet = NameSet::of(&[KnownName::XStainlessTimeout, KnownName::XStainlessReadTimeout]);

/// Longer timeouts are ignored: a day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The time before a client's deadline at which no attempt and no wait begins or goes on.
pub const CLIENT_MARGIN: Duration = Duration::from_secs(1);

/// The time at which a client gives up whose request arrived at `started`, unless the head of a
/// response was sent by then. `None`: unknown.
pub fn client_deadline(headers: &Headers, started: Instant) -> Option<Instant> {
    if !headers.names().has_any_of(TIMEOUTS) {
        return None;
    }
    let whole = headers.get(KnownName::XStainlessTimeout);
    let silence = headers.get(KnownName::XStainlessReadTimeout);
    let timeout = [whole, silence].into_iter().flatten().filter_map(seconds).min()?;
    started.checked_add(timeout)
}

/// The number of times that the SDK has sent the request before. 0: none, or unknown.
pub fn client_retries(headers: &Headers) -> u32 {
    // Nearly always.
    let count = headers.get(KnownName::XStainlessRetryCount).filter(|count| *count != b"0");
    count.and_then(visible).and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

fn seconds(value: &[u8]) -> Option<Duration> {
    let number: f64 = visible(value)?.trim().parse().ok()?;
    Duration::try_from_secs_f64(number).ok().filter(|timeout| *timeout <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        lines.iter().for_each(|(name, value)| headers.append(name.as_bytes(), value.as_bytes()));
        headers
    }

    fn deadline(lines: &[(&str, &str)]) -> Option<u128> {
        let started = Instant::now();
        client_deadline(&headers(lines), started).map(|end| (end - started).as_millis())
    }

    #[test]
    fn timeouts_of_both_sdks_are_deadlines() {
        assert_eq!(deadline(&[("x-stainless-timeout", "600")]), Some(600_000));
        assert_eq!(deadline(&[("x-stainless-read-timeout", "600")]), Some(600_000));
        assert_eq!(deadline(&[("x-stainless-read-timeout", "0.5")]), Some(500));
        assert_eq!(deadline(&[("x-stainless-timeout", "0")]), Some(0), "less than a second");
        assert_eq!(deadline(&[("x-stainless-timeout", "9"), ("x-stainless-read-timeout", "8")]), Some(8_000));
        assert_eq!(deadline(&[]), None);
    }

    #[test]
    fn timeouts_that_are_no_times_are_as_none() {
        for value in ["", "-1", "NaN", "inf", "1e300", "soon", "86401"] {
            assert_eq!(deadline(&[("x-stainless-timeout", value)]), None, "{value}");
        }
    }

    #[test]
    fn retries_of_the_sdk_are_counted() {
        let count = |value| client_retries(&headers(&[("X-Stainless-Retry-Count", value)]));
        assert_eq!([count("0"), count("2"), count("-1"), count("x")], [0, 2, 0, 0]);
        assert_eq!(client_retries(&Headers::default()), 0);
    }
}
