//! Stored results, whose tokens are counted once however often they are looked at.
//!
//! A response in the background, a run, a video and a batch go on when their request has been
//! answered, and tell their usage to every request that asks for them later. [`judge`] is the rule:
//!
//! * the first response that has the final usage counts: that of the request that made the result,
//!   of a look at it, of a cancel or of a resumed stream;
//! * every other response has no tokens;
//! * of a result that this process has not seen before, a look counts only if the result goes on
//!   behind its own request for certain: a response that does not say `background: true` was
//!   counted when it was made. Where it does not say either, it is left out, and the record says
//!   so: rather a number too few than a token twice.
//!
//! What was seen is remembered in memory. A record bears the key of what it counts, so that a
//! ledger can keep it for the next process ([`Looks::remember`]).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::llm::provider::{Stored, StoredKind};
use crate::llm::usage::{Tally, Usage};

/// The results that are remembered at least; twice as many at most, of 32 bytes each, some 4 MB in
/// all. A forgotten result is judged like one that was never seen.
const REMEMBERED: usize = 65_536;

/// The note in a record whose usage was left out.
pub(super) const LEFT_OUT: &str = "its usage is not counted: the response was not made through this process, and does not say \
                                   whether it was made in the background";

/// The state of a known result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It was made, and its usage has not been seen.
    Pending,
    /// Its usage is in a record.
    Counted,
}

/// What a response says of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// Its request made it.
    is_new: bool,
    /// It has usage, and is whole and final: nothing will be added to it.
    is_final: bool,
    /// It goes on behind its own request for certain; `None`: it does not say.
    is_background: Option<bool>,
}

/// The decision on the usage in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the record's.
    Counts,
    /// It was counted, or is not final.
    Passes,
    /// It may not have been counted.
    LeftOut,
}

/// A verdict, and the key of the result that it is on, if that has an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) verdict: Verdict,
    pub(super) key: Option<u64>,
}

/// The rule: what becomes of the usage, and what is known of the result afterwards.
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
    /// Whether the usage of a response counts. `upstream`: where it comes from; `is_whole`: it came
    /// to its end. `None`: the response is of no stored result, and its request's own.
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
            // It cannot be requested again.
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

    /// Takes over what an earlier process has counted, the latest last.
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

/// What is known, by key: two maps, the older of which is forgotten when the younger is full.
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

/// FNV-1a: the same in every process. Services make up the ids, so a client cannot choose two that
/// collide.
fn key(upstream: &str, kind: StoredKind, id: &str) -> u64 {
    let parts = [upstream, "\0", kind.as_str(), "\0", id];
    let bytes = parts.iter().flat_map(|part| part.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests;
