//! The state that the simulator keeps between requests: files and responses. It is bounded; the
//! oldest entry is dropped first.

use std::collections::VecDeque;

/// Values by number.
#[derive(Debug)]
pub(super) struct Store<T> {
    /// The number, the value and its size of each entry, from the oldest on.
    entries: VecDeque<(u64, T, usize)>,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
}

impl<T> Store<T> {
    /// An empty store for this many values of this many bytes in total.
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, max_entries, max_bytes }
    }

    /// Keeps a value of `bytes` bytes under a new number. A value that is too large is not kept.
    pub(super) fn insert(&mut self, number: u64, value: T, bytes: usize) {
        if bytes > self.max_bytes {
            return;
        }
        while self.entries.len() >= self.max_entries || self.bytes + bytes > self.max_bytes {
            let Some((_, _, freed)) = self.entries.pop_front() else { return };
            self.bytes -= freed;
        }
        self.entries.push_back((number, value, bytes));
        self.bytes += bytes;
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.entries.iter_mut().find(|entry| entry.0 == number).map(|entry| &mut entry.1)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.entries.iter().position(|entry| entry.0 == number)?;
        let (_, value, bytes) = self.entries.remove(at)?;
        self.bytes -= bytes;
        Some(value)
    }

    /// The values from the newest to the oldest.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().rev().map(|(number, value, _)| (*number, value))
    }
}

/// The number in an id of the simulator: a prefix and hexadecimal digits.
pub(super) fn number_of(id: &str, prefix: &str) -> Option<u64> {
    u64::from_str_radix(id.strip_prefix(prefix)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut store = Store::new(3, 10);
        for number in 0..5 {
            store.insert(number, number * 10, 3);
        }
        assert_eq!(store.iter().collect::<Vec<_>>(), [(4, &40), (3, &30), (2, &20)]);
        store.insert(5, 50, 8);
        assert_eq!(store.iter().collect::<Vec<_>>(), [(5, &50)], "by its bytes");
        store.insert(6, 60, 11);
        assert_eq!(store.get_mut(5), Some(&mut 50), "what is too large is not kept");
        assert_eq!((store.remove(5), store.remove(5)), (Some(50), None));
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn an_id_has_its_number() {
        assert_eq!(number_of("file-00ab", "file-"), Some(0xab));
        assert_eq!(number_of("resp_x", "resp_"), None);
        assert_eq!(number_of("x", "resp_"), None);
    }
}
