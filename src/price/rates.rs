//! What is asked for tokens of each kind, and how many of each kind a request has.

use super::amount::{Amount, Currency};
use crate::usage::{ToolCalls, ToolKind};

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

/// What is asked for a million tokens of each kind, and for a thousand calls of each tool.
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
    /// Input that was written into it for an hour; `None`: not known.
    pub cache_write_1h: Option<Rate>,
    /// Output, reasoning included.
    pub output: Rate,
    /// A thousand calls, by [`ToolKind`]; `None`: not known.
    pub tool_calls: [Option<Rate>; ToolKind::COUNT],
}

/// A rate for a thousand calls, as one for a million tokens.
const CALLS: u64 = 1_000;

impl Rates {
    /// What these cost; `None` where there is something among them whose price is not known. It is linear: the cost of a sum
    /// is the sum of the costs.
    pub fn amount(&self, used: &Billable) -> Option<Amount> {
        let mut sum = [
            self.input.of(used.input),
            self.cached_input.of(used.cached_input),
            self.cache_write.of(used.cache_write),
            self.output.of(used.output),
        ]
        .into_iter()
        .fold(0, u128::saturating_add);
        if used.cache_write_1h > 0 {
            sum = sum.saturating_add(self.cache_write_1h?.of(used.cache_write_1h));
        }
        for (rate, calls) in self.tool_calls.iter().zip(used.tool_calls).filter(|(_, calls)| *calls > 0) {
            sum = sum.saturating_add((*rate)?.of(calls.saturating_mul(CALLS)));
        }
        Some(Amount::new(sum))
    }
}

/// What is paid for: no token is in two of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billable {
    /// Input at the full price.
    pub input: u64,
    /// Input that was read from a cache.
    pub cached_input: u64,
    /// Input that was written into a cache, for less than an hour.
    pub cache_write: u64,
    /// Input that was written into a cache for an hour.
    pub cache_write_1h: u64,
    /// Output.
    pub output: u64,
    /// Calls of the service's tools, by [`ToolKind`].
    pub tool_calls: [u64; ToolKind::COUNT],
}

/// The counts of one request, as they were reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// `input_tokens`.
    pub input: Option<u64>,
    /// `cached_input_tokens`.
    pub cached_input: Option<u64>,
    /// `cache_write_input_tokens`, those of an hour included.
    pub cache_write: Option<u64>,
    /// `cache_write_1h_input_tokens`.
    pub cache_write_1h: Option<u64>,
    /// `output_tokens`.
    pub output: Option<u64>,
    /// `tool_calls`.
    pub tool_calls: Option<ToolCalls>,
    /// `input` leaves out what came from a cache or went into one ([`INPUT_WITHOUT_CACHE`]).
    pub cache_is_apart: bool,
}

/// The endpoint whose `input_tokens` leave out what came from a cache or went into one, as Anthropic's do
/// (docs.anthropic.com, prompt caching). In all other shapes they include it.
pub const INPUT_WITHOUT_CACHE: &str = "messages";

impl Counts {
    /// All of the input: by it a price for long contexts holds or does not.
    pub fn whole_input(&self) -> u64 {
        let apart = if self.cache_is_apart { self.cached().saturating_add(self.written()) } else { 0 };
        self.input.unwrap_or_default().saturating_add(apart)
    }

    fn cached(&self) -> u64 {
        self.cached_input.unwrap_or_default()
    }

    /// Writes of an hour are a part of all writes; a service that reports more of them reports no others.
    fn written(&self) -> u64 {
        self.cache_write.unwrap_or_default().max(self.cache_write_1h.unwrap_or_default())
    }

    /// What is paid for; `None` where nothing was counted.
    ///
    /// Where the cache is not apart, its tokens are taken out of the input; where more of them are reported than input, as some
    /// services do, none is left at the full price.
    pub fn billable(&self) -> Option<Billable> {
        let calls = self.tool_calls.filter(|calls| !calls.is_empty());
        if self.input.is_none() && self.output.is_none() && calls.is_none() {
            return None;
        }
        let (cached_input, written) = (self.cached(), self.written());
        let apart = if self.cache_is_apart { 0 } else { cached_input.saturating_add(written) };
        let cache_write_1h = self.cache_write_1h.unwrap_or_default();
        Some(Billable {
            input: self.input.unwrap_or_default().saturating_sub(apart),
            cached_input,
            cache_write: written - cache_write_1h,
            cache_write_1h,
            output: self.output.unwrap_or_default(),
            tool_calls: calls.map(|calls| calls.counts().map(u64::from)).unwrap_or_default(),
        })
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
            cache_write_1h: None,
            output: rate("8"),
            tool_calls: [None; ToolKind::COUNT],
        }
    }

    fn cost(billable: Option<Billable>) -> String {
        rates().amount(&billable.unwrap()).unwrap().to_string()
    }

    fn billable(
        input: Option<u64>,
        cached_input: Option<u64>,
        cache_write: Option<u64>,
        output: Option<u64>,
        cache_is_apart: bool,
    ) -> Option<Billable> {
        Counts { input, cached_input, cache_write, output, cache_is_apart, ..Counts::default() }.billable()
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
        let openai = billable(Some(1000), Some(600), Some(100), Some(50), false);
        assert_eq!(
            openai,
            Some(Billable {
                input: 300,
                cached_input: 600,
                cache_write: 100,
                output: 50,
                ..Billable::default()
            })
        );
        assert_eq!(cost(openai), "0.00155");
        // The same request as Anthropic counts it.
        assert_eq!(billable(Some(300), Some(600), Some(100), Some(50), true), openai);
        assert_eq!(
            billable(Some(300), None, None, Some(50), true),
            billable(Some(300), None, None, Some(50), false)
        );
    }

    #[test]
    fn more_cached_input_than_input_leaves_none_at_the_full_price() {
        let grok = billable(Some(235), Some(373), None, Some(1), false);
        assert_eq!(grok, Some(Billable { cached_input: 373, output: 1, ..Billable::default() }));
        let end = billable(Some(1), Some(u64::MAX), Some(u64::MAX), None, false);
        assert_eq!(end.unwrap().input, 0);
    }

    #[test]
    fn without_counts_there_is_no_cost_and_0_costs_0() {
        assert_eq!(billable(None, Some(1), Some(1), None, false), None);
        assert_eq!(cost(billable(Some(0), None, None, None, false)), "0");
        assert_eq!(cost(billable(None, None, None, Some(1), false)), "0.000008");
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
                ..Billable::default()
            };
            cost = cost.plus(rates().amount(&part).unwrap());
            sum = Billable {
                input: sum.input + part.input,
                cached_input: sum.cached_input + part.cached_input,
                cache_write: sum.cache_write + part.cache_write,
                output: sum.output + part.output,
                ..Billable::default()
            };
        }
        assert_eq!(rates().amount(&sum), Some(cost));
        let end = Billable { input: u64::MAX, output: u64::MAX, ..Billable::default() };
        assert!(rates().amount(&end).unwrap() > cost, "no overflow");
    }

    #[test]
    fn what_has_no_rate_has_no_cost() {
        let counts = Counts {
            input: Some(1_000),
            cache_write: Some(500),
            cache_write_1h: Some(200),
            output: Some(10),
            tool_calls: Some(ToolCalls::of(ToolKind::WebSearch, 3)),
            cache_is_apart: true,
            ..Counts::default()
        };
        let used = counts.billable().unwrap();
        assert_eq!((used.cache_write, used.cache_write_1h, counts.whole_input()), (300, 200, 1_500));
        let mut rates = rates();
        assert_eq!(rates.amount(&used), None);
        rates.cache_write_1h = Some(rate("4"));
        assert_eq!(rates.amount(&used), None);
        rates.tool_calls[ToolKind::WebSearch as usize] = Some(rate("10"));
        // 1000 x 2.00 + 300 x 2.50 + 200 x 4.00 + 10 x 8.00, of a million each, and 3 x 10.00 of a thousand.
        assert_eq!(rates.amount(&used).unwrap().to_string(), "0.03363");
        let none = Counts { tool_calls: None, cache_write_1h: Some(0), ..counts };
        assert!(self::rates().amount(&none.billable().unwrap()).is_some(), "0 of an hour cost nothing");
    }

    #[test]
    fn calls_are_paid_for_without_tokens_too() {
        let counts =
            Counts { tool_calls: Some(ToolCalls::of(ToolKind::SearchUnits, 2)), ..Counts::default() };
        let mut rates = rates();
        rates.tool_calls[ToolKind::SearchUnits as usize] = Some(rate("2"));
        assert_eq!(rates.amount(&counts.billable().unwrap()).unwrap().to_string(), "0.004");
        let none = Counts { tool_calls: Some(ToolCalls::default()), ..Counts::default() };
        assert_eq!(none.billable(), None);
    }

    #[test]
    fn more_writes_of_an_hour_than_writes_are_all_of_them() {
        let counts = Counts { input: Some(10), cache_write_1h: Some(4), ..Counts::default() };
        let used = counts.billable().unwrap();
        assert_eq!((used.input, used.cache_write, used.cache_write_1h), (6, 0, 4));
    }
}
