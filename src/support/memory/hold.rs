//! Bytes that one owner has taken from the budget.

use super::{Memory, MemoryPart};

/// Bytes of one part, given back on drop.
#[derive(Debug)]
pub struct MemoryHold {
    memory: Memory,
    part: MemoryPart,
    bytes: usize,
}

impl MemoryHold {
    pub(super) fn new(memory: Memory, part: MemoryPart) -> Self {
        Self { memory, part, bytes: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows to `bytes` in all, if the limit allows it and the part then has at most `most`. Returns
    /// false and changes nothing otherwise.
    pub fn grow_to(&mut self, bytes: usize, most: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = more == 0 || self.memory.try_add(self.part, more, most);
        self.bytes += if fits { more } else { 0 };
        fits
    }

    /// Holds `bytes` in all from now on, whether they fit or not.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.memory.add(self.part, bytes - self.bytes);
        } else if bytes < self.bytes {
            self.memory.subtract(self.part, self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Like [`MemoryHold::set`], for a hold that is complete.
    #[must_use]
    pub fn of(mut self, bytes: usize) -> Self {
        self.set(bytes);
        self
    }
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        self.memory.subtract(self.part, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hold_gives_back_what_it_took() {
        let memory = Memory::new(Some(1000));
        let mut hold = memory.hold(MemoryPart::Decoders).of(10);
        assert!(hold.grow_to(600, usize::MAX) && hold.grow_to(500, usize::MAX));
        assert!(!hold.grow_to(1001, usize::MAX) && !hold.grow_to(601, 600));
        assert_eq!((hold.bytes(), memory.used()), (600, 600));
        hold.set(2000);
        assert_eq!(memory.excess(), 1000);
        hold.set(5);
        assert_eq!(memory.of(MemoryPart::Decoders), 5);
        drop(hold);
        assert_eq!(memory.used(), 0);
    }
}
