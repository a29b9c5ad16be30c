//! `limits` of a client or a team.

use jiff::tz::TimeZone;

use super::{Entry, Kind, Read, Shape, Table, all, choice};
use crate::gate::limit::{AtLimit, BucketRate, Calendar, LimitBound, LimitSpec, Quantity, Units, Weights};
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

/// The limits of a table, in the order of the file. `zone`: that of periods.
pub(super) fn limits(table: &Table<'_>, zone: &TimeZone) -> Read<Vec<LimitSpec>> {
    let Some(entry) = table.entry("limits", Shape::List(Box::new(Shape::Table))) else {
        return Ok(Vec::new());
    };
    let items = entry.array("a list of limits, such as [{ requests = 600, per = \"minute\" }]")?;
    all(items.iter().map(|item| item.table(|table| limit(table, zone))))
}

fn limit(table: &Table<'_>, zone: &TimeZone) -> Read<LimitSpec> {
    let found = [
        ("requests", table.optional("requests", amount())),
        ("tokens", table.optional("tokens", amount())),
        ("concurrent", table.optional("concurrent", amount())),
    ];
    let per = table.optional("per", choice(PER));
    let burst = table.optional("burst", amount());
    let at_limit = table.or_default("at_limit", choice(AT_LIMIT).default("refuse"));
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
    let (per, burst, at_limit) = (per?, burst?, at_limit?);
    if at_limit == AtLimit::Cut && matches!(name, "requests" | "concurrent") {
        let reason = format!(
            "is \"cut\", which ends responses whose tokens exceed the limit, and {name} counts none: write \"refuse\", or limit tokens"
        );
        return Err(table.mistake("at_limit", reason));
    }
    if name == "concurrent" {
        let present = [("per", per.is_some()), ("burst", burst.is_some())];
        if let Some((key, _)) = present.iter().find(|(_, is_present)| *is_present) {
            let reason = "is for use in a time, and concurrent bounds running requests: remove it";
            return Err(table.mistake(key, reason));
        }
        let bound = LimitBound::Concurrent(amount.into());
        return Ok(LimitSpec { quantity: Quantity::Concurrent, bound, at_limit });
    }
    let Some(per) = per else {
        let reason =
            "is missing: write per = \"second\", \"minute\", \"hour\", \"day\", \"week\" or \"month\"";
        return Err(table.mistake("per", reason));
    };
    let quantity = match name {
        "tokens" => Quantity::Tokens(Weights::Reported),
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
            LimitBound::Period { limit, calendar: Calendar { period, zone: zone.clone() } }
        }
    };
    Ok(LimitSpec { quantity, bound, at_limit })
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
