//! What tokens cost: prices as the user wrote them, the one that holds for a request, and amounts that add up exactly.
//!
//! Nothing is built in: prices change, and a wrong one is worse than none. An amount is a whole number of the smallest unit
//! that a price can make ([`Amount`]), so a sum is the same in whatever order and groups its parts are added.

mod amount;
mod rates;

use std::cmp::Reverse;

use jiff::Timestamp;

pub use amount::{Amount, Cost, Currency, Reported};
pub use rates::{Billable, Counts, INPUT_WITHOUT_CACHE, Rate, Rates};

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
    /// The service tier that it is for; `None`: the standard one.
    pub tier: Option<String>,
    /// It is for requests with more input than this; `None`: for any input up to what the next such price is for.
    pub above_input_tokens: Option<u64>,
    /// What is asked.
    pub rates: Rates,
}

/// The names of the tier that services serve in where nothing else was bought or asked for, and `auto`, which is said before
/// it is decided.
const STANDARD: [&str; 4] = ["default", "standard", "on_demand", "auto"];

/// Whether a tier is the standard one. Records without a tier are of services that have one only.
pub fn is_standard(tier: &str) -> bool {
    tier.is_empty() || STANDARD.iter().any(|standard| tier.eq_ignore_ascii_case(standard))
}

/// What a price must hold for.
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
    /// Whether it is for the model, the upstream and the time, whatever the tier and the input are.
    fn holds(&self, glob: &Glob, served: &Served<'_>) -> bool {
        self.from.is_none_or(|from| from <= served.at)
            && self.upstream.as_deref().is_none_or(|wanted| served.upstream == Some(wanted))
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
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// The one that would win first.
    ranked: Vec<(Glob, Price)>,
    changes: Vec<Timestamp>,
    thresholds: Vec<u64>,
    currencies: Vec<Currency>,
}

impl Prices {
    /// Ranks them.
    ///
    /// Among the prices that hold for a request, one for its upstream goes before one for any; then a model's own name before
    /// a pattern, and a pattern with more letters before one with fewer; then the one for the longest input; then the later
    /// `from`; then the earlier in `prices`.
    pub fn new(prices: impl IntoIterator<Item = Price>) -> Self {
        let mut ranked: Vec<_> = prices.into_iter().map(|price| (Glob::new(&price.model), price)).collect();
        ranked.sort_by_key(|(_, price)| {
            let stars = price.model.matches('*').count();
            Reverse((
                price.upstream.is_some(),
                stars == 0,
                price.model.len() - stars,
                price.above_input_tokens,
                price.from,
            ))
        });
        let mut changes: Vec<_> = ranked.iter().filter_map(|(_, price)| price.from).collect();
        changes.sort_unstable();
        changes.dedup();
        let mut thresholds: Vec<_> =
            ranked.iter().filter_map(|(_, price)| price.above_input_tokens).collect();
        thresholds.sort_unstable();
        thresholds.dedup();
        let mut currencies: Vec<_> = ranked.iter().map(|(_, price)| price.rates.currency).collect();
        currencies.sort_unstable();
        currencies.dedup();
        Self { ranked, changes, thresholds, currencies }
    }

    /// What holds for a request. `None` also where the price of its model is known to be another for its input, and no price
    /// for that input is of its tier.
    pub fn find(&self, served: &Served<'_>) -> Option<&Rates> {
        let holds = |(glob, price): &&(Glob, Price)| {
            price.is_for_tier(served.tier)
                && price.is_for_input(served.input_tokens)
                && price.holds(glob, served)
        };
        let (_, found) = self.ranked.iter().find(holds)?;
        let is_another = |(glob, price): &(Glob, Price)| {
            price.above_input_tokens > found.above_input_tokens
                && price.is_for_input(served.input_tokens)
                && (&price.model, &price.upstream) == (&found.model, &found.upstream)
                && price.holds(glob, served)
        };
        let is_covered = self.thresholds.is_empty() || !self.ranked.iter().any(is_another);
        is_covered.then_some(&found.rates)
    }

    /// The inputs above which a price is another, in their order: between two of them, one model has one price.
    pub fn thresholds(&self) -> &[u64] {
        &self.thresholds
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
        Price {
            model: model.to_owned(),
            upstream: upstream.map(str::to_owned),
            from: from.map(|from| from.parse().unwrap()),
            tier: None,
            above_input_tokens: None,
            rates: Rates {
                currency: Currency::parse("USD").unwrap(),
                input: rate,
                cached_input: rate,
                cache_write: rate,
                cache_write_1h: None,
                output: rate,
                tool_calls: Default::default(),
            },
        }
    }

    fn served<'a>(model: &'a str, upstream: Option<&'a str>, at: &str) -> Served<'a> {
        Served { model, upstream, at: at.parse().unwrap(), tier: None, input_tokens: 0 }
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
            let found = prices.find(&served(model, upstream, at)).unwrap();
            assert_eq!(found.input, Rate::parse(&expected.to_string()).unwrap(), "{model} {upstream:?} {at}");
        }
        assert_eq!(prices.changes().len(), 4);
        assert_eq!(prices.currencies().len(), 1);
    }

    #[test]
    fn without_a_price_there_is_none() {
        let prices = Prices::new([price("gpt*", Some("azure"), Some("2026-01-01T00:00:00Z"), 1)]);
        let has = |model, upstream, at: &str| prices.find(&served(model, upstream, at)).is_some();
        assert!(has("gpt", Some("azure"), "2026-01-01T00:00:00Z"));
        assert!(!has("gpt", Some("azure"), "2025-12-31T23:59:59Z"));
        assert!(!has("gpt", Some("openai"), "2026-01-01T00:00:00Z"));
        assert!(!has("gpt", None, "2026-01-01T00:00:00Z"));
        assert!(!has("claude", Some("azure"), "2026-01-01T00:00:00Z"));
        assert!(Prices::default().is_empty());
    }

    #[test]
    fn a_price_holds_for_its_tier_and_its_input() {
        let with = |tier: Option<&str>, above: Option<u64>, input: u64| Price {
            tier: tier.map(str::to_owned),
            above_input_tokens: above,
            ..price("gpt*", None, None, input)
        };
        let prices = Prices::new([
            with(None, None, 1),
            with(None, Some(200), 2),
            with(None, Some(1000), 3),
            with(Some("flex"), None, 4),
            with(Some("Priority"), None, 5),
            with(Some("priority"), Some(200), 6),
            price("*", None, None, 7),
        ]);
        for (tier, input_tokens, expected) in [
            (None, 200, Some(1)),
            (Some("default"), 0, Some(1)),
            (Some("ON_DEMAND"), 0, Some(1)),
            (Some("auto"), 0, Some(1)),
            (None, 201, Some(2)),
            (None, 1001, Some(3)),
            (Some("flex"), 200, Some(4)),
            (Some("FLEX"), 200, Some(4)),
            (Some("priority"), 200, Some(5)),
            (Some("priority"), 1000, Some(6)),
            // A long input costs more, and nobody said how much of this tier.
            (Some("flex"), 201, None),
            (Some("priority"), 1001, None),
            (Some("batch"), 0, None),
        ] {
            let served = Served { tier, input_tokens, ..served("gpt-x", None, "2026-01-01T00:00:00Z") };
            let expected = expected.map(|input: u64| Rate::parse(&input.to_string()).unwrap());
            assert_eq!(prices.find(&served).map(|rates| rates.input), expected, "{tier:?} {input_tokens}");
        }
        let other = Served { input_tokens: 5000, ..served("llama", None, "2026-01-01T00:00:00Z") };
        assert!(prices.find(&other).is_some(), "of other models nothing is known to cost more");
        assert_eq!(prices.thresholds(), [200, 1000]);
    }

    #[test]
    fn a_price_for_long_inputs_outlives_a_later_one_for_short_ones() {
        let long =
            Price { above_input_tokens: Some(200), ..price("gpt*", None, Some("2025-01-01T00:00:00Z"), 2) };
        let prices = Prices::new([long, price("gpt*", None, Some("2026-01-01T00:00:00Z"), 1)]);
        let find = |at, input_tokens| prices.find(&Served { input_tokens, ..served("gpt", None, at) });
        assert_eq!(find("2026-06-01T00:00:00Z", 201).unwrap().input, Rate::parse("2").unwrap());
        assert_eq!(find("2026-06-01T00:00:00Z", 200).unwrap().input, Rate::parse("1").unwrap());
        assert!(find("2025-06-01T00:00:00Z", 200).is_none());
    }
}
