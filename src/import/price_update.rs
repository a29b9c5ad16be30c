//! The changes that a newer list of prices makes to those of a file.
//!
//! A price that has changed gets a successor from a day on, so that earlier requests keep their
//! costs.

use std::fmt::Write as _;

use jiff::civil::Date;

use crate::llm::price::{Price, Rate, Rates};
use crate::llm::usage::ToolKind;

/// The first lines of a file of prices.
const HEADER: &str = "\
# Prices of models, per million tokens. `streamgauge prices import` writes this file, and keeps no
# comments. `[[prices]]` of the configuration have priority over these.
";

/// The prices of a file after an update.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceUpdate {
    /// All prices, in the order of the file.
    pub prices: Vec<Price>,
    /// The differences from the earlier prices.
    pub changes: Vec<PriceChange>,
    /// The number of wanted prices that were there already.
    pub unchanged: usize,
}

/// A difference between the file and the list.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceChange {
    /// The earlier price. `None`: the file had none.
    pub before: Option<Rates>,
    /// The new price.
    pub price: Price,
}

impl PriceUpdate {
    /// Adds the wanted prices, which have no `from`, to those of the file. Those that differ from
    /// the price of `day` are valid from then on; those without one are always valid, unless another
    /// input of the same tier has a price already.
    pub fn new(mut prices: Vec<Price>, wanted: Vec<Price>, day: Date) -> Self {
        let ended = ended(&prices, &wanted);
        let earlier = prices.clone();
        let (mut changes, mut unchanged) = (Vec::new(), 0);
        for mut price in wanted.into_iter().chain(ended) {
            let latest = latest(&prices, &price, day);
            if latest.is_some_and(|latest| prices[latest].rates == price.rates) {
                unchanged += 1;
                continue;
            }
            let is_known = earlier.iter().any(|known| place(known) == place(&price));
            price.from = is_known.then_some(day);
            let before = latest.map(|latest| prices[latest].rates);
            changes.push(PriceChange { before, price: price.clone() });
            match latest.filter(|latest| prices[*latest].from == price.from) {
                Some(same_day) => prices[same_day] = price,
                None => prices.push(price),
            }
        }
        prices.sort_by(|a, b| order(a).cmp(&order(b)));
        Self { prices, changes, unchanged }
    }
}

/// The prices for long inputs that the list has no more: from now on, the price below applies.
fn ended(prices: &[Price], wanted: &[Price]) -> Vec<Price> {
    let mut ended: Vec<Price> = Vec::new();
    for price in prices.iter().filter(|price| price.above_input_tokens.is_some()) {
        let is_listed = |list: &[Price]| list.iter().any(|other| key(other) == key(price));
        let below = wanted.iter().filter(|other| {
            place(other) == place(price) && other.above_input_tokens < price.above_input_tokens
        });
        if let Some(below) = below.max_by_key(|other| other.above_input_tokens)
            && !is_listed(wanted)
            && !is_listed(&ended)
        {
            ended.push(Price { above_input_tokens: price.above_input_tokens, ..below.clone() });
        }
    }
    ended
}

/// The position of the price with the same key that is valid on `day`.
fn latest(prices: &[Price], price: &Price, day: Date) -> Option<usize> {
    let is_same = |known: &Price| key(known) == key(price) && known.from <= Some(day);
    let same = prices.iter().enumerate().filter(|(_, known)| is_same(known));
    same.max_by_key(|(_, known)| known.from).map(|(position, _)| position)
}

type Place<'a> = (Option<&'a str>, &'a str, Option<String>);

/// The requests of which a price is one, without their inputs.
fn place(price: &Price) -> Place<'_> {
    (price.upstream.as_deref(), &price.model, price.tier.as_deref().map(str::to_ascii_lowercase))
}

fn key(price: &Price) -> (Place<'_>, Option<u64>) {
    (place(price), price.above_input_tokens)
}

fn order(price: &Price) -> (Place<'_>, Option<u64>, Option<Date>) {
    (place(price), price.above_input_tokens, price.from)
}

/// The file with these prices.
pub fn prices_text(prices: &[Price]) -> String {
    prices.iter().fold(HEADER.to_owned(), |mut text, price| {
        // A string takes all that is written.
        let _ = write_price(&mut text, price);
        text
    })
}

fn write_price(text: &mut String, price: &Price) -> std::fmt::Result {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    writeln!(text, "\n[[prices]]\nmodel = {}", quoted(&price.model))?;
    if let Some(upstream) = &price.upstream {
        writeln!(text, "upstream = {}", quoted(upstream))?;
    }
    if let Some(from) = price.from {
        writeln!(text, "from = \"{from}\"")?;
    }
    if let Some(tier) = &price.tier {
        writeln!(text, "tier = {}", quoted(tier))?;
    }
    if let Some(tokens) = price.above_input_tokens {
        writeln!(text, "above_input_tokens = {tokens}")?;
    }
    for (name, rate) in parts(&price.rates) {
        writeln!(text, "{name} = {rate}")?;
    }
    let calls = calls(&price.rates).map(|(name, rate)| format!("{name} = {rate}"));
    let calls: Vec<_> = calls.collect();
    if !calls.is_empty() {
        writeln!(text, "tool_calls = {{ {} }}", calls.join(", "))?;
    }
    if price.rates.currency.as_str() != "USD" {
        writeln!(text, "currency = \"{}\"", price.rates.currency)?;
    }
    Ok(())
}

/// The rates of tokens that differ from their defaults, by the names of their keys.
fn parts(rates: &Rates) -> impl Iterator<Item = (&'static str, Rate)> {
    let unless_input = |rate: Rate| (rate != rates.input).then_some(rate);
    [
        ("input", Some(rates.input)),
        ("cached_input", unless_input(rates.cached_input)),
        ("cache_write", unless_input(rates.cache_write)),
        ("cache_write_1h", rates.cache_write_1h),
        ("output", Some(rates.output)),
    ]
    .into_iter()
    .filter_map(|(name, rate)| Some((name, rate?)))
}

fn calls(rates: &Rates) -> impl Iterator<Item = (&'static str, Rate)> + '_ {
    ToolKind::names().iter().zip(&rates.tool_calls).filter_map(|(name, rate)| Some((*name, (*rate)?)))
}

/// All rates by the names of their keys.
fn every_rate(rates: &Rates) -> Vec<(&'static str, Option<Rate>)> {
    let tokens = [
        ("input", Some(rates.input)),
        ("cached_input", Some(rates.cached_input)),
        ("cache_write", Some(rates.cache_write)),
        ("cache_write_1h", rates.cache_write_1h),
        ("output", Some(rates.output)),
    ];
    let calls = ToolKind::names().iter().copied().zip(rates.tool_calls);
    tokens.into_iter().chain(calls).collect()
}

fn shown(rate: Option<Rate>) -> String {
    rate.map_or_else(|| "none".to_owned(), |rate| rate.to_string())
}

impl std::fmt::Display for PriceChange {
    /// One line: `+ gpt-4.1 (openai, flex): input 1, output 4`, or `~ …: input 2 → 1 from 2026-12-01`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, price } = self;
        write!(f, "{} {}", if before.is_some() { '~' } else { '+' }, price.model)?;
        let above = price.above_input_tokens.map(|tokens| format!("above {tokens} tokens"));
        let scope: Vec<_> =
            [price.upstream.clone(), price.tier.clone(), above].into_iter().flatten().collect();
        if !scope.is_empty() {
            write!(f, " ({})", scope.join(", "))?;
        }
        let words: Vec<_> = match before {
            None => {
                let rates = parts(&price.rates).chain(calls(&price.rates));
                rates.map(|(name, rate)| format!("{name} {rate}")).collect()
            }
            Some(before) => {
                let pairs = every_rate(before).into_iter().zip(every_rate(&price.rates));
                let changed = pairs.filter(|((_, old), (_, new))| old != new);
                changed
                    .map(|((name, old), (_, new))| format!("{name} {} → {}", shown(old), shown(new)))
                    .collect()
            }
        };
        write!(f, ": {}", words.join(", "))?;
        match price.from {
            Some(from) => write!(f, " from {from}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
