//! Reserved descriptors, for the case that the process has no other left.

use std::fs::File;

/// Open files. If accepting fails because no descriptor is free, one is closed, so that the
/// connection can have it.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    size: usize,
    files: Vec<File>,
}

impl Reserve {
    /// Opens up to `size` files.
    pub(super) fn new(size: usize) -> Self {
        let mut reserve = Self { size, files: Vec::new() };
        reserve.fill();
        reserve
    }

    /// Reopens the spent files, as far as the system permits.
    pub(super) fn fill(&mut self) {
        while self.files.len() < self.size {
            let Ok(file) = File::open("/dev/null") else { break };
            self.files.push(file);
        }
    }

    /// Frees one descriptor. Returns false if none is left.
    pub(super) fn spend(&mut self) -> bool {
        self.files.pop().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_spent_one_by_one_and_refilled() {
        let mut reserve = Reserve::new(2);
        assert!(reserve.spend() && reserve.spend() && !reserve.spend());
        reserve.fill();
        assert!(reserve.spend());
        assert!(!Reserve::new(0).spend());
    }
}
