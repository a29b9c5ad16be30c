//! Reads one usage object, whose members have many names.

mod names;
mod unread;

use names::{CALLS, COUNTS, CountName, DETAILS, Detail, Goes, NAMES, Name, PLACES, UNITS_CALLS};

use super::calls::{ToolCalls, ToolKind};
use super::cost;
use super::counts::Usage;
use super::tier::{Tier, tier};
use crate::codec::json::{Malformed, StrictCursor};

/// The contents of one usage object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Report {
    /// The counts; `None` if there is none at all.
    pub(super) counts: Option<Usage>,
    /// Calls billed per use, as the service counted them.
    pub(super) calls: ToolCalls,
    /// The cost in US dollars, as the service wrote it.
    pub(super) cost: Option<Box<str>>,
    /// The service tier (Anthropic and Mistral name it here).
    pub(super) tier: Option<Tier>,
    /// The name of an unknown count, if the input or the output has no known one.
    pub(super) unread: Option<Box<str>>,
}

impl Report {
    /// Reads a value. `None` if it is not an object or has no known member.
    pub(super) fn read(value: &[u8]) -> Option<Box<Report>> {
        Report::next(&mut StrictCursor::new(value)).ok().flatten()
    }

    /// Reads the next value, and goes past it.
    ///
    /// Boxed and out of line, because few of the extracted values are usage.
    #[inline(never)]
    pub(super) fn next(cursor: &mut StrictCursor<'_>) -> Result<Option<Box<Report>>, Malformed> {
        if cursor.peek() != b'{' {
            return cursor.skip().map(|()| None);
        }
        let from = cursor.position();
        let mut members = Members::new();
        members.fill(cursor)?;
        let mut report = Box::<Report>::default();
        let usage = report.counts.insert(Usage::default());
        members.copy_to(usage);
        report.unread = unread::find(cursor.since(from), usage);
        if usage.is_empty() {
            report.counts = None;
        }
        report.calls = members.calls();
        report.cost = members.cost();
        report.tier = [Name::ServiceTier, Name::GeminiTier, Name::TrafficType]
            .into_iter()
            .find_map(|name| members.text(name).and_then(tier));
        Ok((report.counts.is_some() || *report != Report::default()).then_some(report))
    }
}

/// The known members of a usage object, read in one pass. Of equal keys the last one counts.
struct Members<'a> {
    /// Counts by [`CountName`].
    counts: Numbers<COUNTS>,
    /// The values as written, by [`Name`].
    texts: [Option<&'a [u8]>; NAMES],
    /// The input's details, by [`Detail`] and place.
    input: Numbers<{ DETAILS * PLACES }>,
    /// The output's details, likewise.
    output: Numbers<{ DETAILS * PLACES }>,
    /// The one-hour part of Anthropic's `cache_creation`.
    cache_write_1h: Option<u64>,
    /// Calls by the object that counts them; absent in most usage.
    calls: Option<Box<[ToolCalls; CALLS]>>,
    /// [`INPUT`] and [`OUTPUT`] of Cohere's `tokens` and `billed_units`.
    units: [[Option<u64>; 2]; 2],
}

const INPUT: usize = 0;
const OUTPUT: usize = 1;

/// Numbers of which most are absent.
struct Numbers<const N: usize> {
    values: [u64; N],
    /// Bit `i` is set if number `i` is present.
    present: u32,
}

impl<const N: usize> Numbers<N> {
    #[inline]
    fn new() -> Self {
        const { assert!(N <= 32) };
        Self { values: [0; N], present: 0 }
    }

    #[inline]
    fn set(&mut self, at: usize, number: Option<u64>) {
        match number {
            Some(number) => {
                self.values[at] = number;
                self.present |= 1 << at;
            }
            None => self.present &= !(1 << at),
        }
    }

    /// The first number that is present between two places.
    #[inline]
    fn first(&self, from: usize, to: usize) -> Option<u64> {
        let present = self.present & (u32::MAX >> (31 - to) & u32::MAX << from);
        (present != 0).then(|| self.values[present.trailing_zeros() as usize])
    }
}

impl<'a> Members<'a> {
    #[inline]
    fn new() -> Self {
        Members {
            counts: Numbers::new(),
            texts: [None; _],
            input: Numbers::new(),
            output: Numbers::new(),
            cache_write_1h: None,
            calls: None,
            units: [[None; _]; _],
        }
    }

    /// Reads the object that is next.
    #[inline]
    fn fill(&mut self, cursor: &mut StrictCursor<'a>) -> Result<(), Malformed> {
        each(cursor, |key, cursor| {
            match Goes::of(key) {
                Some(Goes::Count(name)) => self.counts.set(name as usize, next_count(cursor)?),
                Some(Goes::Text(name)) => self.texts[name as usize] = Some(cursor.value()?),
                Some(Goes::Input(place)) => details(cursor, &mut self.input, place.into())?,
                Some(Goes::Output(place)) => details(cursor, &mut self.output, place.into())?,
                Some(Goes::CacheCreation) => self.cache_write_1h = one_hour(cursor)?,
                Some(Goes::Calls(place)) => {
                    self.calls.get_or_insert_default()[usize::from(place)] = calls(cursor)?;
                }
                Some(Goes::Units(place)) => {
                    let (units, calls) = units(cursor)?;
                    self.units[usize::from(place)] = units;
                    self.calls.get_or_insert_default()[UNITS_CALLS + usize::from(place)] = calls;
                }
                None => cursor.skip()?,
            }
            Ok(())
        })
    }

    /// Copies the counts. `usage`: an empty one in its place, because moving one is expensive.
    #[inline(always)]
    fn copy_to(&self, usage: &mut Usage) {
        let input = |detail| detail_of(&self.input, detail);
        let units = |side: usize| self.units.iter().find_map(|units| units[side]);
        usage.input_tokens =
            self.first(CountName::PromptTokens, CountName::TotalInputTokens).or_else(|| units(INPUT));
        usage.output_tokens =
            self.first(CountName::CompletionTokens, CountName::TotalOutputTokens).or_else(|| units(OUTPUT));
        usage.total_tokens = self.first(CountName::TotalTokens, CountName::TotalTokenCount);
        usage.cached_input_tokens = input(Detail::Cached)
            .or_else(|| self.first(CountName::CacheReadInputTokens, CountName::TotalCachedTokens));
        usage.cache_write_input_tokens = self
            .count(CountName::CacheCreationInputTokens)
            .or_else(|| input(Detail::CacheWrite))
            .or_else(|| input(Detail::CacheCreation));
        usage.cache_write_1h_input_tokens = self.cache_write_1h.or_else(|| input(Detail::CacheWrite1h));
        usage.reasoning_tokens = detail_of(&self.output, Detail::Reasoning)
            .or_else(|| self.first(CountName::ReasoningTokens, CountName::TotalThoughtTokens));
        usage.input_audio_tokens = input(Detail::Audio);
        usage.output_audio_tokens = detail_of(&self.output, Detail::Audio);
        // OpenRouter omits the type.
        let is_by_duration = self.text(Name::Type).is_none_or(|kind| kind == b"\"duration\"");
        usage.billed_seconds = if is_by_duration { self.seconds(Name::Seconds) } else { None }
            .or_else(|| self.seconds(Name::PromptAudioSeconds));
    }

    #[inline]
    fn text(&self, name: Name) -> Option<&'a [u8]> {
        self.texts[name as usize]
    }

    #[inline]
    fn count(&self, name: CountName) -> Option<u64> {
        self.first(name, name)
    }

    /// The count under the best of the names from one to another.
    #[inline]
    fn first(&self, from: CountName, to: CountName) -> Option<u64> {
        self.counts.first(from as usize, to as usize)
    }

    #[inline]
    fn seconds(&self, name: Name) -> Option<f64> {
        number(unquoted(self.text(name)?)).filter(|seconds| *seconds >= 0.0)
    }

    /// The maximum over the objects, since two objects may count the same calls.
    #[inline]
    fn calls(&self) -> ToolCalls {
        let mut calls = ToolCalls::default();
        if let Some(all) = &self.calls {
            calls = all.iter().copied().fold(calls, ToolCalls::most);
        }
        for (name, kind) in [
            (CountName::NumSearchQueries, ToolKind::WebSearch),
            (CountName::NumSourcesUsed, ToolKind::Sources),
        ] {
            if let Some(count) = self.count(name) {
                calls = calls.most(ToolCalls::of(kind, count));
            }
        }
        calls
    }

    /// The formats: a number of dollars (OpenRouter, LiteLLM, Vercel's gateway), an object with the
    /// total (Perplexity), ticks (xAI).
    #[inline]
    fn cost(&self) -> Option<Box<str>> {
        let cost = self.text(Name::Cost);
        let ticks = || self.count(CountName::CostInUsdTicks);
        cost.and_then(|cost| cost::amount(cost).or_else(|| total_cost(cost)))
            .or_else(|| ticks().map(cost::from_ticks))
    }
}

/// Visits the members of the next value if it is an object, with the cursor before each value, which
/// `member` goes past; goes past any other value.
#[inline]
fn each<'a>(
    cursor: &mut StrictCursor<'a>,
    mut member: impl FnMut(&'a [u8], &mut StrictCursor<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if cursor.peek() != b'{' {
        return cursor.skip();
    }
    cursor.open()?;
    let mut next = cursor.first_key()?;
    while let Some(key) = next {
        member(key, cursor)?;
        next = cursor.next_key()?;
    }
    Ok(())
}

#[inline]
fn next_count(cursor: &mut StrictCursor<'_>) -> Result<Option<u64>, Malformed> {
    match cursor.integer() {
        Some(integer) => Ok(Some(integer)),
        None => other_count(cursor),
    }
}

#[inline(never)]
fn other_count(cursor: &mut StrictCursor<'_>) -> Result<Option<u64>, Malformed> {
    cursor.value().map(count)
}

/// Reads the next object of details, the one of this place.
fn details(
    cursor: &mut StrictCursor<'_>,
    into: &mut Numbers<{ DETAILS * PLACES }>,
    place: usize,
) -> Result<(), Malformed> {
    for detail in 0..DETAILS {
        into.set(detail * PLACES + place, None);
    }
    each(cursor, |key, cursor| {
        let Some(detail) = Detail::of(key) else { return cursor.skip() };
        let number = match detail {
            Detail::CacheWrite1h => one_hour(cursor)?,
            _ => next_count(cursor)?,
        };
        into.set(detail as usize * PLACES + place, number);
        Ok(())
    })
}

/// The detail from the best place.
#[inline]
fn detail_of(details: &Numbers<{ DETAILS * PLACES }>, detail: Detail) -> Option<u64> {
    let from = detail as usize * PLACES;
    details.first(from, from + PLACES - 1)
}

/// The one-hour tokens of the next object, which has them by lifetime.
fn one_hour(cursor: &mut StrictCursor<'_>) -> Result<Option<u64>, Malformed> {
    let mut tokens = None;
    each(cursor, |key, cursor| {
        match key {
            b"ephemeral_1h_input_tokens" => tokens = next_count(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    Ok(tokens)
}

fn calls(cursor: &mut StrictCursor<'_>) -> Result<ToolCalls, Malformed> {
    let mut calls = ToolCalls::default();
    each(cursor, |key, cursor| {
        let count = next_count(cursor)?;
        if let (Some(kind), Some(count)) = (ToolKind::from_key(key), count) {
            calls.add(kind, count);
        }
        Ok(())
    })?;
    Ok(calls)
}

/// The input, output and billed search units of Cohere's next object.
fn units(cursor: &mut StrictCursor<'_>) -> Result<([Option<u64>; 2], ToolCalls), Malformed> {
    let (mut units, mut calls) = ([None; 2], ToolCalls::default());
    each(cursor, |key, cursor| {
        let count = next_count(cursor)?;
        match key {
            b"input_tokens" => units[INPUT] = count,
            b"output_tokens" => units[OUTPUT] = count,
            b"search_units" => calls = ToolCalls::of(ToolKind::SearchUnits, count.unwrap_or(0)),
            _ => {}
        }
        Ok(())
    })?;
    Ok((units, calls))
}

/// The total of an object of costs, in dollars.
fn total_cost(object: &[u8]) -> Option<Box<str>> {
    let (mut total, mut is_in_dollars) = (None, true);
    let read = each(&mut StrictCursor::new(object), |key, cursor| {
        let value = cursor.value()?;
        match key {
            b"total_cost" => total = cost::amount(value),
            b"currency" => is_in_dollars = value == b"\"USD\"",
            _ => {}
        }
        Ok(())
    });
    total.filter(|_| is_in_dollars && read.is_ok())
}

/// Accepts an integer, a number without a fraction, or a string of digits.
pub(super) fn count(value: &[u8]) -> Option<u64> {
    if let Some(count) = whole(unquoted(value)) {
        return count;
    }
    let number = number(value)?;
    // 2^64 is the first number beyond `u64`.
    (number.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&number)).then_some(number as u64)
}

/// The inside of a string without escapes, or any other value as it is.
#[inline]
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
}

/// The value of these digits; `Some(None)` on overflow, `None` if they are not all digits or empty.
fn whole(digits: &[u8]) -> Option<Option<u64>> {
    let mut count = Some(0_u64);
    for byte in digits {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        count = count.and_then(|count| count.checked_mul(10)?.checked_add(digit));
    }
    (!digits.is_empty()).then_some(count)
}

/// A JSON number as the nearest float.
fn number(value: &[u8]) -> Option<f64> {
    // Only JSON numbers begin like this; `parse` accepts words too.
    matches!(value.first()?, b'-' | b'0'..=b'9').then_some(())?;
    std::str::from_utf8(value).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests;
