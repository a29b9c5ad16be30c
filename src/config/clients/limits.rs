//! `limits` of a client, of a team, or of all clients together.

use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::super::groups::unknown;
use super::super::kind::{alternatives, time};
use super::{Entry, Kind, Owners, Read, Shape, Table, all, choice, parsed, text};
use crate::gate::limit::{
    AtLimit, BucketRate, Calendar, LimitBound, LimitFilter, LimitSpec, Quantity, Units, Unpriced, Weights,
};
use crate::llm::price::{Currency, Prices};
use crate::llm::route::Glob;
use crate::support::calendar::Period;

/// The forms of a limit, for messages.
const FORMS: &str = "write one of requests = 600, tokens = \"200k\", cost = 50 or concurrent = 20";

/// The largest number in a limit. A larger one limits nothing.
const MOST: u64 = 1_000_000_000_000;

/// The time that a limit is for.
#[derive(Clone, Copy)]
enum Per {
    /// A rate, in nanoseconds.
    Rate(u64),
    /// A period of the calendar.
    Calendar(Period),
}

const PER: &[(&str, Per)] =
    &[rate(0), rate(1), rate(2), calendar(Period::Day), calendar(Period::Week), calendar(Period::Month)];

const fn rate(index: usize) -> (&'static str, Per) {
    let (name, nanos) = BucketRate::PERIODS[index];
    (name, Per::Rate(nanos))
}

const fn calendar(period: Period) -> (&'static str, Per) {
    (period.name(), Per::Calendar(period))
}

const UNPRICED: &[(&str, Unpriced)] = &[("refuse", Unpriced::Refuse), ("allow", Unpriced::Allow)];

const AT_LIMIT: &[(&str, AtLimit)] = &[
    ("refuse", AtLimit::Refuse),
    ("cut", AtLimit::Cut),
    ("wait", AtLimit::Wait(WAIT)),
    ("warn", AtLimit::Warn),
];

/// The longest wait where the limit does not say, in nanoseconds.
const WAIT: u64 = 10_000_000_000;

/// The largest `wait`. Clients give up sooner.
const MOST_WAIT: Duration = Duration::from_secs(600);

/// The input of limits from other sections.
#[derive(Clone, Copy)]
pub(in crate::config) struct LimitContext<'a> {
    /// The limits are those of a client, whose users may each have their own.
    pub(in crate::config) is_client: bool,
    /// The zone of periods.
    pub(in crate::config) zone: &'a TimeZone,
    /// The names of `[upstreams]`, also of invalid ones.
    pub(in crate::config) upstreams: &'a [String],
    /// Those of `[groups]`.
    pub(in crate::config) groups: &'a [String],
}

/// The limits of a table, in the order of the file.
pub(in crate::config) fn limits(table: &Table<'_>, context: &LimitContext<'_>) -> Read<Vec<LimitSpec>> {
    let Some(entry) = table.entry("limits", Shape::List(Box::new(Shape::Table))) else {
        return Ok(Vec::new());
    };
    let items = entry.array("a list of limits, such as [{ requests = 600, per = \"minute\" }]")?;
    all(items.iter().map(|item| item.table(|table| limit(table, context))))
}

fn limit(table: &Table<'_>, context: &LimitContext<'_>) -> Read<LimitSpec> {
    let units = |scale: u32| {
        move |amount: Option<u64>| amount.map(|amount| Units(u128::from(amount) * u128::from(scale)))
    };
    let found = [
        ("requests", table.optional("requests", amount()).map(units(1))),
        ("tokens", table.optional("tokens", amount()).map(units(Weights::ONE))),
        ("cost", table.optional("cost", money())),
        ("concurrent", table.optional("concurrent", amount()).map(units(1))),
    ];
    let per = table.optional("per", choice(PER));
    let burst = [amount().shape.alternatives(), &[money().shape]].concat();
    let burst = table.entry("burst", Shape::AnyOf(burst));
    let at_limit = table.or_default("at_limit", choice(AT_LIMIT).default("refuse"));
    let wait = table.optional("wait", longest_wait());
    let filter = filter(table, context);
    let weights = weights(table);
    let (currency, unpriced) = (currency(table), table.optional("unpriced", choice(UNPRICED)));
    let present: Vec<_> = found.iter().filter(|(_, found)| !matches!(found, Ok(None))).collect();
    let (name, most) = match present[..] {
        [(name, Ok(Some(most)))] => (*name, *most),
        [(_, Err(noted))] => return Err(*noted),
        [] => return Err(table.mistake("requests", format!("is missing; {FORMS}"))),
        [(first, _), (second, _), ..] => {
            let reason = format!("is beside {first}: write a limit for each");
            return Err(table.mistake(second, reason));
        }
        _ => unreachable!("a key that is missing was left out"),
    };
    let burst = burst.map(|entry| match name {
        "cost" => (money().read)(&entry),
        "tokens" => (amount().read)(&entry).map(|burst| Units(u128::from(burst) * u128::from(Weights::ONE))),
        _ => (amount().read)(&entry).map(Units::from),
    });
    let burst = burst.transpose();
    let (per, burst, at_limit, filter, weights) = (per?, burst?, at_limit?, filter?, weights?);
    let at_limit = match (at_limit, wait?) {
        (AtLimit::Wait(_), Some(longest)) => AtLimit::Wait(longest),
        (_, Some(_)) => {
            let reason = "is for limits with at_limit = \"wait\": add that, or remove this";
            return Err(table.mistake("wait", reason));
        }
        (at_limit, None) => at_limit,
    };
    if at_limit == AtLimit::Cut && matches!(name, "requests" | "concurrent") {
        let reason = format!(
            "is \"cut\", which ends responses whose tokens exceed the limit, and {name} counts none: write \"refuse\", or limit tokens"
        );
        return Err(table.mistake("at_limit", reason));
    }
    let (currency, unpriced) = (currency?, unpriced?);
    let of_cost = [("currency", currency.is_some()), ("unpriced", unpriced.is_some())];
    if let Some((key, _)) = of_cost.iter().find(|(_, is_present)| *is_present && name != "cost") {
        return Err(
            table.mistake(key, format!("is for limits of cost, and this one counts {name}: remove it"))
        );
    }
    let unpriced = unpriced.unwrap_or_default();
    if weights.is_some() && name != "tokens" {
        return Err(table.mistake("count", format!("weighs tokens, and the limit counts {name}: remove it")));
    }
    if name == "concurrent" {
        let present = [("per", per.is_some()), ("burst", burst.is_some())];
        if let Some((key, _)) = present.iter().find(|(_, is_present)| *is_present) {
            let reason = "is for use in a time, and concurrent bounds running requests: remove it";
            return Err(table.mistake(key, reason));
        }
        let (quantity, bound) = (Quantity::Concurrent, LimitBound::Concurrent(most));
        return Ok(LimitSpec { quantity, bound, at_limit, filter, unpriced });
    }
    let Some(per) = per else {
        let reason =
            "is missing: write per = \"second\", \"minute\", \"hour\", \"day\", \"week\" or \"month\"";
        return Err(table.mistake("per", reason));
    };
    let quantity = match name {
        "tokens" => Quantity::Tokens(weights.unwrap_or(Weights::Reported)),
        "cost" => Quantity::Cost(currency.unwrap_or_else(dollars)),
        _ => Quantity::Requests,
    };
    let limit = most;
    let bound = match per {
        Per::Rate(period) => LimitBound::Rate(BucketRate { limit, period, burst: burst.unwrap_or(limit) }),
        Per::Calendar(_) if burst.is_some() => {
            let reason =
                "is for per = \"second\", \"minute\" or \"hour\": all of a longer period may come at once";
            return Err(table.mistake("burst", reason));
        }
        Per::Calendar(_) if matches!(at_limit, AtLimit::Wait(_)) => {
            let reason = "is \"wait\", and there is no more room before the next period: write \"refuse\", or \
                          per = \"second\", \"minute\" or \"hour\"";
            return Err(table.mistake("at_limit", reason));
        }
        Per::Calendar(period) => {
            LimitBound::Period { limit, calendar: Calendar { period, zone: context.zone.clone() } }
        }
    };
    Ok(LimitSpec { quantity, bound, at_limit, filter, unpriced })
}

/// `wait`, in nanoseconds.
fn longest_wait() -> Kind<impl FnOnce(&Entry<'_>) -> Read<u64>> {
    time().then(|entry, wait| match u64::try_from(wait.as_nanos()) {
        Ok(nanos) if wait <= MOST_WAIT => Ok(nanos),
        _ => Err(entry.mistake(format!("must be at most {MOST_WAIT:?}"))),
    })
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
    let each = match context.is_client {
        true => table.optional("each", choice(&[("user", true)])),
        false => Ok(None),
    };
    read_all!(LimitFilter {
        model: table.optional("model", model),
        upstream: table.optional("upstream", upstream),
        each_user: each.map(Option::unwrap_or_default),
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

/// The currency of a limit of cost.
fn currency(table: &Table<'_>) -> Read<Option<Currency>> {
    let currency = |text: &str| {
        Currency::parse(text).ok_or_else(|| {
            format!("{text:?} is not a currency code: write three capital letters, such as \"USD\"")
        })
    };
    let what = "a currency in quotes, such as \"USD\"";
    table.optional("currency", parsed("currency code", Some("^[A-Z]{3}$"), what, currency))
}

/// The currency of limits that name none, as of prices.
fn dollars() -> Currency {
    Currency::parse("USD").expect("it is a currency code")
}

/// The decimals of an amount of money.
const DECIMALS: usize = 6;

/// An amount of money above 0, in the smallest amounts of its currency.
fn money() -> Kind<impl Fn(&Entry<'_>) -> Read<Units>> {
    Kind::new(Shape::Number(Some(MOST as f64)), |entry: &Entry<'_>| {
        let text = entry.decimal("an amount without quotes, such as 50 or 0.25")?;
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let is_number = [whole, fraction].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_number || fraction.len() > DECIMALS {
            let reason =
                format!("{text} is not an amount: write one with at most {DECIMALS} decimals, such as 0.25");
            return Err(entry.mistake(reason));
        }
        let millionths = format!("{whole}{fraction:0<DECIMALS$}").parse().unwrap_or(u128::MAX);
        match millionths {
            0 => Err(entry.mistake("is 0, which would refuse every request: write more than 0")),
            _ if millionths > u128::from(MOST) * 1_000_000 => {
                Err(entry.mistake(format!("must be at most {MOST}")))
            }
            _ => Ok(Units(millionths * MILLIONTH)),
        }
    })
}

/// The smallest amounts in a millionth of a currency.
const MILLIONTH: u128 = 1_000_000;

/// Reports limits of cost in currencies without a price, and warns of models that they refuse.
pub(in crate::config) fn check_costs(root: &Table<'_>, prices: &Prices, owners: Owners<'_>) {
    let currency_of = |limit: &LimitSpec| match limit.quantity {
        Quantity::Cost(currency) => Some(currency),
        _ => None,
    };
    for (key, limits) in owners.limits() {
        let unknown =
            limits.iter().filter_map(currency_of).find(|currency| !prices.currencies().contains(currency));
        if let (Some(currency), Some(entry)) = (unknown, root.at(&key)) {
            let known: Vec<_> = prices.currencies().iter().map(Currency::as_str).collect();
            entry.mistake(match &known[..] {
                [] => format!("has a limit of cost in {currency}, and there are no [[prices]]: add them"),
                known => format!(
                    "has a limit of cost in {currency}, and no [[prices]] are in it: write currency = {}",
                    alternatives(known.iter().copied())
                ),
            });
        }
    }
    let Owners { clients, teams, of_all } = owners;
    for client in clients {
        let first = client.team;
        let above = successors(first, |team| teams.get(*team)?.team).take(teams.len());
        let limits = above.filter_map(|team| teams.get(team)).flat_map(|team| &team.limits);
        let strict: Vec<_> = client
            .limits
            .iter()
            .chain(limits)
            .chain(of_all)
            .filter(|limit| limit.unpriced == Unpriced::Refuse)
            .filter_map(|limit| Some((currency_of(limit)?, &limit.filter)))
            .collect();
        let has_price = |model: &str| {
            let model = Glob::new(model);
            strict.iter().all(|(currency, filter)| {
                filter.model.as_ref().is_some_and(|pattern| !pattern.overlaps(&model))
                    || prices.has_some_of(&model, *currency)
            })
        };
        let unpriced: Vec<_> = client.models.iter().filter(|model| !has_price(model)).collect();
        if let (false, Some(entry)) = (unpriced.is_empty(), root.at(&["clients", &client.name, "models"])) {
            let models: Vec<_> = unpriced.iter().map(|model| format!("{model:?}")).collect();
            entry.warning(&format!(
                "no [[prices]] are for {}, so that a limit of cost refuses requests with 403 no_price",
                models.join(" and ")
            ));
        }
    }
}

/// A whole number from 1, also with `k` for thousands or `M` for millions.
pub(super) fn amount() -> Kind<impl Fn(&Entry<'_>) -> Read<u64>> {
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
