//! The forms in which services announce the end of a rate limit.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The form in which a 429 announces the end of its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LimitStyle {
    /// OpenAI's form: `retry-after`, `retry-after-ms` and `x-ratelimit-*`.
    #[default]
    OpenAi,
    /// `retry-after` in seconds, rounded up.
    Seconds,
    /// `retry-after` as a date.
    Date,
    /// `retry-after-ms`, as Azure's provisioned deployments do.
    Millis,
    /// `x-ratelimit-reset-tokens` alone.
    Reset,
    /// `anthropic-ratelimit-tokens-reset`, a time.
    Anthropic,
    /// `retryDelay` of Google's error.
    Google,
    /// No announcement.
    None,
}

impl LimitStyle {
    const NAMES: [(&str, Self); 8] = [
        ("openai", Self::OpenAi),
        ("seconds", Self::Seconds),
        ("date", Self::Date),
        ("millis", Self::Millis),
        ("reset", Self::Reset),
        ("anthropic", Self::Anthropic),
        ("google", Self::Google),
        ("none", Self::None),
    ];

    /// # Errors
    /// Fails with the known names, for the user.
    pub(super) fn parse(value: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == value).map(|(_, style)| *style);
        found.ok_or_else(|| {
            "expected openai, seconds, date, millis, reset, anthropic, google or none".to_owned()
        })
    }

    pub(super) fn add_headers(self, after: Duration, headers: &mut HeaderMap) {
        let seconds = after.as_millis().div_ceil(1000).to_string();
        let millis = after.as_millis().to_string();
        let reset = format!("{}ms", after.as_millis());
        let at = SystemTime::now() + after;
        match self {
            Self::OpenAi => {
                for (name, value) in [
                    ("retry-after", seconds.as_str()),
                    ("retry-after-ms", &millis),
                    ("x-ratelimit-limit-requests", "500"),
                    ("x-ratelimit-limit-tokens", "30000"),
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-remaining-tokens", "29000"),
                    ("x-ratelimit-reset-requests", &reset),
                    ("x-ratelimit-reset-tokens", "6ms"),
                ] {
                    insert(headers, name, value);
                }
            }
            Self::Seconds => insert(headers, header::RETRY_AFTER.as_str(), &seconds),
            Self::Date => insert(headers, header::RETRY_AFTER.as_str(), &httpdate::fmt_http_date(at)),
            Self::Millis => insert(headers, "retry-after-ms", &millis),
            Self::Reset => {
                insert(headers, "x-ratelimit-remaining-tokens", "0");
                insert(headers, "x-ratelimit-reset-tokens", &reset);
            }
            Self::Anthropic => {
                let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
                insert(headers, "anthropic-ratelimit-tokens-remaining", "0");
                insert(headers, "anthropic-ratelimit-tokens-reset", &at.to_string());
            }
            Self::Google | Self::None => {}
        }
    }

    /// The details of the error.
    pub(super) fn details(self, after: Duration) -> Option<Value> {
        const KIND: &str = "type.googleapis.com/google.rpc.RetryInfo";
        let delay = format!("{}s", after.as_secs_f64());
        (self == Self::Google).then(|| json!([{ "@type": KIND, "retryDelay": delay }]))
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("digits and letters are a header value"));
}
