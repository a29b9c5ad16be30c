//! Costs of tokens: prices as the user wrote them, the one that holds for a request, and amounts
//! that add up exactly.
//!
//! Nothing is built in: prices change, and a wrong one is worse than none. An amount is a whole
//! number of the smallest unit that a price can make ([`Amount`]), so a sum is the same in whatever
//! order and groups its parts are added.

mod amount;
mod rates;

use std::cmp::Reverse;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

pub use amount::{Amount, Cost, Currency, Reported};
pub use rates::{Billable, INPUT_WITHOUT_CACHE, Rate, Rates, TokenCounts};

use crate::llm::route::Glob;

/// A price of some models, from some day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// A glob for the model as the upstream answered it, or as it was asked for where the response
    /// named none.
    pub model: String,
    /// The upstream that asks it; `None`: any.
    pub upstream: Option<String>,
    /// From the beginning of which day on it holds; `None`: always.
    pub from: Option<Date>,
    /// The service tier that it is for; `None`: the standard one.
    pub tier: Option<String>,
    /// It is for requests with more input than this; `None`: for any input up to what the next such
    /// price is for.
    pub above_input_tokens: Option<u64>,
    /// The rates.
    pub rates: Rates,
}

/// The names of the tier that services serve in where nothing else was bought or asked for, and
/// `auto`, which is said before it is decided.
const STANDARD: [&str; 4] = ["default", "standard", "on_demand", "auto"];

/// Whether a tier is the standard one. Records without a tier are of services that have one only.
pub fn is_standard(tier: &str) -> bool {
    tier.is_empty() || STANDARD.iter().any(|standard| tier.eq_ignore_ascii_case(standard))
}

/// The properties of a request that decide its price.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// The model.
    pub model: &'a str,
    /// The upstream.
    pub upstream: Option<&'a str>,
    /// When the request started.
    pub at: Timestamp,
    /// The tier as the service named it.
    pub tier: Option<&'a str>,
    /// All of the input, in tokens.
    pub input_tokens: u64,
}

impl Price {
    /// The price of a model or a pattern for any upstream, day and input, in the standard tier.
    pub fn new(model: &str, rates: Rates) -> Self {
        Self {
            model: model.to_owned(),
            upstream: None,
            from: None,
            tier: None,
            above_input_tokens: None,
            rates,
        }
    }

    /// Whether it is for the model and the upstream, whatever the day, the tier and the input are.
    fn holds(&self, glob: &Glob, served: &Served<'_>) -> bool {
        self.upstream.as_deref().is_none_or(|wanted| served.upstream == Some(wanted))
            && glob.matches(served.model)
    }

    fn is_for_tier(&self, tier: Option<&str>) -> bool {
        let tier = tier.filter(|tier| !is_standard(tier));
        match (&self.tier, tier) {
            (None, None) => true,
            (Some(wanted), Some(tier)) => wanted.eq_ignore_ascii_case(tier),
            _ => false,
        }
    }

    fn is_for_input(&self, tokens: u64) -> bool {
        self.above_input_tokens.is_none_or(|above| above < tokens)
    }
}

/// All prices. The default has none.
#[derive(Clone, Debug)]
pub struct Prices {
    /// The one that would win first.
    ranked: Vec<Ranked>,
    changes: Vec<Timestamp>,
    thresholds: Vec<u64>,
    currencies: Vec<Currency>,
    zone: TimeZone,
}

impl Default for Prices {
    fn default() -> Self {
        Self::new([])
    }
}

#[derive(Clone, Debug)]
struct Ranked {
    glob: Glob,
    price: Price,
    /// The beginning of `price.from` in the time zone of the prices.
    from: Option<Timestamp>,
}

impl Ranked {
    /// Whether it is for the model, the upstream and the time.
    fn holds(&self, served: &Served<'_>) -> bool {
        self.from.is_none_or(|from| from <= served.at) && self.price.holds(&self.glob, served)
    }
}

impl Prices {
    /// Ranks them; their days are those of UTC.
    ///
    /// Among the prices that hold for a request, one for its upstream goes before one for any; then
    /// a model's own name before a pattern, and a pattern with more letters before one with fewer;
    /// then the one for the longest input; then the later `from`; then the earlier in `prices`.
    pub fn new(prices: impl IntoIterator<Item = Price>) -> Self {
        let rank = |price: Price| Ranked { glob: Glob::new(&price.model), from: None, price };
        let mut ranked: Vec<_> = prices.into_iter().map(rank).collect();
        ranked.sort_by_key(|Ranked { price, .. }| {
            let stars = price.model.matches('*').count();
            Reverse((
                price.upstream.is_some(),
                stars == 0,
                price.model.len() - stars,
                price.above_input_tokens,
                price.from,
            ))
        });
        let mut thresholds: Vec<_> =
            ranked.iter().filter_map(|ranked| ranked.price.above_input_tokens).collect();
        thresholds.sort_unstable();
        thresholds.dedup();
        let mut currencies: Vec<_> = ranked.iter().map(|ranked| ranked.price.rates.currency).collect();
        currencies.sort_unstable();
        currencies.dedup();
        let zone = TimeZone::UTC;
        Self { ranked, changes: Vec::new(), thresholds, currencies, zone }.in_zone(&TimeZone::UTC)
    }

    /// The same prices, each from the beginning of its day in `zone`.
    #[must_use]
    pub fn in_zone(mut self, zone: &TimeZone) -> Self {
        for Ranked { price, from, .. } in &mut self.ranked {
            let midnight = price.from.map(|day| zone.to_timestamp(day.to_datetime(Time::midnight())));
            *from = midnight.map(|midnight| midnight.unwrap_or(Timestamp::MAX));
        }
        self.changes = self.ranked.iter().filter_map(|ranked| ranked.from).collect();
        self.changes.sort_unstable();
        self.changes.dedup();
        self.zone = zone.clone();
        self
    }

    /// The zone on whose days they change.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The rates of a request. `None` also where the price of its model is known to be another
    /// for its input, and no price for that input is of its tier.
    pub fn find(&self, served: &Served<'_>) -> Option<&Rates> {
        let holds = |ranked: &&Ranked| {
            ranked.price.is_for_tier(served.tier)
                && ranked.price.is_for_input(served.input_tokens)
                && ranked.holds(served)
        };
        let Ranked { price: found, .. } = self.ranked.iter().find(holds)?;
        let is_another = |ranked: &Ranked| {
            let Ranked { price, .. } = ranked;
            price.above_input_tokens > found.above_input_tokens
                && price.is_for_input(served.input_tokens)
                && (&price.model, &price.upstream) == (&found.model, &found.upstream)
                && ranked.holds(served)
        };
        let is_covered = self.thresholds.is_empty() || !self.ranked.iter().any(is_another);
        is_covered.then_some(&found.rates)
    }

    /// The inputs above which a price is another, in their order: between two of them, one model
    /// has one price.
    pub fn thresholds(&self) -> &[u64] {
        &self.thresholds
    }

    /// The moments at which a price changes, in their order: between two of them, one model of one
    /// upstream has one price.
    pub fn changes(&self) -> &[Timestamp] {
        &self.changes
    }

    /// The currencies in which there are prices, in alphabetical order.
    pub fn currencies(&self) -> &[Currency] {
        &self.currencies
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranked.is_empty()
    }
}

#[cfg(test)]
mod tests;
