//! `[[prices]]`: what a million tokens of some models cost, from some day on.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::notes::Read;
use super::reader::{Entry, Table, all};
use crate::price::{Currency, Price, Prices, Rate, Rates, is_standard};
use crate::usage::ToolKind;

/// What is paid in where nobody says: nearly every price list is in it.
const CURRENCY: &str = "USD";

/// The prices. `names` are those of the upstreams.
pub(super) fn prices(root: &Table<'_>, names: &[String]) -> Read<Prices> {
    let entries = root.optional("prices", Entry::items)?.unwrap_or_default();
    let mut known: Vec<Price> = Vec::new();
    let prices = all(entries.iter().map(|entry| {
        let price = entry.table(|table| price(table, names))?;
        let same = |known: &Price| {
            let key = |price: &Price| (price.model.clone(), price.upstream.clone(), price.from, price.above_input_tokens);
            let tier = |price: &Price| price.tier.as_deref().map(str::to_ascii_lowercase);
            key(known) == key(&price) && tier(known) == tier(&price)
        };
        if let Some(index) = known.iter().position(same) {
            let reason = format!(
                "is for the model, the upstream, the day, the tier and the input of prices[{index}]: keep one of them, or give the later one its `from`"
            );
            return Err(entry.mistake(reason));
        }
        known.push(price.clone());
        Ok(price)
    }))?;
    Ok(Prices::new(prices))
}

fn price(table: &Table<'_>, names: &[String]) -> Read<Price> {
    let model = table.required("model", "write a model or a pattern, such as \"gpt-4.1*\"", |entry| {
        entry.parse("text in quotes, such as \"gpt-4.1*\"", |text| match text {
            "" => Err("is empty: write \"*\" for every model".to_owned()),
            _ => Ok(text.to_owned()),
        })
    });
    let upstream = table.optional("upstream", |entry| {
        let name = entry.text()?;
        if !names.iter().any(|known| known == name) {
            entry.warning(&format!("there is no upstream {name:?} now: only older records can have it"));
        }
        Ok(name.to_owned())
    });
    let from = table.optional("from", day);
    let tier = table.optional("tier", |entry| {
        entry.text().map(|tier| Some(tier.to_owned()).filter(|tier| !is_standard(tier)))
    });
    let above_input_tokens =
        table.optional("above_input_tokens", |entry| entry.integer().map(|tokens| tokens as u64));
    let currency = table.optional("currency", |entry| {
        entry.parse("a currency in quotes, such as \"USD\"", |text| {
            Currency::parse(text).ok_or_else(|| {
                format!("{text:?} is no currency code: write three capital letters, such as \"USD\"")
            })
        })
    });
    let input = table.required("input", "write what a million tokens of input cost, such as 2.50", rate);
    let cached_input = table.optional("cached_input", rate);
    let cache_write = table.optional("cache_write", rate);
    let cache_write_1h = table.optional("cache_write_1h", rate);
    let tool_calls = table.optional("tool_calls", calls);
    let missing = "write what a million tokens of output cost, such as 10.00; 0 where there is none";
    let output = table.required("output", missing, rate);
    let (input, currency) = (input?, currency?);
    let rates = Rates {
        currency: currency.or_else(|| Currency::parse(CURRENCY)).expect("it has three capital letters"),
        input,
        cached_input: cached_input?.unwrap_or(input),
        cache_write: cache_write?.unwrap_or(input),
        cache_write_1h: cache_write_1h?,
        output: output?,
        tool_calls: tool_calls?.unwrap_or_default(),
    };
    Ok(Price {
        model: model?,
        upstream: upstream?,
        from: from?,
        tier: tier?.flatten(),
        above_input_tokens: above_input_tokens?,
        rates,
    })
}

/// What a thousand calls cost, by kind.
fn calls(entry: &Entry<'_>) -> Read<[Option<Rate>; ToolKind::COUNT]> {
    let rates = all(entry.names()?.into_iter().map(|(name, entry)| {
        let Some(kind) = ToolKind::from_name(&name) else {
            let known = ToolKind::names().join(", ");
            return Err(entry.mistake(format!("is no kind of call that is counted: write one of {known}")));
        };
        let rate = Rate::parse(&entry.decimal("a price without quotes, such as 10.00")?);
        Ok((
            kind,
            rate.map_err(|reason| entry.mistake(reason.replace("a million tokens", "a thousand calls")))?,
        ))
    }))?;
    let mut by_kind = [None; ToolKind::COUNT];
    rates.into_iter().for_each(|(kind, rate)| by_kind[kind as usize] = Some(rate));
    Ok(by_kind)
}

fn rate(entry: &Entry<'_>) -> Read<Rate> {
    Rate::parse(&entry.decimal("a price without quotes, such as 2.50")?)
        .map_err(|reason| entry.mistake(reason))
}

/// The beginning of a day, in UTC as all days of the ledger.
fn day(entry: &Entry<'_>) -> Read<Timestamp> {
    let text = entry.date("a day, such as \"2026-01-01\"")?;
    let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
    let start = day.and_then(|day| day.to_zoned(TimeZone::UTC).ok()).map(|day| day.timestamp());
    start.ok_or_else(|| entry.mistake(format!("{text:?} is no day: write one such as \"2026-01-01\"")))
}
