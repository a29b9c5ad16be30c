//! The decisions of a walk through one JSON text, value by value.

use super::Output;
use super::extracted::Extracted;
use super::json::Kind;
use super::output::Part;
use super::places::{Key, Place, Step};
use super::slots::Slot;
use super::whole;

/// The deepest wanted place: the document, `choices`, its element, `delta`, a list of its content,
/// that list's element, and the same once more inside it.
pub(super) const DEPTHS: usize = 10;

/// The state of a walk from value to value, besides its way through the text.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The text is a body, not an event.
    pub(super) is_body: bool,
    /// The result's id is wanted.
    pub(super) keeps_id: bool,
    /// The delta has had its reasoning; some services send it under two keys.
    has_reasoned: bool,
    pub(super) extracted: Extracted,
}

impl Walk {
    pub(super) fn of_event(keeps_id: bool) -> Self {
        Self { keeps_id, ..Self::default() }
    }

    /// Reads a text that lies whole in one buffer, as [`whole::read`]. The text of a body is read a
    /// second time for its output, if it has no usage: nearly all have, and need no output.
    pub(super) fn read(&mut self, text: &[u8], output: Option<&mut Output>) -> bool {
        if !self.is_body {
            return whole::read(text, self, output);
        }
        let is_whole = whole::read(text, self, None);
        if is_whole && self.extracted.has_text() && !self.extracted.has_counts() && output.is_some() {
            whole::read(text, &mut self.restarted(), output);
        }
        is_whole
    }

    /// Begins a value of `place`, and tells how it is treated.
    #[inline(always)]
    pub(super) fn begin(&mut self, place: Place, key: Key, kind: Kind) -> Step {
        if key == Key::Other && !place.looks_at_all() {
            return Step::Pass;
        }
        if key.is_forgotten() {
            self.extracted.forget(place, key);
        }
        self.extracted.content |= place.is_content();
        let step = match place.step(key, kind) {
            Step::Pass if self.is_body => place.step_in_body(key, kind),
            step => step,
        };
        match step {
            Step::Enter(place) => Step::Enter(self.enter(place)),
            Step::Want(Slot::Id(_) | Slot::Background(_)) if !self.keeps_id => Step::Pass,
            step => step,
        }
    }

    #[inline]
    fn enter(&mut self, place: Place) -> Place {
        let place = match place {
            Place::Added if !self.extracted.adds_item => Place::Done,
            place => place,
        };
        if let Some(at) = place.item() {
            self.extracted.items.begin(at);
        }
        self.has_reasoned &= !matches!(place, Place::Delta | Place::EventDelta);
        if place == Place::Choice {
            self.extracted.choice_begins();
        }
        place
    }

    /// Begins the output text whose first byte is `byte`, at `at`. Returns where its inside begins;
    /// `None` if it does not count.
    #[inline]
    pub(super) fn begin_text(&mut self, part: Part, byte: u8, at: usize) -> Option<usize> {
        let is_json = part == Part::Json;
        if !is_json && byte != b'"' {
            return None;
        }
        // The first occurrence has set `content` already.
        if part == Part::Reasoning && std::mem::replace(&mut self.has_reasoned, true) {
            return None;
        }
        let from = if is_json { at } else { at + 1 };
        self.extracted.text_begins(part, from);
        Some(from)
    }

    /// Resets the walk.
    pub(super) fn restart(&mut self) {
        *self = self.restarted();
    }

    fn restarted(&self) -> Self {
        Self { is_body: self.is_body, keeps_id: self.keeps_id, ..Self::default() }
    }
}
