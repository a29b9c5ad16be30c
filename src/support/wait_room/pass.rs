//! One pass over the queue: requests that need the same places are looked at once.

use super::{Blocked, Waits};

/// The largest number of kinds of requests that are looked at in a pass: each look costs a choice.
const LOOKS: usize = 32;

/// The requests for which no place was found, by the places that they need.
pub(super) struct Pass<W: Waits> {
    now: W::Time,
    blocked: Vec<(W::Class, Blocked<W::Time>)>,
    /// The class of the request that makes the pass, which is looked at in any case.
    pub(super) own: Option<W::Class>,
    /// The step of the request that was served last.
    pub(super) step: Option<W::Step>,
}

impl<W: Waits> Pass<W> {
    pub(super) fn new(now: W::Time) -> Self {
        Self { now, blocked: Vec::new(), own: None, step: None }
    }

    /// Returns true if the next step of the request is known, and keeps that step.
    pub(super) fn serves(&mut self, request: &mut W, random: u64) -> bool {
        let class = request.class();
        let is_looked_at = self.blocked.len() < LOOKS || self.own == Some(class);
        if !is_looked_at || self.find(class).is_some() {
            return false;
        }
        let step = request.step(self.now, random);
        let Some(blocked) = W::blocked(&step) else {
            self.step = Some(step);
            return true;
        };
        self.blocked.push((class, blocked));
        // The request may ask for a place again that it has asked for before.
        if request.class() != class {
            self.blocked.push((request.class(), blocked));
        }
        false
    }

    /// The state of the own class, if it is known. `None`: the request waits no longer.
    pub(super) fn blocked(&self) -> Option<Option<Blocked<W::Time>>> {
        self.own.map(|own| self.find(own))
    }

    fn find(&self, class: W::Class) -> Option<Blocked<W::Time>> {
        self.blocked.iter().find(|(other, _)| *other == class).map(|(_, blocked)| *blocked)
    }
}
