//! `limits` of a client or a team.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::super::groups::unknown;
use super::{Entry, Kind, Read, Shape, Table, all, choice, parsed, text};
use crate::gate::limit::{
    AtLimit, BucketRate, Calendar, LimitBound, LimitFilter, LimitSpec, Quantity, Units, Weights,
};
use crate::llm::route::Glob;
use crate::support::calendar::Period;

/// The forms of a limit, for messages.
const FORMS: &str = "write one of requests = 600, tokens = \"200k\" or concurrent = 20";

/// The largest number in a limit. A larger one limits nothing.
const MOST: u64 = 1_000_000_000_000;

const SECOND: u64 = 1_000_000_000;

/// The time that a limit is for.
#[derive(Clone, Copy)]
enum Per {
    /// A rate, in nanoseconds.
    Rate(u64),
    /// A period of the calendar.
    Calendar(Period),
}

const PER: &[(&str, Per)] = &[
    ("second", Per::Rate(SECOND)),
    ("minute", Per::Rate(60 * SECOND)),
    ("hour", Per::Rate(3_600 * SECOND)),
    ("day", Per::Calendar(Period::Day)),
    ("week", Per::Calendar(Period::Week)),
    ("month", Per::Calendar(Period::Month)),
];

const AT_LIMIT: &[(&str, AtLimit)] =
    &[("refuse", AtLimit::Refuse), ("cut", AtLimit::Cut), ("warn", AtLimit::Warn)];

/// The input of limits from other sections.
pub(in crate::config) struct LimitContext<'a> {
    /// The zone of periods.
    pub(in crate::config) zone: &'a TimeZone,
    /// The names of `[upstreams]`, also of invalid ones.
    pub(in crate::config) upstreams: &'a [String],
    /// Those of `[groups]`.
    pub(in crate::config) groups: &'a [String],
}

/// The limits of a table, in the order of the file.
pub(super) fn limits(table: &Table<'_>, context: &LimitContext<'_>) -> Read<Vec<LimitSpec>> {
    let Some(entry) = table.entry("limits", Shape::List(Box::new(Shape::Table))) else {
        return Ok(Vec::new());
    };
    let items = entry.array("a list of limits, such as [{ requests = 600, per = \"minute\" }]")?;
    all(items.iter().map(|item| item.table(|table| limit(table, context))))
}

fn limit(table: &Table<'_>, context: &LimitContext<'_>) -> Read<LimitSpec> {
    let found = [
        ("requests", table.optional("requests", amount())),
        ("tokens", table.optional("tokens", amount())),
        ("concurrent", table.optional("concurrent", amount())),
    ];
    let per = table.optional("per", choice(PER));
    let burst = table.optional("burst", amount());
    let at_limit = table.or_default("at_limit", choice(AT_LIMIT).default("refuse"));
    let filter = filter(table, context);
    let weights = weights(table);
    let present: Vec<_> = found.iter().filter(|(_, found)| !matches!(found, Ok(None))).collect();
    let (name, amount) = match present[..] {
        [(name, Ok(Some(amount)))] => (*name, *amount),
        [(_, Err(noted))] => return Err(*noted),
        [] => return Err(table.mistake("requests", format!("is missing; {FORMS}"))),
        [(first, _), (second, _), ..] => {
            let reason = format!("is beside {first}: write a limit for each");
            return Err(table.mistake(second, reason));
        }
        _ => unreachable!("a key that is missing was left out"),
    };
    let (per, burst, at_limit, filter, weights) = (per?, burst?, at_limit?, filter?, weights?);
    if at_limit == AtLimit::Cut && matches!(name, "requests" | "concurrent") {
        let reason = format!(
            "is \"cut\", which ends responses whose tokens exceed the limit, and {name} counts none: write \"refuse\", or limit tokens"
        );
        return Err(table.mistake("at_limit", reason));
    }
    if weights.is_some() && name != "tokens" {
        return Err(table.mistake("count", format!("weighs tokens, and the limit counts {name}: remove it")));
    }
    if name == "concurrent" {
        let present = [("per", per.is_some()), ("burst", burst.is_some())];
        if let Some((key, _)) = present.iter().find(|(_, is_present)| *is_present) {
            let reason = "is for use in a time, and concurrent bounds running requests: remove it";
            return Err(table.mistake(key, reason));
        }
        let bound = LimitBound::Concurrent(amount.into());
        return Ok(LimitSpec { quantity: Quantity::Concurrent, bound, at_limit, filter });
    }
    let Some(per) = per else {
        let reason =
            "is missing: write per = \"second\", \"minute\", \"hour\", \"day\", \"week\" or \"month\"";
        return Err(table.mistake("per", reason));
    };
    let quantity = match name {
        "tokens" => Quantity::Tokens(weights.unwrap_or(Weights::Reported)),
        _ => Quantity::Requests,
    };
    let units = |amount: u64| match quantity {
        Quantity::Tokens(_) => Units(u128::from(amount) * u128::from(Weights::ONE)),
        _ => amount.into(),
    };
    let limit = units(amount);
    let bound = match per {
        Per::Rate(period) => {
            LimitBound::Rate(BucketRate { limit, period, burst: units(burst.unwrap_or(amount)) })
        }
        Per::Calendar(_) if burst.is_some() => {
            let reason =
                "is for per = \"second\", \"minute\" or \"hour\": all of a longer period may come at once";
            return Err(table.mistake("burst", reason));
        }
        Per::Calendar(period) => {
            LimitBound::Period { limit, calendar: Calendar { period, zone: context.zone.clone() } }
        }
    };
    Ok(LimitSpec { quantity, bound, at_limit, filter })
}

/// The requests to which a limit applies.
fn filter(table: &Table<'_>, context: &LimitContext<'_>) -> Read<LimitFilter> {
    let model =
        parsed("model pattern", Some("^.+$"), "text in quotes, such as \"gpt-5*\"", |text| match text {
            "" => Err("is empty: write a model or a pattern, or remove it".to_owned()),
            _ => Ok(Glob::new(text)),
        });
    let upstream = text().then(|entry, name| match &name {
        name if context.upstreams.contains(name) => Ok(Arc::from(&**name)),
        name if context.groups.contains(name) => {
            Err(entry.mistake(format!("{name:?} is a group: name one of its members")))
        }
        name => Err(entry.mistake(unknown("upstream", name, context.upstreams))),
    });
    read_all!(LimitFilter {
        model: table.optional("model", model),
        upstream: table.optional("upstream", upstream),
    })
}

/// The kinds of tokens in `count`.
const KINDS: [&str; 5] = ["input", "cached_input", "cache_write", "output", "reasoning"];

/// The largest weight. A larger one is a typing error.
const MOST_WEIGHT: f64 = 1_000.0;

/// `count`: the weights of tokens by kind. Kinds of input that are missing count as `input` does,
/// and `reasoning` as `output` does.
fn weights(table: &Table<'_>) -> Read<Option<Weights>> {
    let pattern = format!("^({})$", KINDS.join("|"));
    let mut found = [None; KINDS.len()];
    let entries = table.names("count", Some(pattern), Shape::Number(Some(MOST_WEIGHT)))?;
    let has_some = !entries.is_empty();
    all(entries.into_iter().map(|(name, entry)| {
        let Some(kind) = KINDS.iter().position(|known| *known == name) else {
            return Err(entry.mistake(format!("is not a kind of tokens: write one of {}", KINDS.join(", "))));
        };
        found[kind] = Some(weight(&entry)?);
        Ok(())
    }))?;
    let [input, cached_input, cache_write, output, reasoning] = found;
    let (input, output) = (input.unwrap_or(Weights::ONE), output.unwrap_or(Weights::ONE));
    let (cached_input, cache_write) = (cached_input.unwrap_or(input), cache_write.unwrap_or(input));
    let reasoning = reasoning.unwrap_or(output);
    if [input, cached_input, cache_write, output, reasoning] == [0; KINDS.len()] {
        return Err(table.mistake("count", "has only zeros, so that nothing counts: write a weight above 0"));
    }
    Ok(has_some.then_some(Weights::ByKind { input, cached_input, cache_write, output, reasoning }))
}

/// A weight in thousandths.
fn weight(entry: &Entry<'_>) -> Read<u32> {
    let text = entry.decimal("a weight without quotes, such as 0.1 or 4")?;
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let is_number = [whole, fraction].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_number || fraction.len() > 3 {
        return Err(entry.mistake(format!(
            "{text} is not a weight: write a number from 0 to {MOST_WEIGHT} with at most three decimals"
        )));
    }
    let thousandths = format!("{whole}{fraction:0<3}").parse().unwrap_or(u32::MAX);
    match thousandths {
        0..=1_000_000 => Ok(thousandths),
        _ => Err(entry.mistake(format!("{text} is more than {MOST_WEIGHT}, the largest weight"))),
    }
}

/// A whole number from 1, also with `k` for thousands or `M` for millions.
fn amount() -> Kind<impl Fn(&Entry<'_>) -> Read<u64>> {
    const WHAT: &str = "a whole number, such as 600 or \"200k\"";
    let shape =
        Shape::AnyOf(vec![Shape::Integer(1, MOST as usize), Shape::Text("number", Some("^[0-9]+[kM]?$"))]);
    Kind::new(shape, |entry: &Entry<'_>| {
        let amount = match entry.as_text() {
            Some(text) => {
                parse(text).ok_or_else(|| entry.mistake(format!("{text:?} is not a number: write {WHAT}")))?
            }
            None if entry.is_number() => entry.integer()? as u64,
            None => return Err(entry.not(WHAT)),
        };
        match amount {
            0 => Err(entry.mistake("is 0, which would refuse every request: write at least 1")),
            1..=MOST => Ok(amount),
            _ => Err(entry.mistake(format!("must be at most {MOST}"))),
        }
    })
}

fn parse(text: &str) -> Option<u64> {
    let (digits, scale) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1_000),
        b'M' => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(scale))
}
