//! Counts the tokens of a stored result once, although several requests may retrieve it.
//!
//! A response in the background, a run, a video and a batch continue after their request has its
//! response, and report their usage to every request that retrieves them. [`judge`] is the rule:
//!
//! * the first response with the final usage counts: the one of the request that created the
//!   result, of a retrieval, of a cancel or of a resumed stream;
//! * every other response has no tokens;
//! * a retrieved result that this process does not know counts only if it certainly ran in the
//!   background. A response with `background: false` was counted when it was created. If the
//!   response does not tell, its usage is left out, and the record says so: a missing count is
//!   better than a double one.
//!
//! The results are kept in memory. A record has the key of the result that it counts, so that a
//! ledger can keep the key for the next process ([`Looks::remember`]).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::llm::provider::{Stored, StoredKind};
use crate::llm::usage::{Tally, Usage};

/// The smallest number of results that are remembered; at most twice as many, of 32 bytes each,
/// some 4 MB in all. A forgotten result is judged like an unknown one.
const REMEMBERED: usize = 65_536;

/// The note in a record whose usage was left out.
pub(super) const LEFT_OUT: &str = "its usage is not counted: the response was not made through this process, and does not say \
                                   whether it was made in the background";

/// The state of a known result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// The result was created, and its usage has not been seen.
    Pending,
    /// A record has its usage.
    Counted,
}

/// The information about a result in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// The request created the result.
    is_new: bool,
    /// The response has usage, is whole and final: no later response has more.
    is_final: bool,
    /// The result runs in the background. `None`: the response does not tell.
    is_background: Option<bool>,
}

/// The decision on the usage in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The usage belongs to the record.
    Counts,
    /// The usage was counted before, or is not final.
    Passes,
    /// The usage may not have been counted.
    LeftOut,
}

/// A verdict, and the key of its result, if the result has an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) verdict: Verdict,
    pub(super) key: Option<u64>,
}

/// The rule: the verdict on the usage, and the state of the result afterwards.
fn judge(known: Option<Known>, seen: Seen) -> (Verdict, Option<Known>) {
    let counts = (Verdict::Counts, Some(Known::Counted));
    match (known, seen) {
        (_, Seen { is_final: false, is_new, .. }) => {
            (Verdict::Passes, known.or(is_new.then_some(Known::Pending)))
        }
        (Some(Known::Counted), _) => (Verdict::Passes, known),
        (Some(Known::Pending), _) | (None, Seen { is_new: true, .. }) => counts,
        (None, Seen { is_background: Some(true), .. }) => counts,
        (None, Seen { is_background: Some(false), .. }) => (Verdict::Passes, None),
        (None, Seen { is_background: None, .. }) => (Verdict::LeftOut, None),
    }
}

/// The results that this process has seen.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Memory>);

impl Looks {
    /// Decides whether the usage of a response counts. `upstream` is its source; `is_whole` means
    /// that it was complete. `None` if the response is not one of a stored result, so that the
    /// usage is the request's own.
    pub(super) fn settle(
        &self,
        stored: &Stored,
        upstream: &str,
        tally: &Tally,
        is_whole: bool,
    ) -> Option<Settled> {
        let is_new = stored.id.is_none();
        let is_background = match tally.background {
            said @ Some(_) if stored.kind.is_usually_whole() => said,
            None if stored.kind.is_usually_whole() => (is_new && stored.is_known).then_some(true),
            _ => Some(true),
        };
        if is_new && is_background != Some(true) {
            return None;
        }
        let Some(id) = stored.id.as_deref().or(tally.id.as_deref()) else {
            // Without an id, the result cannot be requested again.
            return is_whole.then_some(Settled { verdict: Verdict::Counts, key: None });
        };
        let is_final = is_whole && !tally.pending && tally.usage.is_some();
        let key = key(upstream, stored.kind, id);
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = memory.get(key);
        let (verdict, after) = judge(before, Seen { is_new, is_final, is_background });
        if let Some(after) = after.filter(|_| after != before) {
            memory.put(key, after);
        }
        Some(Settled { verdict, key: Some(key) })
    }

    /// Takes over the results that an earlier process has counted, the latest last.
    pub(super) fn remember(&self, counted: &[u64]) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.iter().for_each(|key| memory.put(*key, Known::Counted));
    }
}

impl Verdict {
    /// The decision on the record's usage.
    pub(super) fn of(self, usage: Option<Usage>) -> Option<Usage> {
        usage.filter(|_| self == Self::Counts)
    }
}

/// The known results by key, in two maps: when the younger is full, the older is dropped.
#[derive(Debug, Default)]
struct Memory {
    young: HashMap<u64, Known>,
    old: HashMap<u64, Known>,
}

impl Memory {
    fn get(&self, key: u64) -> Option<Known> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn put(&mut self, key: u64, known: Known) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, known);
    }
}

/// FNV-1a, which gives the same key in every process. Services choose the ids, so a client cannot
/// choose two that collide.
fn key(upstream: &str, kind: StoredKind, id: &str) -> u64 {
    let parts = [upstream, "\0", kind.as_str(), "\0", id];
    let bytes = parts.iter().flat_map(|part| part.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests;
