//! Rows as keys and sums.

use std::collections::HashMap;
use std::sync::LazyLock;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::hour::Hour;
use super::key::{Key, Number, TEXTS, Text};
use super::tally::{TOKENS, add_tokens};
use super::{hour_of, lengths, times};
use crate::llm::price::{INPUT_WITHOUT_CACHE, Reported, TokenCounts};
use crate::sinks::ledger::error::Reason;
use crate::sinks::ledger::groups::{MAY_HAVE_TOKENS, SOURCES};
use crate::sinks::ledger::query::{integer, text, tool_calls};

/// The columns before the texts.
const FIRST_TEXT: usize = 16;

/// The columns of requests, in the order in which [`Rows`] takes them. The texts are in the order of
/// [`Text`].
pub(super) static REQUESTS: LazyLock<String> =
    LazyLock::new(|| columns("time_to_first_token_ms, attempts IS NOT NULL"));

/// The columns of attempts whose response was thrown away.
pub(super) static ATTEMPTS: LazyLock<String> = LazyLock::new(|| columns("NULL, 0"));

fn columns(last: &str) -> String {
    format!(
        "seq, started_at, usage_source, \"count\", input_tokens, cached_input_tokens,
        cache_write_input_tokens, output_tokens, reasoning_tokens, total_tokens, billed_seconds,
        reported_cost, cache_write_1h_input_tokens, tool_calls, status,
        CASE WHEN usage_source <> 'none' THEN 1 ELSE {MAY_HAVE_TOKENS} END,
        client, user, upstream, provider, model, CASE WHEN model IS NULL THEN model_requested END,
        endpoint, outcome, service_tier, \"group\", key_id, tags, {last}"
    )
}

/// The hours of rows, by the number of the hour.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) hours: HashMap<i64, Hour>,
    /// The first and the last row, in the order of writing.
    pub(super) range: Option<(i64, i64)>,
    /// Some rows have attempts.
    pub(super) have_attempts: bool,
}

impl Rows {
    /// Adds a row with the columns of [`REQUESTS`], or of [`ATTEMPTS`].
    pub(super) fn add(&mut self, row: &Row<'_>, is_attempt: bool) -> Result<(), Reason> {
        let count = |index: usize| row.get_ref(index).map(integer);
        let bytes = |index: usize| row.get_ref(index).map(text);
        let seq: i64 = row.get(0)?;
        let started: i64 = row.get(1)?;
        let name = bytes(2)?.unwrap_or_default();
        let Some(source) = SOURCES.iter().position(|known| known.as_bytes() == name) else {
            let name = String::from_utf8_lossy(name);
            return Err(Reason::Row(format!("a row has the unknown usage_source {name:?}")));
        };
        let mut key = Key::default();
        for (index, text) in key.texts.iter_mut().enumerate() {
            *text = bytes(FIRST_TEXT + index)?;
        }
        let [input, cached_input, cache_write, output] = [count(4)?, count(5)?, count(6)?, count(7)?];
        let (reasoning, total) = (count(8)?, count(9)?);
        let json = bytes(13)?;
        let calls = json.and_then(tool_calls);
        let counts = TokenCounts {
            input,
            cached_input,
            cache_write,
            cache_write_1h: count(12)?,
            output,
            tool_calls: calls,
            cache_is_apart: (cached_input > Some(0) || cache_write > Some(0))
                && key.text(Text::Endpoint) == Some(INPUT_WITHOUT_CACHE.as_bytes()),
        };
        let billable = counts.billable();
        let mut kinds = 0;
        if let Some(billable) = &billable {
            let uses = [billable.cache_write_1h].into_iter().chain(billable.tool_calls);
            kinds = uses.enumerate().fold(0, |kinds, (bit, used)| kinds | (u64::from(used > 0) << bit));
        }
        let flags = [
            (is_attempt, Key::ATTEMPT),
            (integer(row.get_ref(15)?) == Some(1), Key::COUNTABLE),
            (billable.is_some(), Key::BILLABLE),
            (input.is_some() || output.is_some(), Key::TOKENS),
            (json.is_some() && calls.is_none(), Key::UNKNOWN_CALLS),
        ];
        let flags = flags.iter().fold(0, |all, (is_so, flag)| if *is_so { all | flag } else { all });
        key.numbers[Number::Flags as usize] = source as u64 | flags;
        key.numbers[Number::Status as usize] = count(14)?.map_or(0, |status| status.saturating_add(1));
        key.numbers[Number::Length as usize] = lengths::class_of(counts.whole_input());
        key.numbers[Number::Kinds as usize] = kinds;

        let hour = self.hours.entry(hour_of(started)).or_default();
        let tally = hour.tally(&key);
        tally.requests = tally.requests.saturating_add(count(3)?.unwrap_or(1));
        let computed = match (total, input, output) {
            (Some(_), ..) | (None, None, None) => None,
            (None, input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        };
        let tokens: [_; TOKENS] =
            [input, cached_input, cache_write, output, reasoning, total.or(computed), computed];
        for (sum, more) in tally.tokens.iter_mut().zip(tokens) {
            add_tokens(sum, more);
        }
        if let ValueRef::Real(seconds) = row.get_ref(10)? {
            tally.add_seconds(seconds);
        }
        let reported = bytes(11)?.and_then(|cost| Reported::parse(std::str::from_utf8(cost).ok()?));
        if let Some(cost) = reported {
            tally.add_reported(cost);
        }
        if let Some(billable) = &billable {
            tally.bill(billable);
        }
        if let ValueRef::Real(millis) = row.get_ref(FIRST_TEXT + TEXTS)? {
            tally.add_times(times::class_of(millis), 1);
        }
        if !is_attempt {
            hour.records += 1;
            let (first, last) = self.range.unwrap_or((seq, seq));
            self.range = Some((first.min(seq), last.max(seq)));
            self.have_attempts |= integer(row.get_ref(FIRST_TEXT + TEXTS + 1)?) == Some(1);
        }
        Ok(())
    }
}
