//! A bounded map that keeps recently used entries.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::support::no_hasher::NoHasher;

/// A map of hashes in two generations. A use moves an entry into the young one. When that is full
/// it becomes the old one, whose entries are dropped. So at most `capacity` entries live, and at
/// least the `capacity / 2` that were used last.
#[derive(Debug)]
pub(in crate::balance) struct Recent<V> {
    young: HashMap<u64, V, Hashed>,
    old: HashMap<u64, V, Hashed>,
    capacity: usize,
}

/// The keys are hashes already.
type Hashed = BuildHasherDefault<NoHasher>;

impl<V> Recent<V> {
    /// Creates an empty map for at most `capacity` entries, at least 2.
    pub(in crate::balance) fn new(capacity: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), capacity: capacity.max(2) }
    }

    /// Finds a recently used entry, without a change. After a miss, [`Recent::get`] may still find
    /// it.
    pub(in crate::balance) fn find_young(&self, key: u64) -> Option<&V> {
        self.young.get(&key)
    }

    /// Finds an entry, which counts as a use.
    pub(in crate::balance) fn get(&mut self, key: u64) -> Option<&V> {
        if let Some(value) = self.old.remove(&key) {
            self.insert(key, value);
        }
        self.young.get(&key)
    }

    pub(in crate::balance) fn insert(&mut self, key: u64, value: V) {
        if self.young.len() >= self.capacity / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(in crate::balance) fn values(&self) -> impl Iterator<Item = &V> {
        self.young.values().chain(self.old.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_is_bounded_and_keeps_what_was_used_last() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut map, mut used) = (Recent::new(64), Vec::new());
        for _ in 0..20_000 {
            let key = random.u64(..200);
            match map.get(key) {
                Some(&value) => assert_eq!(value, key),
                None => map.insert(key, key),
            }
            used.retain(|&other| other != key);
            used.push(key);
            assert!(map.values().count() <= 64);
            let last = &used[used.len().saturating_sub(32)..];
            assert!(last.iter().all(|key| map.young.contains_key(key) || map.old.contains_key(key)));
        }
    }
}
