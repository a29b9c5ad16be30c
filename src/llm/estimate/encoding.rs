//! Maps models to encodings.

use std::sync::atomic::{AtomicBool, Ordering};

use tiktoken::CoreBpe;

/// The memory of the tables of one encoding in bytes, about the same for each.
const TABLES: usize = 14 << 20;

/// The encodings whose tables are unpacked.
static UNPACKED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// The memory of the tables that are unpacked, which the process keeps from then on.
pub fn tables_bytes() -> usize {
    UNPACKED.iter().filter(|unpacked| unpacked.load(Ordering::Relaxed)).count() * TABLES
}

/// A byte-pair encoding whose tables are part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The encoding of GPT-4o and later models; an approximation for the models of all other
    /// services.
    O200k,
    /// The encoding of GPT-4, GPT-3.5 and the embedding models.
    Cl100k,
}

impl Encoding {
    /// The encoding of a model. A service's prefix is ignored: `openai/gpt-4` is `gpt-4`.
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        match tiktoken::model_to_encoding(name) {
            Some("cl100k_base") => Self::Cl100k,
            _ => Self::O200k,
        }
    }

    /// The tables, unpacked at the first call.
    pub(super) fn tables(self) -> Option<&'static CoreBpe> {
        let tables = tiktoken::get_encoding(match self {
            Self::O200k => "o200k_base",
            Self::Cl100k => "cl100k_base",
        });
        UNPACKED[self as usize].store(true, Ordering::Relaxed);
        tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_its_own_encoding_and_an_unknown_one_the_newest() {
        for model in [
            "gpt-4",
            "gpt-4-0613",
            "gpt-3.5-turbo",
            "gpt-35-turbo",
            "text-embedding-3-small",
            "openai/gpt-4-turbo",
            "ft:gpt-3.5-turbo:me::1",
        ] {
            assert_eq!(Encoding::of(model), Encoding::Cl100k, "{model}");
        }
        for model in [
            "gpt-4o",
            "gpt-4.1-mini",
            "gpt-5",
            "o3",
            "chatgpt-4o-latest",
            "claude-sonnet-4",
            "llama-3.3-70b",
            "my-deployment",
            "",
        ] {
            assert_eq!(Encoding::of(model), Encoding::O200k, "{model}");
        }
    }

    #[test]
    fn both_count_as_the_cookbook_says() {
        for (text, cl100k, o200k) in
            [("antidisestablishmentarianism", 6, 6), ("2 + 2 = 4", 7, 7), ("お誕生日おめでとう", 9, 8)]
        {
            assert_eq!(Encoding::Cl100k.tables().unwrap().count(text), cl100k, "{text}");
            assert_eq!(Encoding::O200k.tables().unwrap().count(text), o200k, "{text}");
        }
    }
}
