//! The tables of a frame.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::StreamOrder;
use super::cells::{Column, Line, Tone, table};
use super::numbers::{amount, count, length, money, speed, time, tokens};
use super::reading::{Group, Limit, Member, MemberModel, Out, Stream, Sums, Usage};
use super::speed::Speeds;
use crate::sinks::ledger::output::numbers::percent;

/// From this part on, a limit is near.
const NEAR: f64 = 0.8;

/// A value that is unknown, or does not exist.
const NONE: &str = "-";

/// The sums of the last minute and of the day.
pub(super) fn sums(sums: &Sums, width: usize) -> Vec<Line> {
    let rows = [("last minute", &sums.minute), ("today", &sums.today)];
    let number = |head, rank, cell: &dyn Fn(&Usage) -> String| {
        Column::numbers(head, rank, rows.iter().map(|(_, usage)| cell(usage)))
    };
    let mut columns = vec![
        Column::names("", 0, rows.iter().map(|(label, _)| (*label).to_owned())),
        number("REQUESTS", 0, &|usage| count(usage.total.requests)),
        number("FAILED", 1, &|usage| percent(usage.total.failed_requests, usage.total.requests)),
        number("INPUT", 2, &|usage| tokens(usage.total.input_tokens, usage.total.estimated_input_tokens)),
        number("CACHED", 4, &|usage| cached(usage)),
        number("OUTPUT", 2, &|usage| tokens(usage.total.output_tokens, usage.total.estimated_output_tokens)),
    ];
    let currencies = sums.today.total.cost.keys();
    for (place, currency) in currencies.enumerate() {
        let cost = |usage: &Usage| money(currency, usage.total.cost.get(currency).copied().flatten());
        let rank = if place == 0 { 0 } else { 3 };
        columns.push(number("COST", rank, &|usage| match cost(usage) {
            text if text.starts_with(|c: char| c.is_ascii_digit()) => format!("{text} {currency}"),
            text => text,
        }));
    }
    if sums.today.total.requests_without_price > 0 && !sums.today.total.cost.is_empty() {
        columns.push(number("NO PRICE", 5, &|usage| count(usage.total.requests_without_price)));
    }
    table(columns, width)
}

/// The part of the input that was read from caches. Input that is reported without it is counted
/// as a part too.
fn cached(usage: &Usage) -> String {
    match (usage.total.cached_input_tokens, usage.total.input_tokens) {
        (Some(cached), Some(input)) => percent(cached, input.max(cached)),
        _ => NONE.to_owned(),
    }
}

/// Running streams.
pub(super) fn streams(streams: &[&Stream], speeds: &Speeds, width: usize) -> Vec<Line> {
    let names = |head, rank, cell: fn(&Stream) -> Option<&str>| {
        let has_any = streams.iter().any(|stream| cell(stream).is_some());
        let cells = streams.iter().map(move |stream| cell(stream).unwrap_or(NONE).to_owned());
        has_any.then(|| Column::names(head, rank, cells))
    };
    let number = |head, rank, cell: &dyn Fn(&Stream) -> String| {
        Some(Column::numbers(head, rank, streams.iter().map(|stream| cell(stream))))
    };
    let columns = [
        names("CLIENT", 1, |stream| Some(&stream.client)),
        names("USER", 2, |stream| stream.user.as_deref()),
        names("MODEL", 0, |stream| stream.model.as_deref()),
        names("UPSTREAM", 4, |stream| stream.upstream.as_deref()),
        number("TOKENS", 0, &|stream| match (stream.output_tokens, stream.time_to_first_token_ms) {
            (Some(tokens), _) => count(tokens),
            (None, Some(_)) => format!("~{}", count(stream.events)),
            (None, None) => NONE.to_owned(),
        }),
        number("TOK/S", 3, &|stream| speeds.get(stream).map_or_else(|| NONE.to_owned(), speed)),
        number("FIRST", 5, &|stream| {
            stream.time_to_first_token_ms.map_or_else(|| "waiting".to_owned(), length)
        }),
        number("TIME", 0, &|stream| length(stream.duration_ms)),
    ];
    table(columns.into_iter().flatten().collect(), width)
}

/// Streams in this order.
pub(super) fn sorted<'a>(streams: &'a [Stream], speeds: &Speeds, order: StreamOrder) -> Vec<&'a Stream> {
    let mut sorted: Vec<_> = streams.iter().collect();
    let output = |stream: &Stream| match stream.time_to_first_token_ms {
        Some(_) => stream.output_tokens.unwrap_or(stream.events),
        None => 0,
    };
    let speed = |stream: &Stream| speeds.get(stream).unwrap_or(-1.0);
    match order {
        StreamOrder::Time => sorted.sort_by(|one, other| other.duration_ms.total_cmp(&one.duration_ms)),
        StreamOrder::Tokens => sorted.sort_by_key(|stream| std::cmp::Reverse(output(stream))),
        StreamOrder::Speed => sorted.sort_by(|one, other| speed(other).total_cmp(&speed(one))),
        StreamOrder::Client => sorted.sort_by(|one, other| one.client.cmp(&other.client)),
        StreamOrder::User => sorted.sort_by(|one, other| one.user.cmp(&other.user)),
        StreamOrder::Model => sorted.sort_by(|one, other| one.model.cmp(&other.model)),
        StreamOrder::Upstream => sorted.sort_by(|one, other| one.upstream.cmp(&other.upstream)),
    }
    sorted
}

/// A member with its group.
pub(super) type Membership<'a> = (&'a Group, &'a Member);

/// The members of all groups, those that are out or limited first.
pub(super) fn memberships(groups: &[Group]) -> Vec<Membership<'_>> {
    let all = groups.iter().flat_map(|group| group.members.iter().map(move |member| (group, member)));
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, member)| is_well(member));
    all
}

pub(super) fn is_well(member: &Member) -> bool {
    member.out.is_none() && member.models.iter().all(|model| model.available)
}

/// Members of groups.
pub(super) fn members(
    members: &[Membership<'_>],
    now: Timestamp,
    zone: &TimeZone,
    width: usize,
) -> Vec<Line> {
    let states: Vec<_> = members.iter().map(|(_, member)| state(member, now, zone)).collect();
    let name = |member: &Member| match &member.model {
        Some(model) => format!("{} {model}", member.upstream),
        None => member.upstream.clone(),
    };
    let columns = vec![
        Column::names("GROUP", 1, members.iter().map(|(group, _)| group.name.clone())),
        Column::names("MEMBER", 0, members.iter().map(|(_, member)| name(member))),
        Column::numbers("TIER", 3, members.iter().map(|(_, member)| member.tier.to_string())),
        Column::numbers("RUNNING", 2, members.iter().map(|(_, member)| count(member.running.into()))),
        Column::names("STATE", 0, states.iter().map(|(text, _)| text.clone()))
            .toned(states.iter().map(|(_, tone)| *tone)),
    ];
    table(columns, width)
}

fn state(member: &Member, now: Timestamp, zone: &TimeZone) -> (String, Tone) {
    if let Some(out) = &member.out {
        return (reason(out, now, zone), Tone::Bad);
    }
    let mut bad = member.models.iter().filter(|model| !model.available);
    let Some(MemberModel { model, out, rate_limited_until, .. }) = bad.next() else {
        return ("available".to_owned(), Tone::Plain);
    };
    let why = match (out, rate_limited_until) {
        (Some(out), _) => reason(out, now, zone),
        (None, Some(until)) => format!("limited until {}", time(*until, now, zone)),
        (None, None) => "out".to_owned(),
    };
    let others = match bad.count() {
        0 => String::new(),
        others => format!(", {others} more"),
    };
    (format!("{}: {why}{others}", model.as_deref().unwrap_or("no model")), Tone::Near)
}

fn reason(out: &Out, now: Timestamp, zone: &TimeZone) -> String {
    match out.until {
        Some(until) => format!("out until {}: {}", time(until, now, zone), out.reason),
        None => format!("out until one succeeds: {}", out.reason),
    }
}

/// Limits and budgets.
pub(super) fn limits(limits: &[&Limit], now: Timestamp, zone: &TimeZone, width: usize) -> Vec<Line> {
    let number = |number: Option<f64>| number.map_or_else(|| NONE.to_owned(), amount);
    let again = |limit: &Limit| match &limit.period {
        Some(period) => time(period.until, now, zone),
        None => NONE.to_owned(),
    };
    let tone = |limit: &Limit| match limit.used_ratio {
        ratio if ratio >= 1.0 => Tone::Bad,
        ratio if ratio >= NEAR => Tone::Near,
        _ => Tone::Plain,
    };
    let columns = vec![
        Column::names("OF", 0, limits.iter().map(|limit| limit.whose.clone())),
        Column::names("COUNTS", 1, limits.iter().map(|limit| limit.counts.clone())),
        Column::numbers("USED", 2, limits.iter().map(|limit| number(limit.used))),
        Column::numbers("LIMIT", 2, limits.iter().map(|limit| number(limit.limit))),
        Column::numbers("PART", 0, limits.iter().map(|limit| format!("{:.0}%", limit.used_ratio * 100.0)))
            .toned(limits.iter().map(|limit| tone(limit))),
        Column::numbers("WAIT", 4, limits.iter().map(|limit| count(limit.waiting as u64))),
        Column::numbers("AGAIN", 3, limits.iter().map(|limit| again(limit))),
    ];
    table(columns, width)
}
