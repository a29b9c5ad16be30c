//! The use of a request, and the part of it that a limit counts.

use super::Units;
use crate::llm::price::{Amount, Cost, Currency, TokenCounts};

/// The quantity that a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// Admitted requests.
    Requests,
    /// Thousandths of tokens.
    Tokens(Weights),
    /// The smallest amounts of a currency.
    Cost(Currency),
    /// Running requests.
    Concurrent,
}

/// The thousandths of a token that a token of each kind counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// Input and output as the service reported them.
    Reported,
    /// Each kind by its own weight.
    ByKind { input: u32, cached_input: u32, cache_write: u32, output: u32, reasoning: u32 },
}

/// Tokens by kind. Each token is in exactly one field, however the service reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Input that was neither read from a cache nor written into one.
    pub input: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    /// Output without reasoning.
    pub output: u64,
    pub reasoning: u64,
}

/// The use of a request, known or expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Use {
    pub requests: u64,
    /// The sum of input and output as the service reported them.
    pub reported: u64,
    pub kinds: Kinds,
    /// Empty if no limit counts cost.
    pub cost: Cost,
}

impl Use {
    #[inline(never)]
    fn in_currency(&self, currency: Currency) -> Units {
        Units(self.cost.amount(currency).unwrap_or_default().smallest())
    }

    /// The sum of two uses.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        let mut cost = self.cost;
        cost.add(&other.cost);
        Self {
            requests: self.requests.saturating_add(other.requests),
            reported: self.reported.saturating_add(other.reported),
            kinds: self.kinds.plus(&other.kinds),
            cost,
        }
    }
}

impl Quantity {
    /// The name of its unit in messages.
    pub fn unit(&self) -> String {
        match self {
            Self::Requests => "requests".to_owned(),
            Self::Tokens(_) => "tokens".to_owned(),
            Self::Cost(currency) => currency.to_string(),
            Self::Concurrent => "running requests".to_owned(),
        }
    }

    /// An amount in that unit, exact for a cost, else in whole numbers.
    pub fn text(&self, units: Units) -> String {
        match self {
            Self::Cost(_) => Amount::of_smallest(units.0).to_string(),
            _ => (units.0 / self.one().0).to_string(),
        }
    }

    /// One of that unit.
    pub fn one(&self) -> Units {
        match self {
            Self::Requests | Self::Concurrent => Units(1),
            Self::Tokens(_) => Units(u128::from(Weights::ONE)),
            Self::Cost(_) => Units(Amount::ONE.smallest()),
        }
    }

    /// The part of `used` that counts.
    #[inline]
    pub fn of(&self, used: &Use) -> Units {
        match self {
            Self::Requests => used.requests.into(),
            Self::Tokens(Weights::Reported) => Units(u128::from(used.reported) * u128::from(Weights::ONE)),
            Self::Tokens(weights) => weights.of(used),
            Self::Cost(currency) => used.in_currency(*currency),
            Self::Concurrent => Units::default(),
        }
    }

    /// Returns true if it depends on the kinds of tokens.
    pub fn counts_kinds(&self) -> bool {
        matches!(self, Self::Tokens(Weights::ByKind { .. }))
    }

    /// Returns true if a part of `used` has a cost that this quantity does not know.
    pub(super) fn is_unpriced(&self, used: &Use) -> bool {
        match self {
            Self::Cost(currency) => {
                used.cost.unpriced > 0 || used.cost.amounts().any(|(paid, _)| paid != *currency)
            }
            _ => false,
        }
    }

    /// The part of `expected` that is held while the request runs.
    #[inline]
    pub fn held_for(&self, expected: &Use) -> Units {
        if *self == Self::Concurrent { Units(1) } else { self.of(expected) }
    }
}

impl Weights {
    /// A whole token.
    pub const ONE: u32 = 1_000;

    #[inline(never)]
    fn of(&self, used: &Use) -> Units {
        match *self {
            Self::Reported => Units(u128::from(used.reported) * u128::from(Self::ONE)),
            Self::ByKind { input, cached_input, cache_write, output, reasoning } => {
                let kinds = &used.kinds;
                let parts = [
                    (kinds.input, input),
                    (kinds.cached_input, cached_input),
                    (kinds.cache_write, cache_write),
                    (kinds.output, output),
                    (kinds.reasoning, reasoning),
                ];
                let part = |(tokens, weight): (u64, u32)| Units(u128::from(tokens) * u128::from(weight));
                parts.into_iter().map(part).fold(Units::default(), Units::plus)
            }
        }
    }
}

impl Kinds {
    fn plus(self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }

    /// The kinds of reported counts. `reasoning` is the part of the output that is reasoning.
    pub fn new(counts: &TokenCounts, reasoning: u64) -> Self {
        let Some(billable) = counts.billable() else { return Self::default() };
        Self {
            input: billable.input,
            cached_input: billable.cached_input,
            cache_write: billable.cache_write.saturating_add(billable.cache_write_1h),
            output: billable.output.saturating_sub(reasoning),
            reasoning: reasoning.min(billable.output),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::llm::price::{Price, Prices, Rate, Rates, ServedBy};

    const WEIGHTS: Weights = Weights::ByKind {
        input: 1_000,
        cached_input: 100,
        cache_write: 1_250,
        output: 4_000,
        reasoning: 5_000,
    };

    fn kinds(counts: &TokenCounts, reasoning: u64) -> [u64; 5] {
        let kinds = Kinds::new(counts, reasoning);
        [kinds.input, kinds.cached_input, kinds.cache_write, kinds.output, kinds.reasoning]
    }

    #[test]
    fn kinds_do_not_overlap_whichever_way_a_service_reports() {
        let counts = TokenCounts {
            input: Some(100),
            cached_input: Some(60),
            cache_write: Some(10),
            output: Some(50),
            ..TokenCounts::default()
        };
        assert_eq!(kinds(&counts, 20), [30, 60, 10, 30, 20]);
        let apart = TokenCounts { cache_is_apart: true, ..counts };
        assert_eq!(kinds(&apart, 20), [100, 60, 10, 30, 20]);
        assert_eq!(kinds(&counts, 80), [30, 60, 10, 0, 50], "more reasoning than output");
        assert_eq!(kinds(&TokenCounts::default(), 0), [0; 5]);
    }

    #[test]
    fn each_kind_counts_by_its_weight() {
        let kinds = Kinds { input: 30, cached_input: 60, cache_write: 10, output: 30, reasoning: 20 };
        let used = Use { requests: 1, reported: 150, kinds, cost: Cost::default() };
        assert_eq!(Quantity::Tokens(Weights::Reported).of(&used), Units(150_000));
        assert_eq!(Quantity::Tokens(WEIGHTS).of(&used), Units(30_000 + 6_000 + 12_500 + 120_000 + 100_000));
        assert_eq!(Quantity::Requests.of(&used), Units(1));
    }

    #[test]
    fn running_request_is_one_and_leaves_nothing() {
        let used = Use { requests: 1, reported: 5, ..Use::default() };
        assert_eq!(Quantity::Concurrent.held_for(&used), Units(1));
        assert_eq!(Quantity::Concurrent.of(&used), Units(0));
    }

    #[test]
    fn cost_counts_in_its_own_currency_only() {
        let [usd, eur] = ["USD", "EUR"].map(|code| Currency::parse(code).unwrap());
        let rate = Rate::parse("2.5").unwrap();
        let prices = Prices::new([Price::new("m", Rates::new(usd, rate, rate))]);
        let counts = TokenCounts { input: Some(3), output: Some(1), ..TokenCounts::default() };
        let served =
            |model| ServedBy { model: Some(model), upstream: None, at: Timestamp::UNIX_EPOCH, tier: None };
        let priced = Use { cost: prices.cost(&counts, &served("m")), ..Use::default() };
        let used = priced.clone().plus(&priced);
        assert_eq!(Quantity::Cost(eur).of(&used), Units(0));
        assert_eq!(Quantity::Cost(usd).of(&used), Units(20_000_000));
        let unpriced = Use { cost: prices.cost(&counts, &served("other")), ..Use::default() };
        assert_eq!((Quantity::Cost(usd).of(&unpriced), unpriced.cost.unpriced), (Units(0), 1));
    }
}
