//! What is asked for tokens of each kind, and how many of each kind a request has.

use super::amount::{Amount, Currency};

/// A price of a million tokens, to six decimals. Not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// The decimals that a rate has.
const DECIMALS: usize = 6;

/// More than this for a million tokens is a slip of the pen, in every currency.
const MOST: u64 = 1_000_000_000;

impl Rate {
    /// A decimal number without a sign and an exponent.
    ///
    /// # Errors
    /// Why it is no rate, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(format!("{text} is no price of a million tokens: write one such as 2.50"));
        }
        if fraction.len() > DECIMALS {
            return Err(format!("{text} has more than {DECIMALS} decimals"));
        }
        let whole: u64 = whole
            .parse()
            .ok()
            .filter(|whole| *whole <= MOST)
            .ok_or_else(|| format!("{text} is more than {MOST} for a million tokens"))?;
        let fraction: u64 = format!("{fraction:0<DECIMALS$}").parse().unwrap_or(0);
        Ok(Self(whole * 10_u64.pow(DECIMALS as u32) + fraction))
    }

    /// What so many tokens cost.
    fn of(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

/// What is asked for a million tokens of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// What it is paid in.
    pub currency: Currency,
    /// Input that came from no cache and went into none.
    pub input: Rate,
    /// Input that came from the upstream's cache.
    pub cached_input: Rate,
    /// Input that was written into it.
    pub cache_write: Rate,
    /// Output, reasoning included.
    pub output: Rate,
}

impl Rates {
    /// What these tokens cost. It is linear: the cost of a sum is the sum of the costs.
    pub fn amount(&self, tokens: &Billable) -> Amount {
        let parts = [
            self.input.of(tokens.input),
            self.cached_input.of(tokens.cached_input),
            self.cache_write.of(tokens.cache_write),
            self.output.of(tokens.output),
        ];
        Amount::new(parts.into_iter().fold(0, u128::saturating_add))
    }
}

/// Tokens by what they cost: no token is in two of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billable {
    /// Input at the full price.
    pub input: u64,
    /// Input that was read from a cache.
    pub cached_input: u64,
    /// Input that was written into a cache.
    pub cache_write: u64,
    /// Output.
    pub output: u64,
}

/// The endpoint whose `input_tokens` leave out what came from a cache or went into one, as Anthropic's do
/// (docs.anthropic.com, prompt caching). In all other shapes they include it.
pub const INPUT_WITHOUT_CACHE: &str = "messages";

impl Billable {
    /// The tokens of one request, from its counts as they were reported; `None` where there are no counts.
    ///
    /// `cache_is_apart`: `input` leaves out what came from a cache or went into one ([`INPUT_WITHOUT_CACHE`]). Else those are
    /// taken out of it; where more of them are reported than input, as some services do, none is left at the full price.
    pub fn new(
        input: Option<u64>,
        cached_input: Option<u64>,
        cache_write: Option<u64>,
        output: Option<u64>,
        cache_is_apart: bool,
    ) -> Option<Self> {
        input.or(output)?;
        let [input, cached_input, cache_write, output] =
            [input, cached_input, cache_write, output].map(Option::unwrap_or_default);
        let apart = if cache_is_apart { 0 } else { cached_input.saturating_add(cache_write) };
        Some(Self { input: input.saturating_sub(apart), cached_input, cache_write, output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        Rate::parse(text).unwrap_or_else(|reason| panic!("{reason}"))
    }

    fn rates() -> Rates {
        Rates {
            currency: Currency::parse("USD").unwrap(),
            input: rate("2.00"),
            cached_input: rate("0.5"),
            cache_write: rate("2.5"),
            output: rate("8"),
        }
    }

    fn cost(billable: Option<Billable>) -> String {
        rates().amount(&billable.unwrap()).to_string()
    }

    #[test]
    fn a_rate_is_read_exactly() {
        assert_eq!(rate("2"), Rate(2_000_000));
        assert_eq!(rate("0.075"), Rate(75_000));
        assert_eq!(rate("0.000001"), Rate(1));
        assert_eq!(rate("1000000000"), Rate(MOST * 1_000_000));
        for (text, reason) in [
            ("", "is no price"),
            ("-1", "is no price"),
            ("1e3", "is no price"),
            ("NaN", "is no price"),
            (".5", "is no price"),
            ("0.0000001", "decimals"),
            ("1000000001", "more than"),
            ("99999999999999999999999", "more than"),
        ] {
            let error = Rate::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn cached_input_is_a_part_of_the_input_but_for_anthropic() {
        // 1000 tokens in, of which 600 from the cache and 100 into it; 50 out.
        let openai = Billable::new(Some(1000), Some(600), Some(100), Some(50), false);
        assert_eq!(openai, Some(Billable { input: 300, cached_input: 600, cache_write: 100, output: 50 }));
        assert_eq!(cost(openai), "0.00155");
        // The same request as Anthropic counts it.
        assert_eq!(Billable::new(Some(300), Some(600), Some(100), Some(50), true), openai);
        assert_eq!(
            Billable::new(Some(300), None, None, Some(50), true),
            Billable::new(Some(300), None, None, Some(50), false)
        );
    }

    #[test]
    fn more_cached_input_than_input_leaves_none_at_the_full_price() {
        let grok = Billable::new(Some(235), Some(373), None, Some(1), false);
        assert_eq!(grok, Some(Billable { input: 0, cached_input: 373, cache_write: 0, output: 1 }));
        let end = Billable::new(Some(1), Some(u64::MAX), Some(u64::MAX), None, false);
        assert_eq!(end.unwrap().input, 0);
    }

    #[test]
    fn without_counts_there_is_no_cost_and_0_costs_0() {
        assert_eq!(Billable::new(None, Some(1), Some(1), None, false), None);
        assert_eq!(cost(Billable::new(Some(0), None, None, None, false)), "0");
        assert_eq!(cost(Billable::new(None, None, None, Some(1), false)), "0.000008");
    }

    #[test]
    fn the_cost_of_a_sum_is_the_sum_of_the_costs() {
        let mut sum = Billable::default();
        let mut cost = Amount::default();
        for number in 0..1000_u64 {
            let part = Billable {
                input: number * 7,
                cached_input: number % 13,
                cache_write: number % 3,
                output: number,
            };
            cost = cost.plus(rates().amount(&part));
            sum = Billable {
                input: sum.input + part.input,
                cached_input: sum.cached_input + part.cached_input,
                cache_write: sum.cache_write + part.cache_write,
                output: sum.output + part.output,
            };
        }
        assert_eq!(rates().amount(&sum), cost);
        let end = Billable { input: u64::MAX, output: u64::MAX, ..Billable::default() };
        assert!(rates().amount(&end) > cost, "no overflow");
    }
}
