//! What an answer teaches of its upstream: whether it reports counts unasked.

use std::fmt;
use std::sync::Arc;

use crate::usage::Tally;

/// Takes in what is learnt of one upstream.
pub trait Learns: Send + Sync + fmt::Debug {
    /// Its answers have counts that it sends unasked.
    fn note_counts(&self);

    /// An answer of this model had none, though it was not asked since the upstream was believed to
    /// count itself.
    fn note_lack(&self, model: u64);
}

/// Learnt at the end of an answer.
#[derive(Debug)]
pub struct Lesson {
    /// Who learns.
    pub pupil: Arc<dyn Learns>,
    /// The model, by whatever number the pupil knows it.
    pub model: u64,
    /// Usage was asked for.
    pub asked: bool,
}

impl Lesson {
    /// From what was found in a whole answer.
    pub(super) fn learn(self, tally: &Tally) {
        match (self.asked, tally.has_timings) {
            (true, true) => self.pupil.note_counts(),
            (false, false) if tally.usage.is_none() && tally.error.is_none() => {
                self.pupil.note_lack(self.model);
            }
            _ => {}
        }
    }
}
