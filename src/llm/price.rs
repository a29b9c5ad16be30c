//! Costs of tokens: the configured prices, the choice of the price for a request, and amounts that
//! add up exactly.
//!
//! No price is built in: prices change, and a wrong price is worse than none. An amount is a
//! multiple of the smallest unit that a price can produce ([`Amount`]), so that a sum does not
//! depend on order or grouping.

mod amount;
mod rates;

use std::cmp::Reverse;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

pub use amount::{Amount, Cost, Currency, Reported};
pub use rates::{Billable, INPUT_WITHOUT_CACHE, Rate, Rates, TokenCounts};

use crate::llm::route::Glob;

/// A price of one or several models, valid from a day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// A glob for the model that the response named, or for the requested model if the response
    /// named none.
    pub model: String,
    /// The upstream for which the price holds. `None`: any.
    pub upstream: Option<String>,
    /// The first day on which the price holds. `None`: always.
    pub from: Option<Date>,
    /// The service tier for which the price holds. `None`: the standard tier.
    pub tier: Option<String>,
    /// The price holds for requests with more input than this, up to the threshold of the next such
    /// price. `None`: no lower bound.
    pub above_input_tokens: Option<u64>,
    /// The rates.
    pub rates: Rates,
    /// The price is from the file of imported prices, over which others have precedence.
    pub is_imported: bool,
}

/// Names of the tier that services use by default, and `auto`, which services report before the
/// tier is chosen.
const STANDARD: [&str; 4] = ["default", "standard", "on_demand", "auto"];

/// Returns true if a tier is the standard one. A record without a tier belongs to a service that
/// has only one.
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
    /// The start of the request.
    pub at: Timestamp,
    /// The tier as the service named it.
    pub tier: Option<&'a str>,
    /// All of the input, in tokens.
    pub input_tokens: u64,
}

/// The same, of a response whose input is in its counts.
#[derive(Clone, Copy, Debug)]
pub struct ServedBy<'a> {
    /// The model that the response named, else the requested one.
    pub model: Option<&'a str>,
    /// The upstream.
    pub upstream: Option<&'a str>,
    /// The start of the request.
    pub at: Timestamp,
    /// The tier as the service named it.
    pub tier: Option<&'a str>,
}

impl Price {
    /// A price of a model or a pattern, for any upstream, day and input, in the standard tier.
    pub fn new(model: &str, rates: Rates) -> Self {
        Self {
            model: model.to_owned(),
            upstream: None,
            from: None,
            tier: None,
            above_input_tokens: None,
            rates,
            is_imported: false,
        }
    }

    /// Returns true if the price is for the model and the upstream, regardless of day, tier and
    /// input.
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

/// All prices; none by default.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// The prices, in order of precedence.
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

#[derive(Clone, Debug, PartialEq)]
struct Ranked {
    glob: Glob,
    price: Price,
    /// The beginning of `price.from` in the time zone of the prices.
    from: Option<Timestamp>,
}

impl Ranked {
    /// Returns true if the price is for the model, the upstream and the time.
    fn holds(&self, served: &Served<'_>) -> bool {
        self.from.is_none_or(|from| from <= served.at) && self.price.holds(&self.glob, served)
    }
}

impl Prices {
    /// Ranks them; their days are those of UTC.
    ///
    /// Precedence among the prices that hold for a request: one that was not imported before an
    /// imported one; then one for its upstream before one for any upstream; then a model's own name before a pattern, and a pattern with more letters before
    /// one with fewer; then the higher input threshold; then the later `from`; then the earlier
    /// position in `prices`.
    pub fn new(prices: impl IntoIterator<Item = Price>) -> Self {
        let rank = |price: Price| Ranked { glob: Glob::new(&price.model), from: None, price };
        let mut ranked: Vec<_> = prices.into_iter().map(rank).collect();
        ranked.sort_by_key(|Ranked { price, .. }| {
            let stars = price.model.matches('*').count();
            Reverse((
                !price.is_imported,
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

    /// Moves each price to the beginning of its day in `zone`.
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

    /// The time zone of the days in `from`.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The rates of a request. `None` also if the model's price depends on the input, and no price
    /// for this input is of the request's tier.
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
                && (&price.model, &price.upstream, price.is_imported)
                    == (&found.model, &found.upstream, found.is_imported)
                && ranked.holds(served)
        };
        let is_covered = self.thresholds.is_empty() || !self.ranked.iter().any(is_another);
        is_covered.then_some(&found.rates)
    }

    /// The cost of a response's counts. A part without a known price makes it unpriced as a whole.
    pub fn cost(&self, counts: &TokenCounts, served: &ServedBy<'_>) -> Cost {
        let mut cost = Cost::default();
        let Some(used) = counts.billable() else { return cost };
        let rates = served.model.and_then(|model| {
            self.find(&Served {
                model,
                upstream: served.upstream,
                at: served.at,
                tier: served.tier,
                input_tokens: counts.whole_input(),
            })
        });
        match rates.and_then(|rates| Some((rates.currency, rates.amount(&used)?))) {
            Some((currency, amount)) => cost.pay(currency, amount),
            None => cost.unpriced = 1,
        }
        cost
    }

    /// The input thresholds, ascending. Between two of them, a model has one price.
    pub fn thresholds(&self) -> &[u64] {
        &self.thresholds
    }

    /// The times at which a price changes, ascending. Between two of them, a model of an upstream
    /// has one price.
    pub fn changes(&self) -> &[Timestamp] {
        &self.changes
    }

    /// The currencies of the prices, in alphabetical order.
    pub fn currencies(&self) -> &[Currency] {
        &self.currencies
    }

    /// Returns true if a price in this currency is for a model of the pattern.
    pub fn has_some_of(&self, pattern: &Glob, currency: Currency) -> bool {
        let is_of =
            |ranked: &Ranked| ranked.price.rates.currency == currency && ranked.glob.overlaps(pattern);
        self.ranked.iter().any(is_of)
    }

    /// Returns true if there are no prices.
    pub fn is_empty(&self) -> bool {
        self.ranked.is_empty()
    }
}

#[cfg(test)]
mod tests;
