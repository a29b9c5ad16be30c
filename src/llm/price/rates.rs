//! Rates of tokens by kind, and the billable tokens of a request by kind.

use std::fmt;

use super::amount::{Amount, Currency};
use crate::llm::usage::{ToolCalls, ToolKind, Usage};

/// A price of a million tokens, not negative, with six decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// The number of decimals of a rate.
const DECIMALS: usize = 6;

/// The highest price of a million tokens. A higher one is a typing error in any currency.
const MOST: u64 = 1_000_000_000;

impl Rate {
    /// Parses a decimal number without a sign or an exponent.
    ///
    /// # Errors
    /// Returns a message for the author of the configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(format!("{text} is not a price of a million tokens: write one such as 2.50"));
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

    /// Half of the price, rounded up.
    pub fn half(self) -> Self {
        Self(self.0.div_ceil(2))
    }

    /// The cost of this number of tokens.
    fn of(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

impl fmt::Display for Rate {
    /// Prints all decimals up to the last one that is not 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u64.pow(DECIMALS as u32);
        let text = format!("{}.{:0DECIMALS$}", self.0 / unit, self.0 % unit);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The price of a million tokens of each kind, and of a thousand calls of each tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// The currency.
    pub currency: Currency,
    /// Input that was neither read from a cache nor written into one.
    pub input: Rate,
    /// Input that was read from the upstream's cache.
    pub cached_input: Rate,
    /// Input that was written into the cache.
    pub cache_write: Rate,
    /// Input that was written into the cache for an hour. `None`: not known.
    pub cache_write_1h: Option<Rate>,
    /// Output, including reasoning.
    pub output: Rate,
    /// A thousand calls, by [`ToolKind`]. `None`: not known.
    pub tool_calls: [Option<Rate>; ToolKind::COUNT],
}

/// The factor of calls in [`Rate::of`]: their rates are per thousand, not per million.
const CALLS: u64 = 1_000;

impl Rates {
    /// Rates with the given prices of input and output: cached input costs the same.
    pub fn new(currency: Currency, input: Rate, output: Rate) -> Self {
        Self {
            currency,
            input,
            cached_input: input,
            cache_write: input,
            cache_write_1h: None,
            output,
            tool_calls: Default::default(),
        }
    }

    /// The cost. `None` if a part of the tokens or calls has no known price. The function is
    /// linear: the cost of a sum is the sum of the costs.
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

impl Rates {
    /// The difference to the cost of these tokens if none had been read from a cache; 0 if cached
    /// input is not cheaper.
    pub fn saving(&self, cached_input: u64) -> Amount {
        Amount::new(self.input.of(cached_input).saturating_sub(self.cached_input.of(cached_input)))
    }
}

/// Billable tokens and calls. Each token is in exactly one field.
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

impl Billable {
    /// The sum of both.
    pub fn plus(self, other: &Self) -> Self {
        let mut tool_calls = self.tool_calls;
        for (calls, more) in tool_calls.iter_mut().zip(other.tool_calls) {
            *calls = calls.saturating_add(more);
        }
        Self {
            input: self.input.saturating_add(other.input),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            output: self.output.saturating_add(other.output),
            tool_calls,
        }
    }
}

/// The reported counts of one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenCounts {
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
    /// `input` excludes tokens read from a cache or written into one ([`INPUT_WITHOUT_CACHE`]).
    pub cache_is_apart: bool,
}

/// The endpoint whose `input_tokens` exclude tokens read from a cache or written into one, as
/// Anthropic's do (docs.anthropic.com, prompt caching). All other endpoints include them.
pub const INPUT_WITHOUT_CACHE: &str = "messages";

impl TokenCounts {
    /// The counts of a response at this endpoint.
    pub fn new(usage: &Usage, tool_calls: Option<ToolCalls>, endpoint: Option<&str>) -> Self {
        Self {
            input: usage.input_tokens,
            cached_input: usage.cached_input_tokens,
            cache_write: usage.cache_write_input_tokens,
            cache_write_1h: usage.cache_write_1h_input_tokens,
            output: usage.output_tokens,
            tool_calls,
            cache_is_apart: endpoint == Some(INPUT_WITHOUT_CACHE),
        }
    }

    /// The whole input, to which the thresholds of prices for long contexts apply.
    pub fn whole_input(&self) -> u64 {
        let apart = if self.cache_is_apart { self.cached().saturating_add(self.written()) } else { 0 };
        self.input.unwrap_or_default().saturating_add(apart)
    }

    fn cached(&self) -> u64 {
        self.cached_input.unwrap_or_default()
    }

    /// All cache writes, including those of an hour. If a service reports more writes of an hour
    /// than writes, it reports only these.
    fn written(&self) -> u64 {
        self.cache_write.unwrap_or_default().max(self.cache_write_1h.unwrap_or_default())
    }

    /// The billable tokens and calls. `None` if nothing was counted.
    ///
    /// Cached tokens are subtracted from the input unless it excludes them. If a service reports
    /// more cached tokens than input, the full price applies to none.
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
mod tests;
