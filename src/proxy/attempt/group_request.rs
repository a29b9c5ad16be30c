//! The data of a request to a group, and the notes of its attempts in the record.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Accepted;
use super::group::{Failed, StreamFailure};
use crate::balance::{Permit, Plan, UpstreamError, Waiting};
use crate::llm::usage::Usage;
use crate::proxy::meter::{MemberPermit, ResponseMeter};
use crate::proxy::request::{Body, MemberLimits};
use crate::proxy::worker::WorkerUpstream;
use crate::record::error::Error;
use crate::record::{Billed, GroupNotes};
use crate::upstream::UpstreamResponse;

/// The data of a request to a group that may have several attempts, or whose only one has failed.
pub(in crate::proxy) struct GroupRequest {
    /// `None` while the request is in the queue, which has it, and if no attempt follows.
    pub(in crate::proxy) plan: Option<Plan>,
    /// Set until the wait begins that precedes the first attempt.
    pub(in crate::proxy) first_wait: Option<FirstWait>,
    /// The record's notes.
    pub(in crate::proxy) notes: GroupNotes,
    /// The body, for further attempts.
    pub(in crate::proxy) body: Body,
    pub(in crate::proxy) client: Arc<str>,
    /// The share of the client in the group's queue, and its priority.
    pub(in crate::proxy) share: u32,
    pub(in crate::proxy) priority: u32,
    /// The limits of single members, which are held during attempts at them.
    pub(in crate::proxy) limits: Option<Arc<MemberLimits>>,
    /// The 429 that is relayed if no later attempt has a better response.
    pub(super) limited: Option<Box<Limited>>,
    /// A member does not have the state that the request names.
    pub(super) is_elsewhere: bool,
}

/// The wait that precedes the first attempt.
pub(in crate::proxy) enum FirstWait {
    /// In the queue of the group.
    Queue(Box<Waiting>),
    /// For grants of this member's limits.
    Grant(Box<Permit>),
}

/// A 429 that is relayed if no later attempt has a better response.
pub(super) struct Limited {
    pub(super) accepted: Accepted,
    /// The end of the limit; `None`: unknown.
    pub(super) until: Option<Instant>,
    /// The place of its attempt.
    pub(super) attempt: usize,
}

impl GroupRequest {
    pub(in crate::proxy) fn new(
        plan: Option<Plan>,
        notes: GroupNotes,
        body: Body,
        client: Arc<str>,
        (share, priority): (u32, u32),
    ) -> Box<Self> {
        Box::new(Self {
            plan,
            first_wait: None,
            notes,
            body,
            client,
            share,
            priority,
            limits: None,
            limited: None,
            is_elsewhere: false,
        })
    }

    /// A request without a further attempt, which has failed. `permit` has the notes.
    #[cold]
    pub(super) fn of_one_attempt(
        permit: &mut MemberPermit,
        upstream: &WorkerUpstream,
        started: Instant,
    ) -> Box<Self> {
        let notes = permit.notes.take().expect("a request without a plan has its notes with its permit");
        if notes.borrow().is_only {
            note_begun(&notes, upstream, None, started);
        }
        Self::new(None, notes, Body::None, "".into(), (1, 0))
    }

    /// The plan, if another attempt may follow the current one.
    pub(super) fn plan_unless_last(&self) -> Option<&Plan> {
        self.plan.as_ref().filter(|plan| !plan.is_last())
    }

    /// The limit of the time to the head of a response: it bounds all attempts except the last.
    pub(super) fn first_byte(&self) -> Option<Duration> {
        self.plan_unless_last()?.group().spec().retry.first_byte
    }

    /// Notes the end of the current attempt, once.
    pub(super) fn note_failed(&self, failed: &Failed) {
        let mut notes = self.notes.borrow_mut();
        match failed {
            _ if !notes.is_attempting() => {}
            Failed::NoResponse(error) => notes.fail(error, Instant::now()),
            Failed::Stream(arrived, failure) => {
                let now = Instant::now();
                match (failure, arrived.response.body.failure()) {
                    (StreamFailure::Broken, Some(error)) => notes.break_off(error, arrived.at, now),
                    (StreamFailure::Error(error), _) => {
                        notes.reject_stream(error_name(error), arrived.at, now)
                    }
                    _ => notes.reject_stream("no event", arrived.at, now),
                }
                reported_usage(&arrived.response).into_iter().for_each(|usage| notes.record_usage(usage));
            }
            Failed::Response(arrived) => {
                notes.reject(arrived.response.head.status.as_u16(), arrived.at, Instant::now());
                reported_usage(&arrived.response).into_iter().for_each(|usage| notes.record_usage(usage));
            }
        }
    }

    /// Returns true if a part of a body that passes through was sent, and is gone.
    pub(super) fn is_body_taken(&self) -> bool {
        matches!(&self.body, Body::Shared(body, _) if body.is_taken())
    }

    /// Adds a list of the attempts to the error of the last one.
    pub(super) fn describe(&self, error: Error) -> Error {
        let notes = self.notes.borrow();
        let Some(attempts) = notes.several() else { return error };
        let mut list = String::from("Attempts:");
        for (attempt, number) in attempts.iter().zip(1..) {
            let status = attempt.status.map(|status| status.to_string());
            let result = attempt.code.or(status.as_deref()).unwrap_or_default();
            let _ = write!(list, " {number}. {}: {result}.", attempt.upstream);
        }
        let may_be_executed = attempts.iter().any(|attempt| attempt.billed != Billed::No);
        error.after_attempts(list, may_be_executed)
    }
}

/// Notes whether the conversation's member serves the request.
pub(in crate::proxy) fn note_sticky(notes: &GroupNotes, permit: &Permit) {
    notes.borrow_mut().sticky.get_or_insert(permit.sticky().name());
}

/// Notes an attempt that begins.
pub(in crate::proxy) fn note_begun(
    notes: &GroupNotes,
    upstream: &WorkerUpstream,
    model: Option<&str>,
    now: Instant,
) {
    let spec = &upstream.spec;
    notes.borrow_mut().begin(spec.id.name().clone(), spec.provider, model, now);
}

/// The usage in the part of a response that was read before it is thrown away.
fn reported_usage(response: &UpstreamResponse) -> Option<Usage> {
    let body = &response.body;
    ResponseMeter::read(&response.head.headers, body.ahead(), body.is_read_ahead())?.usage
}

/// The code of a service's error, else its type.
fn error_name(error: &UpstreamError) -> &str {
    if error.code.is_empty() { &error.kind } else { &error.code }
}
