//! The end of a record.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use http::HeaderValue;

use super::id::header;
use super::{Entry, FormNotes, Open, millis};
use crate::record::Outcome;

impl Entry {
    /// Closes the record now and hands it on. A second call does nothing.
    pub fn close(&mut self, outcome: Outcome) {
        self.close_at(outcome, Instant::now());
    }

    /// Does the same for a caller that knows the time of the end.
    pub fn close_at(&mut self, outcome: Outcome, now: Instant) {
        if outcome == Outcome::ClientDisconnected && self.open.row.is_some() {
            self.client_left_at(now);
        }
        self.finish(outcome, now);
        let Open { row, estimate_input, observer, journal, .. } = &mut *self.open;
        match (row.take(), estimate_input.take()) {
            (None, _) => {}
            (Some(row), Some(mut estimate_input)) if estimate_input.may_have_tokens => {
                estimate_input.observer = observer.take();
                if let Some(observer) = &mut estimate_input.observer {
                    observer.on_end();
                }
                journal.estimate(row, estimate_input)
            }
            (Some(row), _) => journal.push_observed(row, observer.take()),
        }
    }

    /// Marks the client as authenticated: from now on a refusal gets its own record.
    pub fn admit(&mut self) {
        self.open.is_admitted = true;
    }

    /// Closes the record of a refused request with this reason. Beyond a rate, refusals before
    /// [`Self::admit`] share a record: returns the id of the record that counts this one.
    pub fn refuse(&mut self, reason: &'static str) -> HeaderValue {
        if self.open.is_admitted {
            self.close(Outcome::Rejected);
            return self.id();
        }
        self.finish(Outcome::Rejected, Instant::now());
        match self.open.row.take() {
            Some(row) => header(self.open.journal.refuse(reason, row)),
            None => self.id(),
        }
    }

    /// Fills in what is known at the end.
    fn finish(&mut self, outcome: Outcome, now: Instant) {
        let Open {
            row: Some(row), started, journal, upload, form, group, notes, registered, observer, ..
        } = &mut *self.open
        else {
            return;
        };
        *registered = None;
        row.outcome = outcome;
        row.duration_ms = millis(now.saturating_duration_since(*started));
        if let Some(upload) = upload {
            row.request_bytes = upload.get();
        }
        if let Some(form) = form {
            let FormNotes { model, user } = form.take();
            row.model_requested = row.model_requested.take().or(model.map(Into::into));
            row.user = row.user.take().or(user);
        }
        if let Some(group) = group.take() {
            // A send that is still running notes nothing more.
            let group_use =
                Rc::try_unwrap(group).map_or_else(|group| group.borrow().clone(), RefCell::into_inner);
            group_use.settle(row);
        }
        if let Some(masked) = row.error.as_deref().and_then(|error| journal.masked(error)) {
            row.error = Some(masked.into());
        }
        if row.error.is_none() {
            if let Some(note) = observer.as_ref().and_then(|observer| observer.note()) {
                notes.add(note);
            }
            row.error = notes.text();
        }
        row.clip();
    }

    /// Closes the record of an exchange without an end: its client left, or this process was
    /// stopped.
    pub fn abandon(&mut self) {
        let Some(row) = &mut self.open.row else { return };
        if self.open.journal.is_cutting() {
            row.error.get_or_insert_with(|| "the proxy was stopped before the response ended".into());
        }
        if self.open.journal.is_cutting() && !self.has_client_left() {
            self.close(Outcome::Cut);
        } else {
            self.close(Outcome::ClientDisconnected);
        }
    }

    /// Returns true if the record was closed.
    pub fn is_closed(&self) -> bool {
        self.open.row.is_none()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.abandon();
    }
}
