//! What one usage object says, under the many names that its parts bear.

mod names;
mod unread;

use names::{CALLS, DETAILS, Detail, Goes, NAMES, Name};

use super::calls::{ToolCalls, ToolKind};
use super::cost;
use super::counts::Usage;
use super::tier::{Tier, tier};
use crate::json::Cursor;

/// What one usage object says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Report {
    /// The counts; `None` where there is none at all.
    pub(super) counts: Option<Usage>,
    /// Calls that are billed per use, as the service counted them.
    pub(super) calls: ToolCalls,
    /// What the response cost in US dollars, as the service wrote it.
    pub(super) cost: Option<Box<str>>,
    /// The service tier, which Anthropic and Mistral name here.
    pub(super) tier: Option<Tier>,
    /// A count whose name is not known, where the input or the output is under no known one.
    pub(super) unread: Option<Box<str>>,
}

impl Report {
    /// Reads a usage object's text. `None` when it is no object or has nothing that is read.
    ///
    /// On the heap, and out of line: few of the values that are taken are usage.
    #[inline(never)]
    pub(super) fn read(object: &[u8]) -> Option<Box<Report>> {
        let mut members = Members::NONE;
        if !members.fill(object) {
            return None;
        }
        let input = |detail| members.input.iter().flatten().find_map(|counts| counts[detail as usize]);
        let output = |detail| members.output.iter().flatten().find_map(|counts| counts[detail as usize]);
        let units = |side: usize| members.units.iter().find_map(|units| units[side]);
        // OpenRouter leaves the type out.
        let is_by_duration = members.text(Name::Type).is_none_or(|kind| kind == b"\"duration\"");
        let counts = Usage {
            input_tokens: members
                .first(&[
                    Name::PromptTokens,
                    Name::InputTokens,
                    Name::PromptTokenCount,
                    Name::TotalInputTokens,
                ])
                .or_else(|| units(INPUT)),
            output_tokens: members
                .first(&[
                    Name::CompletionTokens,
                    Name::OutputTokens,
                    Name::CandidatesTokenCount,
                    Name::TotalOutputTokens,
                ])
                .or_else(|| units(OUTPUT)),
            total_tokens: members.first(&[Name::TotalTokens, Name::TotalTokenCount]),
            cached_input_tokens: input(Detail::Cached).or_else(|| {
                members.first(&[
                    Name::CacheReadInputTokens,
                    Name::PromptCacheHitTokens,
                    Name::CachedTokens,
                    Name::NumCachedTokens,
                    Name::CachedContentTokenCount,
                    Name::TotalCachedTokens,
                ])
            }),
            cache_write_input_tokens: members
                .count(Name::CacheCreationInputTokens)
                .or_else(|| input(Detail::CacheWrite))
                .or_else(|| input(Detail::CacheCreation)),
            cache_write_1h_input_tokens: members.cache_write_1h.or_else(|| input(Detail::CacheWrite1h)),
            reasoning_tokens: output(Detail::Reasoning).or_else(|| {
                members.first(&[Name::ReasoningTokens, Name::ThoughtsTokenCount, Name::TotalThoughtTokens])
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
            unread: unread::find(object, &counts),
        });
        (report.counts.is_some() || *report != Report::default()).then_some(report)
    }
}

/// The members of a usage object that have a name here, read in one go. Of equal keys the last one
/// counts.
struct Members<'a> {
    /// As they stand, by [`Name`].
    texts: [Option<&'a [u8]>; NAMES],
    /// Counts by [`Detail`], in each place where the details of the input may be.
    input: [Option<Details>; 4],
    /// The same of the output.
    output: [Option<Details>; 4],
    /// Anthropic's `cache_creation` says how long what was written is kept.
    cache_write_1h: Option<u64>,
    /// Calls by the object that counts them; most usage has none.
    calls: Option<Box<[ToolCalls; CALLS]>>,
    /// [`INPUT`] and [`OUTPUT`] of Cohere's `tokens` and `billed_units`.
    units: [[Option<u64>; 2]; 2],
}

/// Counts by [`Detail`].
type Details = [Option<u64>; DETAILS];

const INPUT: usize = 0;
const OUTPUT: usize = 1;

impl<'a> Members<'a> {
    const NONE: Self = Members {
        texts: [None; _],
        input: [None; _],
        output: [None; _],
        cache_write_1h: None,
        calls: None,
        units: [[None; _]; _],
    };

    /// False when the text is no object. It is JSON: the grammar has passed it.
    fn fill(&mut self, object: &'a [u8]) -> bool {
        let members = self;
        let mut cursor = Cursor::new(object);
        if !cursor.take(b'{') {
            return false;
        }
        let mut first = true;
        while let Ok(Some(key)) = cursor.key(std::mem::take(&mut first)) {
            match Goes::of(key.spelled()) {
                Some(Goes::Text(name)) => {
                    members.texts[name as usize] = cursor.value().ok().map(|value| &object[value]);
                }
                Some(Goes::Input(place)) => members.input[place] = Some(details(object, &mut cursor)),
                Some(Goes::Output(place)) => members.output[place] = Some(details(object, &mut cursor)),
                Some(Goes::CacheCreation) => members.cache_write_1h = one_hour(object, &mut cursor),
                Some(Goes::Calls(place)) => {
                    members.calls.get_or_insert_default()[place] = calls(object, &mut cursor);
                }
                Some(Goes::Units(place)) => {
                    let (units, calls) = units(object, &mut cursor);
                    members.units[place] = units;
                    let all = members.calls.get_or_insert_default();
                    all[CALLS - 1] = all[CALLS - 1].most(calls);
                }
                None => drop(cursor.value()),
            }
        }
        true
    }

    fn text(&self, name: Name) -> Option<&'a [u8]> {
        self.texts[name as usize]
    }

    fn count(&self, name: Name) -> Option<u64> {
        count(self.text(name)?)
    }

    fn first(&self, names: &[Name]) -> Option<u64> {
        names.iter().find_map(|name| self.count(*name))
    }

    fn seconds(&self, name: Name) -> Option<f64> {
        number(self.text(name)?).filter(|seconds| *seconds >= 0.0)
    }

    /// The same calls may stand in two objects.
    fn calls(&self) -> ToolCalls {
        let all = self.calls.iter().flat_map(|calls| calls.iter().copied());
        let mut calls = all.fold(ToolCalls::default(), ToolCalls::most);
        for (name, kind) in
            [(Name::NumSearchQueries, ToolKind::WebSearch), (Name::NumSourcesUsed, ToolKind::Sources)]
        {
            if let Some(count) = self.count(name) {
                calls = calls.most(ToolCalls::of(kind, count));
            }
        }
        calls
    }

    /// OpenRouter, LiteLLM and Vercel's gateway write a number of dollars, Perplexity an object
    /// with the total, xAI ticks.
    fn cost(&self) -> Option<Box<str>> {
        let cost = self.text(Name::Cost);
        cost.and_then(|cost| cost::amount(cost).or_else(|| total_cost(cost)))
            .or_else(|| self.count(Name::CostInUsdTicks).map(cost::from_ticks))
    }
}

/// Goes through the object that is next, up to each member's value; past anything else.
fn each<'a>(cursor: &mut Cursor<'a>, mut member: impl FnMut(&'a [u8], &mut Cursor<'a>)) {
    if !cursor.take(b'{') {
        return drop(cursor.value());
    }
    let mut first = true;
    while let Ok(Some(key)) = cursor.key(std::mem::take(&mut first)) {
        member(key.spelled(), cursor);
    }
}

/// The count that is next.
fn next_count(text: &[u8], cursor: &mut Cursor<'_>) -> Option<u64> {
    cursor.integer().or_else(|| cursor.value().ok().and_then(|value| count(&text[value])))
}

/// The counts in the details that are next.
fn details(text: &[u8], cursor: &mut Cursor<'_>) -> Details {
    let mut counts = [None; _];
    each(cursor, |key, cursor| match Detail::of(key) {
        Some(Detail::CacheWrite1h) => counts[Detail::CacheWrite1h as usize] = one_hour(text, cursor),
        Some(detail) => counts[detail as usize] = next_count(text, cursor),
        None => drop(cursor.value()),
    });
    counts
}

/// Tokens that are kept for an hour, of the object that is next, which has them by how long they
/// are kept.
fn one_hour(text: &[u8], cursor: &mut Cursor<'_>) -> Option<u64> {
    let mut tokens = None;
    each(cursor, |key, cursor| match key {
        b"ephemeral_1h_input_tokens" => tokens = next_count(text, cursor),
        _ => drop(cursor.value()),
    });
    tokens
}

/// The calls that the object that is next counts.
fn calls(text: &[u8], cursor: &mut Cursor<'_>) -> ToolCalls {
    let mut calls = ToolCalls::default();
    each(cursor, |key, cursor| {
        let count = next_count(text, cursor);
        if let (Some(kind), Some(count)) = (ToolKind::from_key(key), count) {
            calls.add(kind, count);
        }
    });
    calls
}

/// Input and output of Cohere's object that is next, and the units of searching that it bills.
fn units(text: &[u8], cursor: &mut Cursor<'_>) -> ([Option<u64>; 2], ToolCalls) {
    let (mut units, mut calls) = ([None; 2], ToolCalls::default());
    each(cursor, |key, cursor| {
        let count = next_count(text, cursor);
        match key {
            b"input_tokens" => units[INPUT] = count,
            b"output_tokens" => units[OUTPUT] = count,
            b"search_units" => calls = ToolCalls::of(ToolKind::SearchUnits, count.unwrap_or(0)),
            _ => {}
        }
    });
    (units, calls)
}

/// The total of an object of costs, in dollars.
fn total_cost(object: &[u8]) -> Option<Box<str>> {
    let (mut total, mut is_in_dollars) = (None, true);
    each(&mut Cursor::new(object), |key, cursor| {
        let value = cursor.value().map_or(&[][..], |value| &object[value]);
        match key {
            b"total_cost" => total = cost::amount(value),
            b"currency" => is_in_dollars = value == b"\"USD\"",
            _ => {}
        }
    });
    total.filter(|_| is_in_dollars)
}

/// A count is an integer, a number without a fraction, or a string of digits.
pub(super) fn count(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    if let Some(count) = whole(digits) {
        return count;
    }
    let number = number(value)?;
    // 2^64 is the first number that is none.
    (number.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&number)).then_some(number as u64)
}

/// The number that these digits are, or `Some(None)` where it is larger than any count; `None` where
/// they are not all digits, or none.
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

/// A JSON number, as near as a float comes to it.
fn number(value: &[u8]) -> Option<f64> {
    // Only JSON numbers begin so; Rust would also take words.
    matches!(value.first()?, b'-' | b'0'..=b'9').then_some(())?;
    std::str::from_utf8(value).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests;
