//! Notes of what goes on while the record is open.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::Entry;
use crate::record::GroupUse;

/// The fields of a form that go into the record.
#[derive(Debug, Default)]
pub struct FormNotes {
    /// The requested model.
    pub model: Option<Box<str>>,
    /// The end user.
    pub user: Option<Box<str>>,
}

impl Entry {
    /// The notes of a form that is read while it passes. When the record closes, they fill the
    /// fields that are still null.
    pub fn note_form(&mut self) -> Rc<RefCell<FormNotes>> {
        Rc::clone(self.open.form.get_or_insert_default())
    }

    /// The notes of the attempts at a request that was routed to `group`. The record takes them over
    /// when it closes.
    pub fn note_group(&mut self, group: Arc<str>) -> Rc<RefCell<GroupUse>> {
        let group_use = GroupUse::new(group, self.open.started);
        Rc::clone(self.open.group.insert(Rc::new(RefCell::new(group_use))))
    }

    /// The time for which the request waited in the queue of its group. `None`: it did not.
    pub fn time_waiting_ms(&self) -> Option<f64> {
        self.open.group.as_ref().and_then(|group| group.borrow().time_waiting_ms)
    }

    /// The notes of the attempts, if there are any.
    pub fn group_notes(&self) -> Option<&Rc<RefCell<GroupUse>>> {
        self.open.group.as_ref()
    }

    /// Notes that the request's upstream is left out from now on, for this reason.
    pub fn note_opened(&mut self, reason: &'static str) {
        let upstream = self.open.row.as_ref().and_then(|row| row.upstream.clone());
        if let (Some(group), Some(upstream)) = (&self.open.group, upstream) {
            group.borrow_mut().opened.push((upstream, reason));
        }
    }
}
