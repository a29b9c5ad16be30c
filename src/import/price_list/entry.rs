//! One model of the list as rates.
//!
//! Keys are `PART`, `PART_above_200k_tokens`, and either with the suffix of a tier. A part that a
//! tier or a long input does not name has the rate of the standard tier or of the shorter input, as
//! LiteLLM computes it. A tier without any key for a long input has no price there.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{ListedModel, PriceStep};
use crate::llm::price::{Currency, Rate, Rates};
use crate::llm::usage::ToolKind;

const INPUT: &str = "input_cost_per_token";
const OUTPUT: &str = "output_cost_per_token";
const CACHE_READ: &str = "cache_read_input_token_cost";
const CACHE_WRITE: &str = "cache_creation_input_token_cost";
const CACHE_WRITE_1H: &str = "cache_creation_input_token_cost_above_1hr";
const REASONING: &str = "output_cost_per_reasoning_token";
const PARTS: [&str; 6] = [INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, CACHE_WRITE_1H, REASONING];

/// The suffixes of keys, and the tiers as services name them.
const TIERS: [(&str, Option<&str>); 6] = [
    ("", None),
    ("_flex", Some("flex")),
    ("_priority", Some("priority")),
    ("_balanced", Some("balanced")),
    ("_ultrafast", Some("ultrafast")),
    (BATCHES, Some("batch")),
];

/// The suffix of a tier that takes no part from the standard tier.
const BATCHES: &str = "_batches";

/// The modes of models that have no output tokens.
const WITHOUT_OUTPUT: [&str; 3] = ["embedding", "rerank", "moderation"];

/// The providers that bill each call of a web search, and whose responses report the calls.
const COUNTED_SEARCHES: [&str; 3] = ["openai", "azure", "anthropic"];

/// The provider for which a price begins at the threshold, not above it.
const INCLUSIVE: &str = "xai";

/// The provider whose cached input costs half if the list does not say.
const HALF_CACHED: &str = "fireworks_ai";

/// Keys with costs that make the price of a token meaningless, and the reasons.
const UNKNOWN: [(&str, &str); 3] = [
    ("off_peak_pricing", "costs less at some hours"),
    ("input_cost_per_request", "also costs per request"),
    ("citation_cost_per_token", "also costs per token of citations"),
];

/// Parts of names of keys whose costs are not in the rates, and the notes.
const ASIDE: [(&str, &str); 9] = [
    ("audio_token", "audio tokens have another price"),
    ("_image_token", "image tokens have another price"),
    ("video_token", "video tokens have another price"),
    ("above_12hr", "cache writes of 12 hours have another price"),
    ("code_interpreter_cost_per_session", "sessions of the code interpreter cost extra"),
    ("google_maps_grounding_cost_per_query", "grounding by maps costs extra"),
    ("uplift_multiplier", "regional endpoints cost more"),
    ("provider_specific_entry", "some regions or speeds cost more"),
    ("computer_use_", "computer use has another price"),
];

/// # Errors
/// Fails with the reason for which no rates are right.
pub(super) fn listed(entry: &Map<String, Value>) -> Result<ListedModel, String> {
    let costs = Costs(entry);
    if let Some((_, reason)) = UNKNOWN.iter().find(|(key, _)| entry.get(*key).is_some_and(|v| !v.is_null())) {
        return Err((*reason).to_owned());
    }
    let mut notes: Vec<String> = Vec::new();
    for (part, note) in ASIDE {
        if entry.iter().any(|(key, value)| key.contains(part) && !is_nothing(value)) {
            notes.push(note.to_owned());
        }
    }
    let tool_calls = costs.tool_calls(&mut notes)?;
    let ranges = entry.get("tiered_pricing").and_then(Value::as_array).filter(|ranges| !ranges.is_empty());
    let steps = match ranges {
        Some(ranges) => costs.by_range(ranges, tool_calls)?,
        None => costs.by_key(tool_calls)?,
    };
    Ok(ListedModel { steps, notes })
}

/// Returns true for a value that changes no price.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Object(object) => {
            object.values().all(|value| value.as_f64().is_none_or(|factor| factor == 1.0))
        }
        _ => false,
    }
}

type ToolRates = [Option<Rate>; ToolKind::COUNT];

struct Costs<'a>(&'a Map<String, Value>);

impl Costs<'_> {
    /// The steps of a model whose keys have suffixes.
    fn by_key(&self, tool_calls: ToolRates) -> Result<Vec<PriceStep>, String> {
        if self.0.get(INPUT).is_none_or(Value::is_null) {
            return Err(self.unit());
        }
        let mut steps = Vec::new();
        for (suffix, tier) in TIERS {
            let thresholds = self.thresholds(suffix);
            let has = |part: &str| self.0.contains_key(&format!("{part}{suffix}"));
            let is_there = match suffix {
                BATCHES => has(INPUT) && (has(OUTPUT) || self.is_one_of("mode", &WITHOUT_OUTPUT)),
                _ => PARTS.iter().any(|part| has(part)) || !thresholds.is_empty(),
            };
            if !is_there {
                continue;
            }
            let mut below: Vec<&str> = Vec::new();
            let thresholds = thresholds.iter().map(|(tokens, text)| Some((*tokens, text.as_str())));
            for threshold in std::iter::once(None).chain(thresholds) {
                below.extend(threshold.map(|(_, text)| text));
                let rates = self.rates(suffix, &below, tool_calls)?;
                let above_input_tokens = threshold.map(|(tokens, _)| match self.is_inclusive() {
                    true => tokens.saturating_sub(1),
                    false => tokens,
                });
                steps.push(PriceStep { tier: tier.map(str::to_owned), above_input_tokens, rates });
            }
        }
        Ok(steps)
    }

    /// The thresholds of a tier with the words of their keys, ascending.
    fn thresholds(&self, suffix: &str) -> BTreeSet<(u64, String)> {
        let words = self.0.keys().filter_map(|key| {
            let rest = PARTS.iter().find_map(|part| key.strip_prefix(part)?.strip_prefix("_above_"))?;
            let words = rest.strip_suffix(suffix)?.strip_suffix("_tokens")?;
            words.bytes().next()?.is_ascii_digit().then(|| words.to_owned())
        });
        words.filter_map(|words| Some((tokens(&words)?, words))).collect()
    }

    /// The rates of a tier beyond the thresholds `beyond`.
    fn rates(&self, suffix: &str, beyond: &[&str], tool_calls: ToolRates) -> Result<Rates, String> {
        let find = |part: &str| -> Result<Option<Rate>, String> {
            let long = beyond.iter().rev().map(|words| format!("{part}_above_{words}_tokens"));
            for name in long.chain([part.to_owned()]) {
                let standard = (suffix != BATCHES).then(|| name.clone());
                for key in [format!("{name}{suffix}")].into_iter().chain(standard) {
                    if let Some(value) = self.0.get(&key).filter(|value| !value.is_null()) {
                        return rate(&key, value).map(Some);
                    }
                }
            }
            Ok(None)
        };
        let input = find(INPUT)?.ok_or_else(|| self.unit())?;
        // Without a price of its own in a tier or for a long input, reasoning is output there.
        let threshold = beyond.last().map(|words| format!("_above_{words}_tokens")).unwrap_or_default();
        let key = format!("{REASONING}{threshold}{suffix}");
        let reasoning = self.0.get(&key).filter(|value| !value.is_null());
        let reasoning = reasoning.map(|value| rate(&key, value)).transpose()?;
        self.whole(input, |part| if part == REASONING { Ok(reasoning) } else { find(part) }, tool_calls)
    }

    /// The steps of a model with a table of ranges: each request has the rates of its range.
    fn by_range(&self, ranges: &[Value], tool_calls: ToolRates) -> Result<Vec<PriceStep>, String> {
        let mut steps: Vec<PriceStep> = Vec::new();
        for range in ranges {
            let begin = range.get("range").and_then(|range| range.get(0)?.as_f64());
            let begin = begin.filter(|begin| *begin >= 0.0).ok_or("has a range without a beginning")? as u64;
            let find = |part: &str| match range.get(part).filter(|value| !value.is_null()) {
                Some(value) => rate(part, value).map(Some),
                // The one price that a model's own key can replace.
                None if part == OUTPUT => self.0.get(part).map(|value| rate(part, value)).transpose(),
                None => Ok(None),
            };
            let input = find(INPUT)?.ok_or("has a range without a price of input")?;
            let above_input_tokens = Some(begin).filter(|begin| *begin > 0);
            let rates = self.whole(input, find, tool_calls)?;
            steps.push(PriceStep { tier: None, above_input_tokens, rates });
        }
        steps.sort_by_key(|step| step.above_input_tokens);
        if steps.first().is_some_and(|step| step.above_input_tokens.is_some()) {
            return Err("has no price for a short input".to_owned());
        }
        Ok(steps)
    }

    fn whole(
        &self,
        input: Rate,
        find: impl Fn(&str) -> Result<Option<Rate>, String>,
        tool_calls: ToolRates,
    ) -> Result<Rates, String> {
        let output = match find(OUTPUT)? {
            Some(output) => output,
            None if self.is_one_of("mode", &WITHOUT_OUTPUT) => Rate::default(),
            None => return Err("has no price of output tokens".to_owned()),
        };
        if find(REASONING)?.is_some_and(|reasoning| reasoning != output) {
            return Err("has another price for reasoning than for other output".to_owned());
        }
        let usd = Currency::parse("USD").expect("three capital letters");
        let half = || self.is_one_of("litellm_provider", &[HALF_CACHED]).then(|| input.half());
        Ok(Rates {
            cached_input: find(CACHE_READ)?.or_else(half).unwrap_or(input),
            cache_write: find(CACHE_WRITE)?.unwrap_or(input),
            cache_write_1h: find(CACHE_WRITE_1H)?,
            tool_calls,
            ..Rates::new(usd, input, output)
        })
    }

    /// The prices of calls. A search whose price depends on its size becomes a note.
    fn tool_calls(&self, notes: &mut Vec<String>) -> Result<ToolRates, String> {
        let mut rates = ToolRates::default();
        if let Some(value) = self.0.get("file_search_cost_per_1k_calls").and_then(Value::as_f64) {
            rates[ToolKind::FileSearch as usize] = Some(decimal("file_search_cost_per_1k_calls", value)?);
        }
        let Some(searches) = self.0.get("search_context_cost_per_query").and_then(Value::as_object) else {
            return Ok(rates);
        };
        let costs: Vec<_> = searches.values().filter_map(Value::as_f64).collect();
        let is_counted = self.is_one_of("litellm_provider", &COUNTED_SEARCHES);
        match costs.first() {
            Some(first) if is_counted && costs.iter().all(|cost| cost == first) => {
                let rate = decimal("search_context_cost_per_query", first * 1_000.0)?;
                rates[ToolKind::WebSearch as usize] = Some(rate);
            }
            Some(_) => notes.push("searches cost extra".to_owned()),
            None => {}
        }
        Ok(rates)
    }

    fn is_inclusive(&self) -> bool {
        self.is_one_of("litellm_provider", &[INCLUSIVE])
    }

    fn is_one_of(&self, key: &str, words: &[&str]) -> bool {
        self.0.get(key).and_then(Value::as_str).is_some_and(|word| words.contains(&word))
    }

    /// The reason for which a model has no price of input tokens.
    fn unit(&self) -> String {
        let unit = self.0.keys().find_map(|key| Some(key.split_once("_cost_per_")?.1));
        match unit.map(|unit| unit.split('_').next().unwrap_or(unit)) {
            Some("token") | None => "has no price of input tokens".to_owned(),
            Some(unit) => format!("is priced per {unit}, not per token"),
        }
    }
}

/// A cost of a token as the price of a million.
fn rate(key: &str, value: &Value) -> Result<Rate, String> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let cost = number.ok_or_else(|| format!("has a {key} that is not a number"))?;
    decimal(key, cost * 1_000_000.0)
}

/// Rounds to the decimals of a rate.
fn decimal(key: &str, price: f64) -> Result<Rate, String> {
    Rate::parse(&format!("{price:.6}")).map_err(|_| format!("has a {key} that is no price"))
}

/// The number in `200k`.
fn tokens(words: &str) -> Option<u64> {
    let (digits, factor) = match words.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => (words, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}
