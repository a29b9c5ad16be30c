//! Rate limits in the headers of responses.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, header};

use super::span::parse_span;
use super::{Clock, is_believable};

/// What is left, and when it is full again.
struct Limit {
    remaining: HeaderName,
    reset: HeaderName,
    is_tokens: bool,
}

const fn limit(remaining: &'static str, reset: &'static str, is_tokens: bool) -> Limit {
    Limit { remaining: HeaderName::from_static(remaining), reset: HeaderName::from_static(reset), is_tokens }
}

/// The limits of OpenAI and those that send the same headers, and of Anthropic.
static LIMITS: [Limit; 6] = [
    limit("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", false),
    limit("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", true),
    limit("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset", false),
    limit("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset", true),
    limit("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset", true),
    limit("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset", false),
];

static RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
static UTILIZATION: HeaderName = HeaderName::from_static("azure-openai-deployment-utilization");

/// What is left of a model's rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::balance) struct Remaining {
    /// The fewest tokens that are left by any limit, and the time until that is full again. 0 where
    /// no request is left.
    pub(in crate::balance) tokens: Option<(u32, Duration)>,
    /// The utilisation of a provisioned deployment, in per mille.
    pub(in crate::balance) utilization: Option<u16>,
}

/// The time after which a service that refused a request may be asked again.
pub(super) fn pause(headers: &HeaderMap, clock: Clock) -> Option<Duration> {
    let millis = text(headers, &RETRY_AFTER_MS).and_then(|text| seconds(text, 1e-3));
    let after = || text(headers, &header::RETRY_AFTER).and_then(|text| retry_after(text, clock));
    let reset = || {
        let exhausted = LIMITS.iter().filter(|limit| count(headers, &limit.remaining) == Some(0));
        exhausted.filter_map(|limit| until_reset(headers, limit, clock)).max()
    };
    millis.or_else(after).or_else(reset)
}

/// What the headers of a response say of what is left.
pub(in crate::balance) fn remaining(headers: &HeaderMap, clock: Clock) -> Remaining {
    let left = LIMITS.iter().filter_map(|limit| {
        let count = count(headers, &limit.remaining)?;
        let tokens = if limit.is_tokens { count } else { (count == 0).then_some(0)? };
        Some((u32::try_from(tokens).unwrap_or(u32::MAX), until_reset(headers, limit, clock)?))
    });
    let utilization = text(headers, &UTILIZATION)
        .and_then(|text| text.trim_end_matches('%').trim().parse::<f64>().ok())
        .filter(|percent| (0.0..=1000.0).contains(percent))
        .map(|percent| (percent * 10.0) as u16);
    Remaining { tokens: left.min_by_key(|(tokens, _)| *tokens), utilization }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn count(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// A number of units, also with a fraction.
fn seconds(text: &str, unit: f64) -> Option<Duration> {
    let number: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(number * unit).ok().filter(is_believable)
}

/// Seconds, or an HTTP date.
fn retry_after(text: &str, clock: Clock) -> Option<Duration> {
    seconds(text, 1.0).or_else(|| {
        let date = httpdate::parse_http_date(text).ok()?;
        let until = date.duration_since(UNIX_EPOCH).ok()?;
        until.checked_sub(clock.unix).filter(is_believable)
    })
}

/// A length of time, or a date of RFC 3339.
fn until_reset(headers: &HeaderMap, limit: &Limit, clock: Clock) -> Option<Duration> {
    let text = text(headers, &limit.reset)?;
    let span = parse_span(text).or_else(|| {
        let date: jiff::Timestamp = text.parse().ok()?;
        Duration::from_millis(u64::try_from(date.as_millisecond()).ok()?).checked_sub(clock.unix)
    });
    span.filter(is_believable)
}
