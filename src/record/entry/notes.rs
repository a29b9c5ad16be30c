//! Notes of what goes on while the record is open.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Entry, millis};
use crate::codec::head::Headers;
use crate::llm::usage::Room;
use crate::record::{GroupUse, TurnObserver, UseObserver};
use crate::support::memory::Memory;

/// A remark about a request that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A session was routed without a model although routes match models.
    ModelComesLater,
    /// A limit with `at_limit = "warn"` let the request pass.
    LimitExceeded,
}

impl Note {
    const ALL: [Self; 2] = [Self::ModelComesLater, Self::LimitExceeded];

    fn text(self) -> &'static str {
        match self {
            Self::ModelComesLater => {
                "no route by model could apply: a WebSocket's messages name their model after it is granted; its URL may \
                 name one (?model=...)"
            }
            Self::LimitExceeded => "a limit with at_limit = \"warn\" had no room for the request",
        }
    }
}

/// The notes of a record, each at most once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notes(u8);

impl Notes {
    pub(super) fn add(&mut self, note: Note) {
        self.0 |= 1 << note as u8;
    }

    /// The texts of all notes. `None`: there are none.
    pub(super) fn text(self) -> Option<Box<str>> {
        if self.0 == 0 {
            return None;
        }
        let has = |note: &Note| self.0 & (1 << *note as u8) != 0;
        let texts: Vec<_> = Note::ALL.into_iter().filter(has).map(Note::text).collect();
        Some(texts.join("; ").into())
    }
}

/// The notes of the attempts at a request to a group. In a box, which becomes part of the record.
pub type GroupNotes = Rc<RefCell<Box<GroupUse>>>;

/// Records the time of a wait when it is dropped.
#[derive(Debug)]
pub(super) struct WaitGuard<'a> {
    entry: &'a mut Entry,
    since: Instant,
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        let waited = millis(self.since.elapsed());
        *self.entry.row().time_waiting_ms.get_or_insert_default() += waited;
    }
}

/// The fields of a form that go into the record.
#[derive(Debug, Default)]
pub struct FormNotes {
    /// The requested model.
    pub model: Option<Box<str>>,
    /// The end user.
    pub user: Option<Box<str>>,
}

impl Entry {
    /// Adds the observer of the request's use.
    pub fn observe(&mut self, observer: Box<dyn UseObserver>) {
        self.open.observer = Some(observer);
    }

    /// The observer of the turns of a session.
    pub fn turns(&mut self) -> Option<&mut dyn TurnObserver> {
        self.open.observer.as_mut()?.turns()
    }

    /// A counter for the bytes of a request body that passes through; the record takes it over when
    /// it closes.
    pub fn count_upload(&mut self) -> Rc<Cell<u64>> {
        Rc::clone(self.open.upload.get_or_insert_default())
    }

    /// Counts tags of the request that were left out.
    pub fn count_dropped_tags(&self, dropped: u64) {
        self.open.journal.health().tags_dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// Adds a note to `error`, unless the record gets an error of its own.
    pub fn note(&mut self, note: Note) {
        self.open.notes.add(note);
    }

    /// The memory budget of the process.
    pub fn memory(&self) -> &Memory {
        self.open.journal.room().memory()
    }

    /// The budget for the text of a response with this status. `None` if no text is needed.
    pub fn keeps_output(&mut self, status: u16) -> Option<&Room> {
        // A refused request generated nothing.
        self.open.estimate_input.take_if(|_| !(200..300).contains(&status));
        let estimate_input = self.open.estimate_input.as_ref()?;
        estimate_input.shape.has_output().then(|| self.open.journal.room())
    }

    /// The notes of a form that is read while it passes. When the record closes, they fill the
    /// fields that are still null.
    pub fn note_form(&mut self) -> Rc<RefCell<FormNotes>> {
        Rc::clone(self.open.form.get_or_insert_default())
    }

    /// The notes of the attempts at a request that was routed to `group`. The record takes them over
    /// when it closes.
    pub fn note_group(&mut self, group: Arc<str>) -> GroupNotes {
        let group_use = Box::new(GroupUse::new(group, self.open.started));
        Rc::clone(self.open.group.insert(Rc::new(RefCell::new(group_use))))
    }

    /// The time for which the request waited for limits, and in the queue of its group. `None`: it
    /// did not.
    pub fn time_waiting_ms(&self) -> Option<f64> {
        let for_limits = self.open.row.as_ref().and_then(|row| row.time_waiting_ms);
        let at_group = self.open.group.as_ref().and_then(|group| group.borrow().time_waiting_ms());
        match (for_limits, at_group) {
            (Some(limits), Some(group)) => Some(limits + group),
            (limits, group) => limits.or(group),
        }
    }

    /// Adds headers to a response that is relayed.
    pub fn add_headers(&mut self, headers: Headers) {
        self.open.headers = Some(Box::new(headers));
    }

    /// The headers that were added.
    pub fn headers(&self) -> Option<&Headers> {
        self.open.headers.as_deref()
    }

    /// Begins a wait for limits, which lasts until the guard is dropped.
    pub fn wait(&mut self) -> impl Drop {
        WaitGuard { entry: self, since: Instant::now() }
    }

    /// The number of attempts at members of a group. `None`: the request has no group.
    pub fn served(&self) -> Option<usize> {
        Some(self.open.group.as_ref()?.borrow().count())
    }

    /// The notes of the attempts, if there are any.
    pub fn group_notes(&self) -> Option<&GroupNotes> {
        self.open.group.as_ref()
    }

    /// Notes that the request's upstream is left out from now on, for this reason.
    pub fn note_opened(&mut self, reason: &'static str) {
        let upstream = self.open.row.as_ref().and_then(|row| row.upstream.clone());
        if let (Some(group), Some(upstream)) = (&self.open.group, upstream) {
            group.borrow_mut().note_opened(upstream, reason);
        }
    }
}
