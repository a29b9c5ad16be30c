//! Rate limits in the headers of responses.

use std::time::{Duration, UNIX_EPOCH};

use super::span::parse_span;
use super::{Clock, is_believable};
use crate::codec::head::{Headers, KnownName, NameSet, visible};

/// The rest, and the time at which it is full again.
struct Limit {
    remaining: &'static str,
    reset: &'static str,
    is_tokens: bool,
}

const fn limit(remaining: &'static str, reset: &'static str, is_tokens: bool) -> Limit {
    Limit { remaining, reset, is_tokens }
}

/// The limits of OpenAI and services with the same headers, and of Anthropic.
static LIMITS: [Limit; 6] = [
    limit("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", false),
    limit("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", true),
    limit("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset", false),
    limit("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset", true),
    limit("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset", true),
    limit("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset", false),
];

const RETRY_AFTER: &str = "retry-after";
const RETRY_AFTER_MS: &str = "retry-after-ms";
const UTILIZATION: &str = "azure-openai-deployment-utilization";

/// The fields of a head about rate limits, found in one pass.
#[derive(Default)]
struct Fields<'a> {
    retry_after: Option<&'a str>,
    retry_after_ms: Option<&'a str>,
    utilization: Option<&'a str>,
    /// The remaining units, in the order of [`LIMITS`].
    remaining: [Option<u64>; LIMITS.len()],
    reset: [Option<&'a str>; LIMITS.len()],
}

impl<'a> Fields<'a> {
    fn read(headers: &'a Headers) -> Self {
        let mut found = Self::default();
        for field in headers.iter() {
            let text = || visible(field.value()).map(str::trim);
            match field.name().first().map(u8::to_ascii_lowercase) {
                Some(b'r') if field.is_named(RETRY_AFTER) => found.retry_after = text(),
                Some(b'r') if field.is_named(RETRY_AFTER_MS) => found.retry_after_ms = text(),
                Some(b'a') if field.is_named(UTILIZATION) => found.utilization = text(),
                Some(b'x' | b'a') => {
                    for (place, limit) in LIMITS.iter().enumerate() {
                        if field.is_named(limit.remaining) {
                            found.remaining[place] = text().and_then(|text| text.parse().ok());
                        } else if field.is_named(limit.reset) {
                            found.reset[place] = text();
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// The rest of a model's rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::balance) struct Remaining {
    /// The smallest number of tokens that remain by any limit, and the time until it is full again.
    /// 0 if no request remains.
    pub(in crate::balance) tokens: Option<(u32, Duration)>,
    /// The utilisation of a provisioned deployment, in per mille.
    pub(in crate::balance) utilization: Option<u16>,
}

/// The time after which a service that refused a request may be asked again.
pub(super) fn pause(headers: &Headers, clock: Clock) -> Option<Duration> {
    let fields = Fields::read(headers);
    let millis = fields.retry_after_ms.and_then(|text| seconds(text, 1e-3));
    let after = || fields.retry_after.and_then(|text| retry_after(text, clock));
    let reset = || {
        let exhausted = (0..LIMITS.len()).filter(|&place| fields.remaining[place] == Some(0));
        exhausted.filter_map(|place| until_reset(fields.reset[place]?, clock)).max()
    };
    millis.or_else(after).or_else(reset)
}

/// Returns false if [`remaining`] finds nothing in these headers.
pub(in crate::balance) fn may_have_limits(headers: &Headers) -> bool {
    const NAMES: NameSet = NameSet::of(&[
        KnownName::XRatelimitRemainingRequests,
        KnownName::XRatelimitRemainingTokens,
        KnownName::AnthropicRequestsRemaining,
        KnownName::AnthropicTokensRemaining,
        KnownName::AnthropicInputTokensRemaining,
        KnownName::AnthropicOutputTokensRemaining,
        KnownName::AzureOpenaiDeploymentUtilization,
    ]);
    headers.names().has_any_of(NAMES)
}

/// The rest that the headers of a response report.
pub(in crate::balance) fn remaining(headers: &Headers, clock: Clock) -> Remaining {
    let fields = Fields::read(headers);
    let left = LIMITS.iter().enumerate().filter_map(|(place, limit)| {
        let count = fields.remaining[place]?;
        let tokens = if limit.is_tokens { count } else { (count == 0).then_some(0)? };
        Some((u32::try_from(tokens).unwrap_or(u32::MAX), until_reset(fields.reset[place]?, clock)?))
    });
    let utilization = fields
        .utilization
        .and_then(|text| text.trim_end_matches('%').trim().parse::<f64>().ok())
        .filter(|percent| (0.0..=1000.0).contains(percent))
        .map(|percent| (percent * 10.0) as u16);
    Remaining { tokens: left.min_by_key(|(tokens, _)| *tokens), utilization }
}

/// A number of units, possibly with a fraction.
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
fn until_reset(text: &str, clock: Clock) -> Option<Duration> {
    let span = parse_span(text).or_else(|| {
        let date: jiff::Timestamp = text.parse().ok()?;
        Duration::from_millis(u64::try_from(date.as_millisecond()).ok()?).checked_sub(clock.unix)
    });
    span.filter(is_believable)
}
