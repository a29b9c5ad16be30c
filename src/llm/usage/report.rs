//! Reads one usage object, whose members have many names.

mod names;
mod unread;

use names::{CALLS, COUNTS, CountName, DETAILS, Detail, Goes, NAMES, Name};

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
        let input = |detail| members.input.iter().flatten().find_map(|counts| counts[detail as usize]);
        let output = |detail| members.output.iter().flatten().find_map(|counts| counts[detail as usize]);
        let units = |side: usize| members.units.iter().find_map(|units| units[side]);
        // OpenRouter omits the type.
        let is_by_duration = members.text(Name::Type).is_none_or(|kind| kind == b"\"duration\"");
        let counts = Usage {
            input_tokens: members
                .first(&[
                    CountName::PromptTokens,
                    CountName::InputTokens,
                    CountName::PromptTokenCount,
                    CountName::TotalInputTokens,
                ])
                .or_else(|| units(INPUT)),
            output_tokens: members
                .first(&[
                    CountName::CompletionTokens,
                    CountName::OutputTokens,
                    CountName::CandidatesTokenCount,
                    CountName::TotalOutputTokens,
                ])
                .or_else(|| units(OUTPUT)),
            total_tokens: members.first(&[CountName::TotalTokens, CountName::TotalTokenCount]),
            cached_input_tokens: input(Detail::Cached).or_else(|| {
                members.first(&[
                    CountName::CacheReadInputTokens,
                    CountName::PromptCacheHitTokens,
                    CountName::CachedTokens,
                    CountName::NumCachedTokens,
                    CountName::CachedContentTokenCount,
                    CountName::TotalCachedTokens,
                ])
            }),
            cache_write_input_tokens: members
                .count(CountName::CacheCreationInputTokens)
                .or_else(|| input(Detail::CacheWrite))
                .or_else(|| input(Detail::CacheCreation)),
            cache_write_1h_input_tokens: members.cache_write_1h.or_else(|| input(Detail::CacheWrite1h)),
            reasoning_tokens: output(Detail::Reasoning).or_else(|| {
                members.first(&[
                    CountName::ReasoningTokens,
                    CountName::ThoughtsTokenCount,
                    CountName::TotalThoughtTokens,
                ])
            }),
            input_audio_tokens: input(Detail::Audio),
            output_audio_tokens: output(Detail::Audio),
            billed_seconds: if is_by_duration { members.seconds(Name::Seconds) } else { None }
                .or_else(|| members.seconds(Name::PromptAudioSeconds)),
        };
        let report = Box::new(Report {
            counts: (counts != Usage::default()).then_some(counts),
            calls: members.calls(),
            cost: members.cost(),
            tier: [Name::ServiceTier, Name::GeminiTier, Name::TrafficType]
                .into_iter()
                .find_map(|name| members.text(name).and_then(tier)),
            unread: unread::find(cursor.since(from), &counts),
        });
        Ok((report.counts.is_some() || *report != Report::default()).then_some(report))
    }
}

/// The known members of a usage object, read in one pass. Of equal keys the last one counts.
struct Members<'a> {
    /// Counts by [`CountName`].
    counts: [Option<u64>; COUNTS],
    /// The values as written, by [`Name`].
    texts: [Option<&'a [u8]>; NAMES],
    /// The input's details, by place.
    input: [Option<Details>; 4],
    /// The output's details, by place.
    output: [Option<Details>; 4],
    /// The one-hour part of Anthropic's `cache_creation`.
    cache_write_1h: Option<u64>,
    /// Calls by the object that counts them; absent in most usage.
    calls: Option<Box<[ToolCalls; CALLS]>>,
    /// [`INPUT`] and [`OUTPUT`] of Cohere's `tokens` and `billed_units`.
    units: [[Option<u64>; 2]; 2],
}

/// Counts by [`Detail`].
type Details = [Option<u64>; DETAILS];

const INPUT: usize = 0;
const OUTPUT: usize = 1;

impl<'a> Members<'a> {
    #[inline]
    fn new() -> Self {
        Members {
            counts: [None; _],
            texts: [None; _],
            input: [None; _],
            output: [None; _],
            cache_write_1h: None,
            calls: None,
            units: [[None; _]; _],
        }
    }

    /// Reads the object that is next.
    fn fill(&mut self, cursor: &mut StrictCursor<'a>) -> Result<(), Malformed> {
        each(cursor, |key, cursor| {
            match Goes::of(key) {
                Some(Goes::Count(name)) => self.counts[name as usize] = next_count(cursor)?,
                Some(Goes::Text(name)) => self.texts[name as usize] = Some(cursor.value()?),
                Some(Goes::Input(place)) => self.input[place] = Some(details(cursor)?),
                Some(Goes::Output(place)) => self.output[place] = Some(details(cursor)?),
                Some(Goes::CacheCreation) => self.cache_write_1h = one_hour(cursor)?,
                Some(Goes::Calls(place)) => {
                    self.calls.get_or_insert_default()[place] = calls(cursor)?;
                }
                Some(Goes::Units(place)) => {
                    let (units, calls) = units(cursor)?;
                    self.units[place] = units;
                    let all = self.calls.get_or_insert_default();
                    all[CALLS - 1] = all[CALLS - 1].most(calls);
                }
                None => cursor.skip()?,
            }
            Ok(())
        })
    }

    fn text(&self, name: Name) -> Option<&'a [u8]> {
        self.texts[name as usize]
    }

    fn count(&self, name: CountName) -> Option<u64> {
        self.counts[name as usize]
    }

    fn first(&self, names: &[CountName]) -> Option<u64> {
        names.iter().find_map(|name| self.count(*name))
    }

    fn seconds(&self, name: Name) -> Option<f64> {
        number(self.text(name)?).filter(|seconds| *seconds >= 0.0)
    }

    /// The maximum over the objects, since two objects may count the same calls.
    fn calls(&self) -> ToolCalls {
        let all = self.calls.iter().flat_map(|calls| calls.iter().copied());
        let mut calls = all.fold(ToolCalls::default(), ToolCalls::most);
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
    fn cost(&self) -> Option<Box<str>> {
        let cost = self.text(Name::Cost);
        cost.and_then(|cost| cost::amount(cost).or_else(|| total_cost(cost)))
            .or_else(|| self.count(CountName::CostInUsdTicks).map(cost::from_ticks))
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
        None => cursor.value().map(count),
    }
}

fn details(cursor: &mut StrictCursor<'_>) -> Result<Details, Malformed> {
    let mut counts = [None; _];
    each(cursor, |key, cursor| {
        match Detail::of(key) {
            Some(Detail::CacheWrite1h) => counts[Detail::CacheWrite1h as usize] = one_hour(cursor)?,
            Some(detail) => counts[detail as usize] = next_count(cursor)?,
            None => cursor.skip()?,
        }
        Ok(())
    })?;
    Ok(counts)
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
    let digits = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    if let Some(count) = whole(digits) {
        return count;
    }
    let number = number(value)?;
    // 2^64 is the first number beyond `u64`.
    (number.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&number)).then_some(number as u64)
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
