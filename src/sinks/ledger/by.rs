//! The fields that rows can be grouped by.

use std::fmt;

use super::calendar::Period;

/// A field that rows can be grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The model as the upstream answered it.
    Model,
    /// The client that sent the request.
    Client,
    /// The upstream that it went to.
    Upstream,
    /// The path there, such as `chat/completions`.
    Endpoint,
    /// The user that the request named.
    User,
    /// The day on which it started.
    Day,
    /// The hour.
    Hour,
    /// The week, named by its Monday.
    Week,
    /// The month.
    Month,
    /// The provider of the upstream.
    Provider,
    /// The HTTP status.
    Status,
    /// How it ended.
    Outcome,
    /// How its counts are known.
    UsageSource,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Model,
        Self::Client,
        Self::Upstream,
        Self::Endpoint,
        Self::User,
        Self::Day,
        Self::Hour,
        Self::Week,
        Self::Month,
        Self::Provider,
        Self::Status,
        Self::Outcome,
        Self::UsageSource,
    ];

    /// The name on the command line and in results; that of the column, where it is one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Endpoint => "endpoint",
            Self::User => "user",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Week => "week",
            Self::Month => "month",
            Self::Provider => "provider",
            Self::Status => "status",
            Self::Outcome => "outcome",
            Self::UsageSource => "usage_source",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == name)
    }

    /// Reads names with commas between them, each once.
    ///
    /// # Errors
    /// The name that is none, or that is there twice.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        let mut list = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let Some(by) = Self::named(name) else {
                return Err(format!("{name:?} is none of {}", Self::ALL.map(Self::as_str).join(", ")));
            };
            if list.contains(&by) {
                return Err(format!("{name} is there twice"));
            }
            list.push(by);
        }
        Ok(list)
    }

    /// The span of time that groups are, where they are one.
    pub(super) fn period(self) -> Option<Period> {
        match self {
            Self::Hour => Some(Period::Hour),
            Self::Day => Some(Period::Day),
            Self::Week => Some(Period::Week),
            Self::Month => Some(Period::Month),
            _ => None,
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
