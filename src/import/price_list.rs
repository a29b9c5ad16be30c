//! LiteLLM's published price list (`model_prices_and_context_window.json`), whose costs are per
//! token.
//!
//! A model is read only if requests of text have exactly its prices. A part that other requests have
//! beside text becomes a note, and a price that depends on something unknown here, such as the hour,
//! is an error: a wrong price is worse than none.

mod entry;

use serde_json::{Map, Value};

use super::services::PriceSource;
use crate::llm::price::Rates;
use crate::llm::route::Glob;

/// The first key of the list, which describes the others.
const SAMPLE: &str = "sample_spec";

/// A whole list.
#[derive(Clone, Debug)]
pub struct PriceList(Map<String, Value>);

/// The prices of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedModel {
    /// One for each tier and each length of the input, with distinct keys.
    pub steps: Vec<PriceStep>,
    /// The parts of the model's price that are not in `steps`.
    pub notes: Vec<String>,
}

/// The rates of a tier from some input on.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceStep {
    /// The tier as services name it. `None`: the standard tier.
    pub tier: Option<String>,
    /// The input above which the rates apply. `None`: any.
    pub above_input_tokens: Option<u64>,
    pub rates: Rates,
}

impl PriceList {
    /// Parses the file.
    ///
    /// # Errors
    /// Fails with a message if the text is not such a list.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("is not JSON: {error}"))?;
        let Value::Object(entries) = value else { return Err(NOT_A_LIST.to_owned()) };
        let is_entry = |entry: &Value| entry.get("litellm_provider").is_some();
        match entries.values().any(is_entry) {
            true => Ok(Self(entries)),
            false => Err(NOT_A_LIST.to_owned()),
        }
    }

    /// The keys that match a name or a pattern, in the order of the list.
    pub fn matching<'a>(&'a self, pattern: &str) -> impl Iterator<Item = &'a str> {
        let glob = Glob::new(pattern);
        self.0.keys().map(String::as_str).filter(move |key| *key != SAMPLE && glob.matches(key))
    }

    /// The key of a model of a source. `None`: the list does not have it.
    pub fn key(&self, source: &PriceSource, model: &str) -> Option<&str> {
        let model = base_of_tuned(model);
        // Vertex AI names the publisher in front of the model.
        let models = [model, model.strip_prefix("google/").unwrap_or(model)];
        let keys = source
            .prefixes
            .iter()
            .flat_map(|prefix| models.iter().map(move |model| format!("{prefix}{model}")));
        let found = keys.filter_map(|key| self.0.get_key_value(&key));
        let is_of = |(_, entry): &(&String, &Value)| source.has(entry);
        found.filter(is_of).map(|(key, _)| key.as_str()).next()
    }

    /// The name of a key's model without the prefix of the source. `None`: another source has it.
    pub fn model<'a>(&self, source: &PriceSource, key: &'a str) -> Option<&'a str> {
        let entry = self.0.get(key)?;
        let prefixes = source.prefixes.iter().filter(|prefix| source.has(entry) || !prefix.is_empty());
        prefixes.filter_map(|prefix| key.strip_prefix(prefix.as_str())).min_by_key(|model| model.len())
    }

    /// The name of a key's model without any prefix.
    pub fn bare_model<'a>(&self, key: &'a str) -> &'a str {
        let provider = self.0.get(key).and_then(|entry| entry.get("litellm_provider")?.as_str());
        let prefix = |(prefix, model): (&str, &'a str)| (Some(prefix) == provider).then_some(model);
        key.split_once('/').and_then(prefix).unwrap_or(key)
    }

    /// The prices of a key.
    ///
    /// # Errors
    /// Fails with the reason for which `[[prices]]` cannot express them.
    pub fn prices(&self, key: &str) -> Result<ListedModel, String> {
        match self.0.get(key) {
            Some(Value::Object(entry)) => entry::listed(entry),
            _ => Err("is not in the list".to_owned()),
        }
    }
}

const NOT_A_LIST: &str = "is not LiteLLM's price list: no entry has a litellm_provider";

impl PriceSource {
    fn has(&self, entry: &Value) -> bool {
        let provider = entry.get("litellm_provider").and_then(Value::as_str).unwrap_or_default();
        self.providers.iter().any(|name| provider.starts_with(name.as_str()))
    }
}

/// The model by which the list knows a model tuned by a customer: `ft:gpt-4o-mini-2024-07-18` of
/// `ft:gpt-4o-mini-2024-07-18:acme::id`.
pub fn base_of_tuned(model: &str) -> &str {
    let end = || model.match_indices(':').nth(1).map(|(at, _)| at);
    match model.starts_with("ft:").then(end).flatten() {
        Some(end) => &model[..end],
        None => model,
    }
}

/// The name without the date at its end: `gpt-4.1` of `gpt-4.1-2025-04-14`, `claude-sonnet-4` of
/// `claude-sonnet-4-20250514`. Requests mostly name it.
pub fn without_date(model: &str) -> Option<&str> {
    const FORMS: [&str; 2] = ["-dddd-dd-dd", "-dddddddd"];
    FORMS.iter().find_map(|form| {
        let (name, date) = model.split_at_checked(model.len().checked_sub(form.len())?)?;
        let fits = |(byte, form): (u8, u8)| if form == b'd' { byte.is_ascii_digit() } else { byte == form };
        (!name.is_empty() && date.bytes().zip(form.bytes()).all(fits)).then_some(name)
    })
}

#[cfg(test)]
mod tests;
