//! The fields by which rows can be grouped.

use std::fmt;

use super::calendar::Period;
use super::columns::{GROUP, KEY_ID, TAGS};
use crate::support::tags::TagName;

/// A field by which rows can be grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The model that the response named.
    Model,
    /// The client that sent the request.
    Client,
    /// The team of the client, by the configuration.
    Team,
    /// The client's key, by the beginning of its digest.
    Key,
    /// The upstream of the request.
    Upstream,
    /// The group that the request was routed to.
    Group,
    /// The endpoint, such as `chat/completions`.
    Endpoint,
    /// The end user that the request named.
    User,
    /// The day of the request's start.
    Day,
    /// The hour of the request's start.
    Hour,
    /// The week of the request's start, named by its Monday.
    Week,
    /// The month of the request's start.
    Month,
    /// The provider of the upstream.
    Provider,
    /// The HTTP status.
    Status,
    /// The outcome.
    Outcome,
    /// The usage source.
    UsageSource,
    /// A tag of the request.
    Tag(TagName),
}

impl By {
    /// All fields except tags.
    pub const ALL: [Self; 16] = [
        Self::Model,
        Self::Client,
        Self::Team,
        Self::Key,
        Self::Upstream,
        Self::Group,
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

    /// The name on the command line and in results: that of the column, if the field is a column,
    /// except for [`By::Key`] and [`By::Team`]; `tag.NAME` for a tag.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Model => "model",
            Self::Client => "client",
            Self::Team => "team",
            Self::Key => "key",
            Self::Upstream => "upstream",
            Self::Group => GROUP,
            Self::Endpoint => "endpoint",
            Self::User => "user",
            Self::Day => Period::Day.name(),
            Self::Hour => Period::Hour.name(),
            Self::Week => Period::Week.name(),
            Self::Month => Period::Month.name(),
            Self::Provider => "provider",
            Self::Status => "status",
            Self::Outcome => "outcome",
            Self::UsageSource => "usage_source",
            Self::Tag(name) => name.field(),
        }
    }

    /// The column of the field, if it is one.
    pub(super) fn column(&self) -> &str {
        match self {
            Self::Key => KEY_ID,
            Self::Team => Self::Client.as_str(),
            Self::Tag(_) => TAGS,
            by => by.as_str(),
        }
    }

    /// Finds a field by its name.
    pub fn named(name: &str) -> Option<Self> {
        let by = Self::ALL.into_iter().find(|by| by.as_str() == name);
        by.or_else(|| TagName::of_field(name).map(Self::Tag))
    }

    /// Parses names with commas between them, each at most once.
    ///
    /// # Errors
    /// Fails with the unknown or repeated name.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        let mut list = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let Some(by) = Self::named(name) else {
                let known: Vec<_> = Self::ALL.iter().map(Self::as_str).collect();
                return Err(format!("{name:?} is none of {}, tag.NAME", known.join(", ")));
            };
            if list.contains(&by) {
                return Err(format!("{name} is there twice"));
            }
            list.push(by);
        }
        Ok(list)
    }

    /// The period of the calendar, if the field is one.
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
