//! The record's fields about the group of its request: the attempts at its members.

mod attempt;
mod attempt_list;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::UsageRecord;
use super::entry::millis;
use super::error::{Error, Retry};
use super::row::MAX_TEXT;
use crate::llm::provider::Provider;
use crate::llm::usage::Usage;
use attempt::{MAX_ERROR, storable};

pub use attempt::{AttemptRecord, Billed};
pub use attempt_list::AttemptList;

/// The code of a stream whose first event is an error.
const FIRST_EVENT: &str = "first_event";

/// The group of a request, and its attempts.
///
/// Small, because the thread of records frees it: the allocator gives small memory back to the
/// worker in a few instructions, and larger memory in some hundred.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupUse {
    /// Empty for a list of models that is not a single group's.
    pub group: Arc<str>,
    /// The attempts are requests for lists of models, sent at the same time.
    pub is_list: bool,
    /// The only member of the group was asked. The record describes that attempt, which is in the
    /// list only if it had no response.
    pub is_only: bool,
    /// The group's retry budget did not allow another attempt.
    pub is_denied: bool,
    /// The client's SDK sent the request again.
    pub is_client_retry: bool,
    /// The handling of the request's conversation; `None`: no member was asked.
    pub sticky: Option<&'static str>,
    /// The arrival of the request's head.
    started: Instant,
    /// `None`: nothing of it.
    details: Option<Box<Details>>,
}

/// The part of a [`GroupUse`] that a request to the only member of a group does not have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Details {
    /// The time in the group's queue; `None`: the request did not wait.
    time_waiting_ms: Option<f64>,
    /// The beginning of the wait that has not ended.
    waiting_since: Option<Instant>,
    /// The attempts in their order. The last one is that of the response.
    attempts: AttemptList,
    /// The place of the attempt whose response the client got; `None`: the last one.
    relayed: Option<usize>,
    /// The upstreams that were left out because of this request, and the reasons.
    opened: Vec<(Arc<str>, &'static str)>,
}

static NO_ATTEMPTS: AttemptList = AttemptList::NONE;

impl GroupUse {
    /// `started` is the arrival of the request's head.
    pub fn new(group: Arc<str>, started: Instant) -> Self {
        Self {
            group,
            is_list: false,
            is_only: false,
            is_denied: false,
            is_client_retry: false,
            sticky: None,
            started,
            details: None,
        }
    }

    /// The time in the group's queue; `None`: the request did not wait.
    pub fn time_waiting_ms(&self) -> Option<f64> {
        self.details.as_ref()?.time_waiting_ms
    }

    /// The attempts in their order. The last one is that of the response.
    pub fn attempts(&self) -> &AttemptList {
        self.details.as_ref().map_or(&NO_ATTEMPTS, |details| &details.attempts)
    }

    pub fn attempts_mut(&mut self) -> &mut AttemptList {
        &mut self.details().attempts
    }

    /// The upstreams that were left out because of this request, and the reasons.
    pub fn opened(&self) -> &[(Arc<str>, &'static str)] {
        self.details.as_ref().map_or(&[], |details| &details.opened)
    }

    /// Notes that an upstream is left out because of this request.
    pub fn note_opened(&mut self, upstream: Arc<str>, reason: &'static str) {
        self.details().opened.push((upstream, reason));
    }

    /// Notes the place of the attempt whose response the client gets, if it is not the last one.
    pub fn note_relayed(&mut self, place: usize) {
        self.details().relayed = Some(place);
    }

    fn details(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// Notes that the request waits for a member.
    pub fn begin_wait(&mut self, now: Instant) {
        self.details().waiting_since.get_or_insert(now);
    }

    /// Notes that the request waits no longer.
    pub fn end_wait(&mut self, now: Instant) {
        let Some(details) = &mut self.details else { return };
        if let Some(since) = details.waiting_since.take() {
            let waited = millis(now.saturating_duration_since(since));
            *details.time_waiting_ms.get_or_insert_default() += waited;
        }
    }

    /// Returns true if an attempt has begun and not ended.
    pub fn is_attempting(&self) -> bool {
        self.attempts().last().is_some_and(|attempt| attempt.is_open)
    }

    /// Begins an attempt at an upstream.
    pub fn begin(&mut self, upstream: Arc<str>, provider: Provider, model: Option<&str>, now: Instant) {
        let started_ms = self.since_start(now);
        self.attempts_mut().push(AttemptRecord {
            upstream,
            provider,
            model: model.map(|model| storable(model, MAX_TEXT)),
            status: None,
            error: None,
            code: None,
            started_ms,
            ms: 0.0,
            first_byte_ms: None,
            usage: None,
            // The client may leave at any time from here on.
            billed: Billed::Maybe,
            is_open: true,
        });
    }

    /// Ends the attempt with a response that is thrown away. `at`: when its head had arrived.
    pub fn reject(&mut self, status: u16, at: Instant, now: Instant) {
        let (first_byte, now) = (self.since_start(at), self.since_start(now));
        if let Some(attempt) = self.end(now) {
            attempt.status = Some(status);
            attempt.first_byte_ms = Some(first_byte - attempt.started_ms);
            attempt.billed = Billed::of_status(status);
        }
    }

    /// Ends the attempt with a stream whose first event is an error of this name.
    pub fn reject_stream(&mut self, name: &str, at: Instant, now: Instant) {
        self.reject(200, at, now);
        if let Some(attempt) = self.attempts_mut().last_mut() {
            attempt.error = Some(storable(&format!("{FIRST_EVENT}: {name}"), MAX_ERROR));
            (attempt.code, attempt.billed) = (Some(FIRST_EVENT), Billed::No);
        }
    }

    /// Ends the attempt with a stream that broke off before its first event.
    pub fn break_off(&mut self, error: &Error, at: Instant, now: Instant) {
        self.reject(200, at, now);
        if let Some(attempt) = self.attempts_mut().last_mut() {
            attempt.error = Some(storable(&format!("{}: {error}", error.code()), MAX_ERROR));
            (attempt.code, attempt.billed) = (Some(error.code()), Billed::Maybe);
        }
    }

    /// Notes the usage that a response reported before it was thrown away. Its attempt was the last
    /// one that ended.
    pub fn record_usage(&mut self, usage: Usage) {
        let Some(attempt) = self.attempts_mut().last_mut() else { return };
        let counts = [usage.input_tokens, usage.output_tokens, usage.total_tokens];
        if counts.into_iter().flatten().any(|count| count > 0) {
            attempt.billed = Billed::Yes;
        }
        attempt.usage = Some(Box::new(usage));
    }

    /// Ends the attempt without a response.
    pub fn fail(&mut self, error: &Error, now: Instant) {
        let now = self.since_start(now);
        if let Some(attempt) = self.end(now) {
            attempt.error = Some(storable(&format!("{}: {error}", error.code()), MAX_ERROR));
            attempt.code = Some(error.code());
            let may_be_executed = error.retry() != Retry::NotSent;
            attempt.billed = if may_be_executed { Billed::Maybe } else { Billed::No };
        }
    }

    fn end(&mut self, now: f64) -> Option<&mut AttemptRecord> {
        let attempt = self.attempts_mut().last_mut()?;
        (attempt.ms, attempt.is_open) = (now - attempt.started_ms, false);
        Some(attempt)
    }

    fn since_start(&self, at: Instant) -> f64 {
        // The usual beginning of the first attempt.
        if at == self.started {
            return 0.0;
        }
        millis(at.checked_duration_since(self.started).unwrap_or(Duration::ZERO))
    }

    /// Adds the group to a record that is closing. The record describes the attempt whose response
    /// the client got.
    pub(super) fn settle(mut self: Box<Self>, row: &mut UsageRecord) {
        if self.details.is_some() {
            self.settle_details(row);
        }
        row.group_use = Some(self);
    }

    fn settle_details(&mut self, row: &mut UsageRecord) {
        if let Some(since) = self.details().waiting_since {
            let ended = self.started + Duration::from_secs_f64(row.duration_ms / 1e3);
            self.end_wait(ended.max(since));
        }
        let is_list = self.is_list;
        let Details { time_waiting_ms, attempts, relayed, .. } = self.details();
        if let Some(waited) = *time_waiting_ms {
            *row.time_waiting_ms.get_or_insert_default() += waited;
        }
        if is_list {
            attempts.iter_mut().for_each(|attempt| attempt.billed = Billed::No);
            if let ([], Some(only)) = (attempts.earlier(), attempts.last()) {
                (row.upstream, row.provider) = (Some(Arc::clone(&only.upstream)), Some(only.provider));
            }
            return;
        }
        let relayed = match *relayed {
            Some(place) => attempts.iter_mut().nth(place),
            None => attempts.last_mut(),
        };
        if let Some(last) = relayed {
            (row.upstream, row.provider) = (Some(Arc::clone(&last.upstream)), Some(last.provider));
            last.usage = None;
            if last.is_open {
                last.ms = row.duration_ms - last.started_ms;
                last.first_byte_ms = row.time_to_first_byte_ms.map(|at| at - last.started_ms);
                if let (Some(status), Some(_)) = (row.status, last.first_byte_ms) {
                    (last.status, last.billed) = (Some(status), Billed::of_status(status));
                }
            }
        }
    }

    /// The group's name, if there is one.
    pub fn group(&self) -> Option<&str> {
        Some(&*self.group).filter(|group| !group.is_empty())
    }

    /// The number of attempts.
    pub fn count(&self) -> usize {
        self.attempts().len().max(usize::from(self.is_only))
    }

    /// Returns true if the last attempt may be billed though it had no response.
    pub fn may_be_billed(&self) -> bool {
        self.attempts().last().map_or(self.is_only, |attempt| attempt.billed != Billed::No)
    }

    /// The attempts, if there were several.
    pub fn several(&self) -> Option<&AttemptList> {
        Some(self.attempts()).filter(|attempts| attempts.len() > 1)
    }
}

/// The fields of a record that a group adds.
pub(super) fn fields<S: Serializer>(
    group_use: &Option<Box<GroupUse>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Fields<'a> {
        group: Option<&'a str>,
        attempts: Option<&'a AttemptList>,
    }
    let group_use = group_use.as_deref();
    Fields { group: group_use.and_then(GroupUse::group), attempts: group_use.and_then(GroupUse::several) }
        .serialize(serializer)
}

#[cfg(test)]
mod tests;
