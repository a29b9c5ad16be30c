//! `[[prices]]`: the costs of tokens and calls of some models, from a day on.

use std::path::Path;

use jiff::civil::Date;

use super::kind::{Kind, Shape, integer, parsed, text};
use super::notes::Read;
use super::reader::{Entry, Table, all};
use crate::llm::price::{Currency, Price, Prices, Rate, Rates, is_standard};
use crate::llm::usage::ToolKind;

/// The prices, with those of the file. `names` are those of the upstreams.
pub(super) fn prices(root: &Table<'_>, names: &[String], file: Option<&Path>) -> Read<Prices> {
    let (own, stored) = (list(root, names), stored(root, file, names));
    Ok(Prices::new(own?.into_iter().chain(stored?)))
}

/// The prices of the file that `ledger.prices_file` names.
pub(super) fn stored(root: &Table<'_>, file: Option<&Path>, names: &[String]) -> Read<Vec<Price>> {
    match (file, root.at(&["ledger", "prices_file"])) {
        (Some(file), Some(entry)) => entry.stored_prices(file, names),
        _ => Ok(Vec::new()),
    }
}

/// The `[[prices]]` of a file.
pub(super) fn list(root: &Table<'_>, names: &[String]) -> Read<Vec<Price>> {
    let mut known: Vec<Price> = Vec::new();
    all(root.tables("prices")?.iter().map(|entry| {
        let price = entry.table(|table| price(table, names))?;
        let same = |known: &Price| {
            let key = |price: &Price| (price.model.clone(), price.upstream.clone(), price.from, price.above_input_tokens);
            let tier = |price: &Price| price.tier.as_deref().map(str::to_ascii_lowercase);
            key(known) == key(&price) && tier(known) == tier(&price)
        };
        if let Some(index) = known.iter().position(same) {
            let reason = format!(
                "is for the model, the upstream, the day, the tier and the input of prices[{index}]: keep one of them, or give the later one a `from`"
            );
            return Err(entry.mistake(reason));
        }
        known.push(price.clone());
        Ok(price)
    }))
}

fn price(table: &Table<'_>, names: &[String]) -> Read<Price> {
    let model = |text: &str| match text {
        "" => Err("is empty: write \"*\" for every model".to_owned()),
        _ => Ok(text.to_owned()),
    };
    let model = parsed("model pattern", Some("^.+$"), "text in quotes, such as \"gpt-4.1*\"", model);
    let upstream = text().then(|entry, name| {
        if !names.contains(&name) {
            entry.warning(&format!("there is no upstream {name:?} now: only older records can have it"));
        }
        Ok(name)
    });
    let tier = text().then(|_, tier| Ok(Some(tier).filter(|tier| !is_standard(tier))));
    read_all!(Price {
        model: table.required("model", "write a model or a pattern, such as \"gpt-4.1*\"", model),
        upstream: table.optional("upstream", upstream),
        from: table.optional("from", day()),
        tier: table.optional("tier", tier).map(Option::flatten),
        above_input_tokens: table
            .optional("above_input_tokens", integer().then(|_, tokens| Ok(tokens as u64))),
        rates: rates(table),
        is_imported: Ok(false),
    })
}

fn rates(table: &Table<'_>) -> Read<Rates> {
    let currency = |text: &str| {
        Currency::parse(text).ok_or_else(|| {
            format!("{text:?} is not a currency code: write three capital letters, such as \"USD\"")
        })
    };
    let currency =
        parsed("currency code", Some("^[A-Z]{3}$"), "a currency in quotes, such as \"USD\"", currency);
    let plain = table.required("input", "write what a million tokens of input cost, such as 2.50", rate());
    let like_input = |rate: Read<Option<Rate>>| Ok(rate?.unwrap_or(plain?));
    read_all!(Rates {
        currency: table.or_default("currency", currency.default("USD")),
        input: plain,
        cached_input: like_input(table.optional("cached_input", rate())),
        cache_write: like_input(table.optional("cache_write", rate())),
        cache_write_1h: table.optional("cache_write_1h", rate()),
        output: table.required("output", NO_OUTPUT, rate()),
        tool_calls: tool_calls(table),
    })
}

const NO_OUTPUT: &str = "write what a million tokens of output cost, such as 10.00; 0 where there is none";

/// The cost of a thousand calls, by kind of tool.
fn tool_calls(table: &Table<'_>) -> Read<[Option<Rate>; ToolKind::COUNT]> {
    let pattern = format!("^({})$", ToolKind::names().join("|"));
    let mut by_kind = [None; ToolKind::COUNT];
    all(table.names("tool_calls", Some(pattern), Shape::Number(None))?.into_iter().map(|(name, entry)| {
        let Some(kind) = ToolKind::from_name(&name) else {
            let known = ToolKind::names().join(", ");
            return Err(entry.mistake(format!("is not a kind of call that is counted: write one of {known}")));
        };
        let rate = Rate::parse(&entry.decimal("a price without quotes, such as 10.00")?);
        by_kind[kind as usize] = Some(
            rate.map_err(|reason| entry.mistake(reason.replace("a million tokens", "a thousand calls")))?,
        );
        Ok(())
    }))?;
    Ok(by_kind)
}

/// The cost of a million tokens.
fn rate() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Rate>> {
    Kind::new(Shape::Number(None), |entry: &Entry<'_>| {
        Rate::parse(&entry.decimal("a price without quotes, such as 2.50")?)
            .map_err(|reason| entry.mistake(reason))
    })
}

/// A day of `ledger.time_zone`.
fn day() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Date>> {
    let shape = Shape::Text("day", Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}$"));
    Kind::new(shape, |entry: &Entry<'_>| {
        let text = entry.date("a day, such as \"2026-01-01\"")?;
        let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
        day.ok_or_else(|| entry.mistake(format!("{text:?} is not a day: write for example \"2026-01-01\"")))
    })
}
