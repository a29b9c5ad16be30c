//! What tokens cost: prices as the user wrote them, the one that holds for a request, and amounts that add up exactly.
//!
//! Nothing is built in: prices change, and a wrong one is worse than none. An amount is a whole number of the smallest unit
//! that a price can make ([`Amount`]), so a sum is the same in whatever order and groups its parts are added.

mod amount;
mod rates;

use std::cmp::Reverse;

use jiff::Timestamp;

pub use amount::{Amount, Cost, Currency};
pub use rates::{Billable, INPUT_WITHOUT_CACHE, Rate, Rates};

use crate::route::Glob;

/// A price of some models, from some day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// A glob for the model as the upstream answered it, or as it was asked for where the answer named none.
    pub model: String,
    /// The upstream that it is asked by; `None`: any.
    pub upstream: Option<String>,
    /// From when on it holds; `None`: always.
    pub from: Option<Timestamp>,
    /// What is asked.
    pub rates: Rates,
}

/// All prices. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// The one that would win first.
    ranked: Vec<(Glob, Price)>,
    changes: Vec<Timestamp>,
    currencies: Vec<Currency>,
}

impl Prices {
    /// Ranks them.
    ///
    /// Among the prices that hold for a request, one for its upstream goes before one for any; then a model's own name before
    /// a pattern, and a pattern with more letters before one with fewer; then the later `from`; then the earlier in `prices`.
    pub fn new(prices: impl IntoIterator<Item = Price>) -> Self {
        let mut ranked: Vec<_> = prices.into_iter().map(|price| (Glob::new(&price.model), price)).collect();
        ranked.sort_by_key(|(_, price)| {
            let stars = price.model.matches('*').count();
            Reverse((price.upstream.is_some(), stars == 0, price.model.len() - stars, price.from))
        });
        let mut changes: Vec<_> = ranked.iter().filter_map(|(_, price)| price.from).collect();
        changes.sort_unstable();
        changes.dedup();
        let mut currencies: Vec<_> = ranked.iter().map(|(_, price)| price.rates.currency).collect();
        currencies.sort_unstable();
        currencies.dedup();
        Self { ranked, changes, currencies }
    }

    /// What holds for a request that started at `at`.
    pub fn find(&self, model: &str, upstream: Option<&str>, at: Timestamp) -> Option<&Rates> {
        let holds = |(glob, price): &&(Glob, Price)| {
            price.from.is_none_or(|from| from <= at)
                && price.upstream.as_deref().is_none_or(|wanted| upstream == Some(wanted))
                && glob.matches(model)
        };
        self.ranked.iter().find(holds).map(|(_, price)| &price.rates)
    }

    /// The moments at which a price changes, in their order: between two of them, one model of one upstream has one price.
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
mod tests {
    use super::*;

    fn price(model: &str, upstream: Option<&str>, from: Option<&str>, input: u64) -> Price {
        let rate = Rate::parse(&input.to_string()).unwrap();
        let currency = Currency::parse("USD").unwrap();
        Price {
            model: model.to_owned(),
            upstream: upstream.map(str::to_owned),
            from: from.map(|from| from.parse().unwrap()),
            rates: Rates { currency, input: rate, cached_input: rate, cache_write: rate, output: rate },
        }
    }

    #[test]
    fn the_narrowest_price_that_holds_on_the_day_wins() {
        let prices = Prices::new([
            price("*", None, None, 1),
            price("gpt-4.1*", None, Some("2025-04-14T00:00:00Z"), 2),
            price("gpt-4.1*", None, Some("2026-01-01T00:00:00Z"), 3),
            price("gpt-4.1-mini*", None, None, 4),
            price("gpt-4.1-mini", None, None, 5),
            price("gpt-4.1*", Some("azure"), None, 6),
            price("gpt-4.1-*", None, Some("2030-01-01T00:00:00Z"), 7),
            price("*-4.1-*", None, Some("2040-01-01T00:00:00Z"), 8),
        ]);
        for (model, upstream, at, expected) in [
            ("llama", Some("openai"), "2025-01-01T00:00:00Z", 1),
            ("gpt-4.1-2025-04-14", Some("openai"), "2025-04-13T23:59:59.999999999Z", 1),
            ("gpt-4.1-2025-04-14", Some("openai"), "2025-04-14T00:00:00Z", 2),
            ("gpt-4.1-2025-04-14", None, "2026-01-01T00:00:00Z", 3),
            ("gpt-4.1-mini-2025-04-14", None, "2026-01-01T00:00:00Z", 4),
            ("gpt-4.1-mini", None, "2026-01-01T00:00:00Z", 5),
            ("gpt-4.1-mini", Some("azure"), "2026-01-01T00:00:00Z", 6),
            ("gpt-4.1-nano", None, "2041-01-01T00:00:00Z", 7),
        ] {
            let found = prices.find(model, upstream, at.parse().unwrap()).unwrap();
            assert_eq!(found.input, Rate::parse(&expected.to_string()).unwrap(), "{model} {upstream:?} {at}");
        }
        assert_eq!(prices.changes().len(), 4);
        assert_eq!(prices.currencies().len(), 1);
    }

    #[test]
    fn without_a_price_there_is_none() {
        let prices = Prices::new([price("gpt*", Some("azure"), Some("2026-01-01T00:00:00Z"), 1)]);
        let at = |text: &str| text.parse().unwrap();
        assert!(prices.find("gpt", Some("azure"), at("2026-01-01T00:00:00Z")).is_some());
        assert!(prices.find("gpt", Some("azure"), at("2025-12-31T23:59:59Z")).is_none());
        assert!(prices.find("gpt", Some("openai"), at("2026-01-01T00:00:00Z")).is_none());
        assert!(prices.find("gpt", None, at("2026-01-01T00:00:00Z")).is_none());
        assert!(prices.find("claude", Some("azure"), at("2026-01-01T00:00:00Z")).is_none());
        assert!(Prices::default().is_empty());
    }
}
