//! Usage that a legacy completion reports per choice.
//!
//! llama.cpp responds to several prompts with one choice each, and the event that ends a choice has
//! that choice's usage. So usage beside a single choice with an index and a finish reason belongs
//! to that choice, and usage of different indexes is added up. Usage beside no choice, or several,
//! covers all of them and replaces the usage before it. A service that reports usage beside an
//! unfinished choice, or twice for one index, reports a running total, of which the last one
//! counts. Chat completions are never added up, since their services report the total of all
//! choices.

use super::extracted::Shares;

/// The largest number of choices that are counted separately.
const MOST: usize = 1024;

/// The choices whose usage was added up.
#[derive(Debug, Default, PartialEq)]
pub struct Choices {
    indexes: Vec<u64>,
    /// The service reports running totals.
    is_cumulative: bool,
}

impl Choices {
    /// Registers a usage. Returns true if it is added to the ones before it.
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
