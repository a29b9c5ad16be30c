//! The choices of the dashboard's chart and table.

use crate::llm::price::Currency;
use crate::sinks::ledger::By;

/// The quantity of the chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Metric {
    /// The cost in a currency. `None`: the first one with a price.
    Cost(Option<Currency>),
    Tokens,
    Requests,
    Errors,
    Latency,
    Cached,
}

impl Metric {
    /// The metrics with one form.
    const NAMED: [(Self, &'static str); 6] = [
        (Self::Cost(None), "cost"),
        (Self::Tokens, "tokens"),
        (Self::Requests, "requests"),
        (Self::Errors, "errors"),
        (Self::Latency, "latency"),
        (Self::Cached, "cached"),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        let known = Self::NAMED.into_iter().find(|(_, known)| *known == name);
        let currency = || Currency::parse(&name.strip_prefix("cost-")?.to_ascii_uppercase());
        known.map(|(metric, _)| metric).or_else(|| Some(Self::Cost(Some(currency()?))))
    }

    /// The name in the query.
    pub(in crate::admin) fn name(self) -> String {
        match self {
            Self::Cost(Some(currency)) => format!("cost-{}", currency.as_str().to_ascii_lowercase()),
            metric => {
                let known = Self::NAMED.into_iter().find(|(known, _)| *known == metric);
                known.map_or("", |(_, name)| name).to_owned()
            }
        }
    }
}

/// The fields of the tabs, besides tags.
pub(in crate::admin) const TABS: [By; 7] =
    [By::User, By::Model, By::Client, By::Team, By::Upstream, By::Endpoint, By::Outcome];

/// The fields that split the chart, besides tags.
pub(in crate::admin) const SPLITS: [By; 5] = [By::Model, By::Client, By::User, By::Team, By::Upstream];

/// Finds a field among `fields` and tags.
pub(super) fn field(name: &str, fields: &[By]) -> Option<By> {
    By::named(name).filter(|by| matches!(by, By::Tag(_)) || fields.contains(by))
}
