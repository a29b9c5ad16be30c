//! The entries of an hour while they are added up.

use std::collections::HashMap;

use super::block::{Block, encode};
use super::key::Key;
use super::tally::Tally;

/// The entries of an hour.
#[derive(Debug, Default)]
pub(super) struct Hour {
    entries: HashMap<Box<[u8]>, Tally>,
    /// The number of rows.
    pub(super) records: u64,
    /// The bytes of the current key. The buffer is reused.
    key: Vec<u8>,
}

impl Hour {
    /// The sums of rows with this key.
    pub(super) fn tally(&mut self, key: &Key<'_>) -> &mut Tally {
        key.write(&mut self.key);
        if !self.entries.contains_key(self.key.as_slice()) {
            self.entries.insert(self.key.as_slice().into(), Tally::default());
        }
        self.entries.get_mut(self.key.as_slice()).expect("it was inserted")
    }

    /// Adds a block. Returns false if it is damaged.
    #[must_use]
    pub(super) fn add_block(&mut self, bytes: &[u8], records: u64) -> bool {
        let Some(mut block) = Block::new(bytes) else { return false };
        let mut tally = Tally::default();
        while let Some(key) = block.next(&mut tally) {
            self.tally(&key).add(&tally);
        }
        self.records += records;
        block.is_read()
    }

    /// Rounds seconds to milliseconds, for comparisons.
    pub(super) fn round_seconds(&mut self) {
        let seconds = self.entries.values_mut().filter_map(|tally| tally.billed_seconds.as_mut());
        seconds.for_each(|seconds| *seconds = (*seconds * 1e3).round());
    }

    /// The entries as a block, in the order of their keys: the same rows give the same bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut keys: Vec<_> = self.entries.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        let entries: Vec<_> = keys.into_iter().map(|(key, tally)| (Key::read(key), tally)).collect();
        encode(&entries)
    }
}
