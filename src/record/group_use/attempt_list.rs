//! The attempts at a request.

use serde::{Serialize, Serializer};

use super::AttemptRecord;

/// Attempts in their order. Most requests have one, which needs no memory of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttemptList {
    /// All but the last.
    earlier: Vec<AttemptRecord>,
    /// `None`: there are none.
    last: Option<AttemptRecord>,
}

impl AttemptList {
    pub(super) const NONE: Self = Self { earlier: Vec::new(), last: None };

    pub(super) fn push(&mut self, attempt: AttemptRecord) {
        if let Some(earlier) = self.last.take() {
            self.earlier.push(earlier);
        }
        self.last = Some(attempt);
    }

    pub fn len(&self) -> usize {
        self.earlier.len() + usize::from(self.last.is_some())
    }

    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// All but the last.
    pub fn earlier(&self) -> &[AttemptRecord] {
        &self.earlier
    }

    pub fn last(&self) -> Option<&AttemptRecord> {
        self.last.as_ref()
    }

    pub fn last_mut(&mut self) -> Option<&mut AttemptRecord> {
        self.last.as_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = &AttemptRecord> {
        self.earlier.iter().chain(&self.last)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut AttemptRecord> {
        self.earlier.iter_mut().chain(&mut self.last)
    }
}

impl Serialize for AttemptList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
