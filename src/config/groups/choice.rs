//! `[groups.NAME]` `balance` and `sticky`: the choice of a member within a tier.

use http::HeaderName;

use crate::balance::{ChoiceBy, StickyBy};
use crate::config::kind::{Kind, choice, list, parsed};
use crate::config::notes::Read;
use crate::config::reader::{Entry, Table};
use crate::config::suggest::suggest;
use crate::llm::rewrite::headers;

const BALANCE: &[(&str, ChoiceBy)] = &[("latency", ChoiceBy::Latency), ("weight", ChoiceBy::Weight)];

/// The words of `sticky`; any other text is the name of a header.
const WORDS: [&str; 4] = ["session", "prompt_cache_key", "conversation", "prompt"];

/// The default of `sticky`.
const STICKY: [&str; 3] = ["session", "prompt_cache_key", "prompt"];

pub(super) fn balance(table: &Table<'_>) -> Read<ChoiceBy> {
    table.or_default("balance", choice(BALANCE).default("latency"))
}

pub(super) fn sticky(table: &Table<'_>) -> Read<Vec<StickyBy>> {
    table.or_default("sticky", words().default(STICKY.to_vec()))
}

fn words() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Vec<StickyBy>>> {
    const WHAT: &str = "text in quotes, such as \"session\" or the name of a header";
    list(parsed("word or header name", None, WHAT, word))
}

fn word(text: &str) -> Result<StickyBy, String> {
    if !WORDS.contains(&text) {
        if let Some(meant) = suggest(text, WORDS).filter(|_| !text.contains('-')) {
            return Err(format!("{text:?} is unknown; did you mean {meant:?}?"));
        }
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            return Err(format!("{text:?} is not a header name: write one, or some of {}", WORDS.join(", ")));
        };
        if !headers::is_forwarded(&name) {
            return Err(format!("{text:?} is a header that is never forwarded: choose another one"));
        }
    }
    StickyBy::parse(text).ok_or_else(|| format!("{text:?} is not a header name"))
}
