//! The open record of a running request.

mod closing;
mod id;
mod notes;
mod usage_owner;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use uuid::Uuid;

use super::error::Error;
use super::estimate_input::EstimateInput;
use super::running::{Progress, Registered};
use super::{Journal, Stream, UsageRecord, UsageSource, UseObserver, WorkerRequests, gaps};
use crate::codec::head::Headers;
use crate::llm::estimate::Shape;
use crate::llm::provider::UsageOwner;
use crate::llm::usage::Tally;
use id::new_id;
use notes::Notes;

pub use notes::{FormNotes, GroupNotes, Note};

/// A usage record that is being filled in.
///
/// [`Entry::close`] closes it exactly once, or dropping it does: a request ends like this when its
/// client leaves (its connection drops the handler or the body), or when the process aborts running
/// requests at shutdown.
#[derive(Debug)]
pub struct Entry {
    /// Boxed, because an entry is moved from stage to stage.
    open: Box<Open>,
}

#[derive(Debug)]
struct Open {
    /// `None` after it is closed.
    row: Option<UsageRecord>,
    started: Instant,
    id: Uuid,
    journal: Journal,
    /// Bytes of a request body that is streamed through.
    upload: Option<Rc<Cell<u64>>>,
    /// Fields of a form that is read while it passes.
    form: Option<Rc<RefCell<FormNotes>>>,
    /// The attempts at a request that was routed to a group.
    group: Option<GroupNotes>,
    /// Lists the request while it runs.
    requests: Option<WorkerRequests>,
    registered: Option<Registered>,
    /// The stored result that owns the usage in the response. `None`: this request owns it.
    usage_owner: Option<Box<UsageOwner>>,
    /// The error of a record that has no other.
    notes: Notes,
    /// The input of an estimate, until usage is reported.
    estimate_input: Option<EstimateInput>,
    /// A value that must outlive the request, such as the configuration that it began with.
    kept: Option<Arc<dyn Any + Send + Sync>>,
    /// Receives the progress and the closed record.
    observer: Option<Box<dyn UseObserver>>,
    /// Further headers of the response.
    headers: Option<Box<Headers>>,
    /// True after authentication, also if none is configured.
    is_admitted: bool,
}

impl Entry {
    /// Opens a record now.
    pub fn open(journal: &Journal, anonymous: &Arc<str>) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let id = new_id(now);
        let row = UsageRecord::begun(id, microseconds(now), Arc::clone(anonymous));
        let open = Open {
            row: Some(row),
            started: Instant::now(),
            id,
            journal: journal.clone(),
            upload: None,
            form: None,
            group: None,
            requests: None,
            registered: None,
            usage_owner: None,
            notes: Notes::default(),
            estimate_input: None,
            kept: None,
            observer: None,
            headers: None,
            is_admitted: false,
        };
        Self { open: Box::new(open) }
    }

    /// Keeps a value until the record is closed and dropped, besides those that it keeps already.
    pub fn keep(&mut self, value: Arc<dyn Any + Send + Sync>) {
        self.open.kept = Some(match self.open.kept.take() {
            None => value,
            Some(earlier) => Arc::new((earlier, value)),
        });
    }

    /// The request's method, while the record is open.
    pub fn method(&self) -> Option<&Method> {
        self.open.row.as_ref()?.method.as_ref()
    }

    /// The time when the request's head had arrived.
    pub fn started(&self) -> Instant {
        self.open.started
    }

    /// The fields, while the record is open.
    pub fn row(&mut self) -> &mut UsageRecord {
        self.open.row.as_mut().expect("only `close` takes the row, and it is the last to be called")
    }

    /// Sets the list to which [`Entry::show`] adds the stream.
    pub fn list_in(&mut self, requests: &WorkerRequests) {
        self.open.requests = Some(requests.clone());
    }

    /// Lists the exchange among the running streams until the record is closed, if it is a stream
    /// and is not listed yet.
    pub fn show(&mut self) {
        let Some(requests) = self.open.requests.as_ref().filter(|_| self.open.registered.is_none()) else {
            return;
        };
        let Some(row) = self.open.row.as_ref().filter(|row| row.stream) else { return };
        self.open.registered = Some(requests.register(Stream {
            id: row.id,
            started_at: row.started_at,
            started: self.open.started,
            client: Arc::clone(&row.client),
            user: row.user.clone(),
            upstream: row.upstream.clone(),
            model: row.model_requested.clone(),
            progress: Progress::default(),
        }));
    }

    /// Updates the progress of the listed stream: events that passed, and output tokens if any were
    /// reported. Returns the error with which the stream must end, unless this was its last event.
    pub fn progressed(&mut self, events: u64, output_tokens: Option<u64>) -> Option<Error> {
        if let Some(shown) = &self.open.registered {
            shown.stream().progress.set(events, output_tokens);
        }
        self.open.observer.as_mut()?.on_progress(events, output_tokens)
    }

    /// Keeps the request's shape and body for an estimate, in case no tokens are reported.
    pub fn keep_estimate_input(&mut self, shape: Shape, body: &Bytes) {
        self.open.estimate_input = Some(EstimateInput::new(shape, body, self.open.journal.room()));
    }

    /// Records the response's status, and the time of its head.
    pub fn record_head(&mut self, status: u16, at: Instant) {
        let elapsed = self.since_start(at);
        let row = self.row();
        row.status = Some(status);
        row.time_to_first_byte_ms = Some(elapsed);
    }

    /// Records the time of the first event with output.
    pub fn first_token(&mut self, at: Instant) {
        self.row().time_to_first_token_ms = Some(self.since_start(at));
        if let Some(shown) = &self.open.registered {
            shown.stream().progress.first_token(at.saturating_duration_since(self.open.started));
        }
    }

    /// Records the times of the first and the last event. The first byte is set to be no later: an
    /// event's bytes may be read together with the head, before that is recorded.
    pub fn events(&mut self, first: Instant, last: Instant) {
        let (first, last) = (self.since_start(first), self.since_start(last));
        let row = self.row();
        row.time_to_first_byte_ms = row.time_to_first_byte_ms.map(|byte| byte.min(first));
        row.time_to_first_event_ms = Some(first);
        row.time_to_last_event_ms = Some(last);
    }

    /// Records that the client left before the end of its response. Bytes read from now on are
    /// drained. Whatever the end, the outcome is that the client left.
    pub fn client_left(&mut self) {
        self.client_left_at(Instant::now());
    }

    fn client_left_at(&mut self, now: Instant) {
        let elapsed = self.since_start(now);
        self.row().time_to_disconnect_ms.get_or_insert(elapsed);
    }

    /// Returns true if the client has left.
    pub fn has_client_left(&self) -> bool {
        self.open.row.as_ref().is_some_and(|row| row.time_to_disconnect_ms.is_some())
    }

    /// Returns true if an entry that is dropped now was aborted by the end of the process.
    pub fn is_cutting(&self) -> bool {
        self.open.journal.is_cutting()
    }

    fn since_start(&self, at: Instant) -> f64 {
        millis(at.saturating_duration_since(self.open.started))
    }

    /// Takes over the meter's result so far.
    ///
    /// Counts are final if the response ended normally, or if its terminal event has passed:
    /// `reported`, or `drained` if the client had left before. Otherwise they are `partial`.
    ///
    /// Usage that is counted with another request is left out.
    pub fn metered(&mut self, mut tally: Tally, ended: bool) {
        if let Some(usage_owner) = self.open.usage_owner.take() {
            self.settle(&usage_owner, &mut tally, ended);
        }
        let has_client_left = self.has_client_left();
        let row = self.open.row.as_mut().expect("an entry is metered before it is closed");
        if let Some(usage) = tally.usage {
            row.usage = usage;
            row.usage_source = match (ended && !tally.is_provisional()) || tally.terminal {
                true if has_client_left => UsageSource::Drained,
                true => UsageSource::Reported,
                false => UsageSource::Partial,
            };
        }
        row.tool_calls = tally.tool_calls();
        // A failure, a pending response and a body that is not a response have no tokens.
        let has_text = tally.output.as_ref().is_some_and(|output| output.has_text());
        let has_output = tally.output.as_ref().is_some_and(|output| !output.is_empty());
        let is_response = row.events.is_some() || (tally.model.is_some() && !tally.pending);
        let is_failure = tally.error.is_some() || !(has_output || is_response);
        if tally.usage.is_some() || (is_failure && !has_text) {
            self.open.estimate_input = None;
        } else if let Some(estimate_input) = &mut self.open.estimate_input {
            estimate_input.may_have_tokens =
                tally.output.is_some() || (ended && !estimate_input.shape.has_output());
            // The output is unknown if an event was skipped, if the upstream broke off before the
            // first text, or if there were events and none had known output.
            let is_final = !tally.broke_off || tally.terminal;
            let has_known = has_text || (is_final && (has_output || tally.events == 0));
            let is_known = tally.skipped == 0 && has_known;
            estimate_input.output = tally.output.take().filter(|_| is_known);
        }
        row.error = row.error.take().or(tally.error.take());
        gaps::note(row, &tally, self.open.journal.health());
        row.service_tier = tally.service_tier;
        row.reported_cost = tally.reported_cost;
        row.model = tally.model.map(Into::into);
    }
}

/// Milliseconds with a resolution of one microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    // A conversion of 128 bits would be a call.
    duration.as_micros() as u64 as f64 / 1e3
}

/// The time since 1970 in whole microseconds: PostgreSQL has no finer times, and a record must be
/// the same in every store.
fn microseconds(now: Duration) -> Timestamp {
    Timestamp::from_microsecond(now.as_micros() as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
