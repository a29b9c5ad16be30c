//! A client, and what it may ask for.

use std::fmt;
use std::sync::Arc;

use super::limit::{AppliedLimit, Fleet, InputRatios, Quantity};
use crate::llm::price::Prices;
use crate::llm::route::Glob;
use crate::support::Live;
use crate::support::tags::Tags;

/// A configured client.
#[derive(Clone, Debug)]
pub struct KnownClient {
    /// The name in records, or the name in its certificate.
    pub name: Arc<str>,
    pub models: Models,
    pub endpoints: AllowedEndpoints,
    /// Its place in a queue of waiting requests: a higher one is served first.
    pub priority: u32,
    /// Its part of a queue's service, at least 1, beside others of the same priority.
    pub share: u32,
    /// The most output tokens that a request may ask for.
    pub max_output: Option<u64>,
    /// Responses say what is left of its limits.
    pub limit_headers: bool,
    /// The prices by which responses tell their cost. `None`: they do not.
    pub response_cost: Option<Arc<Live<Prices>>>,
    /// Some limits count the requests of each user for themselves.
    pub has_limits_of_users: bool,
    /// Some limits are for some models.
    pub has_limits_by_model: bool,
    /// Some limits are for some models or upstreams.
    pub has_filtered_limits: bool,
    /// The limits that apply to it: its own, those of its teams, and those of all clients.
    pub limits: Vec<AppliedLimit>,
    /// The fixed tags of its requests, if it has any.
    pub tags: Option<Arc<Tags>>,
    /// Some limits count tokens by kind.
    pub counts_kinds: bool,
    /// The ratios for the expected input. `None`: no limit counts tokens or their cost.
    pub input_ratios: Option<Arc<InputRatios>>,
    /// The prices in use. `None`: no limit counts cost.
    pub prices: Option<Arc<Live<Prices>>>,
}

/// The models that a client may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Models {
    /// Any, also one that cannot be read.
    #[default]
    All,
    /// Those that match one of these patterns.
    Matching(Vec<Glob>),
}

/// The endpoints that a client may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowedEndpoints {
    #[default]
    All,
    /// Those whose requests name their model, and have their tokens counted
    /// ([`crate::llm::provider::Endpoint::is_metered`]).
    Metered,
}

impl KnownClient {
    /// The fleet that shares its limits.
    pub fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.limits.iter().find_map(AppliedLimit::fleet)
    }

    /// A client without restrictions.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            models: Models::All,
            endpoints: AllowedEndpoints::All,
            priority: 0,
            share: 1,
            max_output: None,
            limit_headers: false,
            response_cost: None,
            has_limits_of_users: false,
            has_limits_by_model: false,
            has_filtered_limits: false,
            limits: Vec::new(),
            tags: None,
            counts_kinds: false,
            input_ratios: None,
            prices: None,
        }
    }

    /// Adds the limits that apply to it, and what they need.
    #[must_use]
    pub fn limited(
        self,
        limits: Vec<AppliedLimit>,
        input_ratios: &Arc<InputRatios>,
        prices: &Arc<Live<Prices>>,
    ) -> Self {
        let counts = |is: fn(Quantity) -> bool| limits.iter().any(|applied| is(applied.limit.quantity()));
        let counts_cost = counts(|quantity| matches!(quantity, Quantity::Cost(_)));
        let counts_tokens = counts(|quantity| matches!(quantity, Quantity::Tokens(_) | Quantity::Cost(_)));
        Self {
            has_limits_by_model: limits.iter().any(|applied| applied.limit.filter().model.is_some()),
            has_filtered_limits: limits.iter().any(|applied| !applied.limit.filter().is_empty()),
            has_limits_of_users: limits.iter().any(|applied| applied.users.is_some()),
            counts_kinds: counts(|quantity| quantity.counts_kinds()),
            input_ratios: counts_tokens.then(|| Arc::clone(input_ratios)),
            prices: counts_cost.then(|| Arc::clone(prices)),
            limits,
            ..self
        }
    }

    /// Returns true if a limit counts tokens, or their cost.
    pub fn counts_tokens(&self) -> bool {
        self.input_ratios.is_some()
    }

    /// Returns true if the model of a request must be known: the client may use only some, or a limit
    /// is for some or needs their prices.
    pub fn needs_model(&self) -> bool {
        self.models != Models::All || self.has_limits_of_models()
    }

    /// Returns true if a limit is for some models or needs their prices.
    pub fn has_limits_of_models(&self) -> bool {
        // Only limits of cost need prices.
        let needs_price = || self.limits.iter().any(|applied| applied.limit.needs_price());
        self.has_limits_by_model || (self.prices.is_some() && needs_price())
    }

    /// Returns true if the body of a request must be read: for its model, or since the output that it
    /// asks for is bounded.
    pub fn needs_body(&self) -> bool {
        self.max_output.is_some() || self.needs_model()
    }

    /// Returns true if some requests of the client are refused.
    pub fn is_restricted(&self) -> bool {
        self.endpoints != AllowedEndpoints::All || self.needs_body()
    }
}

impl Models {
    /// Reads patterns. One that matches every text stands for all models.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let patterns: Vec<_> = patterns.into_iter().map(Glob::new).collect();
        if patterns.iter().any(|pattern| pattern.to_string() == "*") {
            return Self::All;
        }
        Self::Matching(patterns)
    }

    /// Returns true if a client may ask for `model`.
    pub fn allows(&self, model: &str) -> bool {
        match self {
            Self::All => true,
            Self::Matching(patterns) => patterns.iter().any(|pattern| pattern.matches(model)),
        }
    }
}

impl fmt::Display for Models {
    /// The patterns, with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Matching(patterns) = self else { return f.write_str("*") };
        for (index, pattern) in patterns.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{pattern}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_names_and_patterns() {
        let models = Models::new(["gpt-5*", "o3"]);
        for (model, is_allowed) in
            [("gpt-5", true), ("gpt-5-mini", true), ("o3", true), ("o3-mini", false), ("", false)]
        {
            assert_eq!(models.allows(model), is_allowed, "{model}");
        }
        assert_eq!(models.to_string(), "gpt-5*, o3");
        assert_eq!(Models::new(["gpt-5*", "**"]), Models::All);
    }
}
