//! Usage that a legacy completion reports choice by choice.
//!
//! llama.cpp answers each of several prompts with a choice of its own, and the event that ends a
//! choice has the usage of that choice. So usage beside one choice that has an index and a finish
//! reason is that choice's own, and those of different indexes are added up. Usage beside no
//! choice, or several, is that of all and replaces what there was. A service that reports usage
//! beside a choice that goes on, or twice for one index, reports what all have used so far: of it,
//! the last counts. Chat completions are never added up, since their services report what all
//! choices used.

use super::extracted::Shares;

/// The most choices that are told apart.
const MOST: usize = 1024;

/// The choices whose usage has been added up.
#[derive(Debug, Default, PartialEq)]
pub struct Choices {
    indexes: Vec<u64>,
    /// The service reports what all of them have used so far.
    is_cumulative: bool,
}

impl Choices {
    /// Whether a usage adds to those before it.
    pub(super) fn add(choices: &mut Option<Box<Self>>, shares: Shares) -> bool {
        if shares == Shares::All && choices.is_none() {
            return false;
        }
        let choices = choices.get_or_insert_default();
        match shares {
            Shares::Own(index) if !choices.is_cumulative => {
                choices.is_cumulative = choices.indexes.contains(&index) || choices.indexes.len() == MOST;
                choices.indexes.push(index);
                !choices.is_cumulative && choices.indexes.len() > 1
            }
            Shares::Own(_) => false,
            Shares::SoFar => {
                choices.is_cumulative = true;
                false
            }
            Shares::All => {
                choices.indexes.clear();
                false
            }
        }
    }
}
