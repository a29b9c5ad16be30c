//! The attempts at a request to a group: one member after the other, until one has a response that
//! is relayed.
//!
//! The response that is relayed is the first good one, or else the last; of several 429s the one
//! whose limit ends first. If the last attempt had no response, the client gets its error, with a
//! list of all attempts.

use std::ops::ControlFlow::{self, Break, Continue};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use tokio::time::timeout;

use super::first_event::{StreamStart, stream_start};
use super::group_request::{FirstWait, GroupRequest, Limited, note_begun};
use super::{Accepted, Arrived, Held};
use crate::balance::{Clock, Closes, Cooldown, End, UpstreamError, Verdict};
use crate::proxy::meter::{MemberPermit, ResponseMeter};
use crate::proxy::request::{NextMember, NoMember, Prepared};
use crate::proxy::worker::WorkerSnapshot;
use crate::record::error::{Error, Kind, Result};

/// The lowest status of an error.
const ERROR: u16 = 400;

const TOO_MANY_REQUESTS: u16 = 429;

/// A failed attempt, after which another one is possible.
pub(super) enum Failed {
    Response(Arrived),
    /// A stream of which no event but an error arrived.
    Stream(Arrived, StreamFailure),
    NoResponse(Error),
}

/// The failure of a stream.
pub(super) enum StreamFailure {
    /// The error that is the first event.
    Error(UpstreamError),
    /// The end, without an event before.
    Empty,
    /// A break before the first event.
    Broken,
}

/// Takes the wait that precedes the first attempt.
pub(super) fn take_first_wait(
    group: &mut Option<Box<GroupRequest>>,
) -> Option<(&mut GroupRequest, FirstWait)> {
    let group = group.as_deref_mut()?;
    group.first_wait.take().map(|wait| (group, wait))
}

impl Prepared {
    /// Sends the request to the current member, which must respond within `retry.first_byte`.
    pub(super) async fn ask_within(&mut self, limit: Duration, held: &Held) -> Result<Arrived> {
        let name = self.upstream.spec.id.name().clone();
        let key = "retry.first_byte";
        timeout(limit, self.ask(held))
            .await
            .unwrap_or_else(|_| Err(Kind::FirstByteTimeout { limit, key, was_sent: true }.at(name)))
    }

    /// Looks at the result of an attempt, and prepares the next one if it failed. `Break`: the
    /// attempts have ended.
    pub(super) async fn go_on(
        &mut self,
        group: &mut GroupRequest,
        held: &Held,
        asked: Result<Arrived>,
    ) -> ControlFlow<Result<Accepted>> {
        let mut failed = match asked {
            Ok(mut arrived) if arrived.is_good() => match look_at_start(group, &held.1, &mut arrived).await {
                // The time of the first event.
                StreamStart::Response => {
                    let permit = self.record_good(Some(group), held, &arrived, Instant::now());
                    return Break(Ok(self.accepted(arrived, permit)));
                }
                StreamStart::Error(error) => Failed::Stream(arrived, StreamFailure::Error(error)),
                StreamStart::Nothing => Failed::Stream(arrived, StreamFailure::Empty),
                StreamStart::Broken => Failed::Stream(arrived, StreamFailure::Broken),
            },
            Ok(arrived) => Failed::Response(arrived),
            Err(error) => Failed::NoResponse(error),
        };
        let verdict = self.judge(group, &mut failed, held).await;
        group.is_elsewhere |= verdict.as_ref().is_some_and(Verdict::is_of_state);
        let next = match &verdict {
            Some(verdict) => match self.next_member(verdict, group, held, &failed).await {
                Ok(next) => next,
                Err(error) => return Break(Err(error)),
            },
            None => None,
        };
        let until = verdict.and_then(|verdict| limit_end(&verdict));
        let Some(next) = next else {
            if let Failed::NoResponse(_) = &failed {
                group.note_failed(&failed);
            }
            return Break(match failed {
                Failed::Response(arrived) => Ok(self.serve_last(group, arrived, until)),
                Failed::Stream(arrived, _) => Ok(self.accepted(arrived, None)),
                Failed::NoResponse(error) => Err(group.describe(error)),
            });
        };
        group.note_failed(&failed);
        if let Failed::Response(arrived) = failed {
            let status = arrived.response.head.status.as_u16();
            let is_best = group.limited.as_ref().is_none_or(|best| ends_before(until, best.until));
            if status == TOO_MANY_REQUESTS && is_best && arrived.response.body.is_read_ahead() {
                let attempt = group.notes.borrow().attempts().len() - 1;
                let accepted = self.accepted(arrived, None);
                group.limited = Some(Box::new(Limited { accepted, until, attempt }));
            }
        }
        self.begin(group, next);
        Continue(())
    }

    /// Remembers that the current member has the state that the request names.
    fn learn_state(&self, (buffered, snapshot): &Held) {
        if let Some(stored) = &snapshot.stored_ids {
            stored.learn(buffered, buffered.endpoint(snapshot), &self.upstream.spec.id);
        }
    }

    /// The next member to try after this verdict, if there is one. Waits for it if need be.
    async fn next_member(
        &mut self,
        verdict: &Verdict,
        group: &mut GroupRequest,
        held: &Held,
        failed: &Failed,
    ) -> Result<Option<NextMember>> {
        let (buffered, snapshot) = held;
        let is_body_taken = group.is_body_taken();
        let Some(plan) = &mut group.plan else { return Ok(None) };
        if !plan.record_verdict(verdict) || !self.may_begin_again() || is_body_taken {
            return Ok(None);
        }
        let routed = buffered.find(snapshot, buffered.peek())?;
        let next = routed.next_member(plan, &group.body, group.limits.as_deref(), Instant::now());
        let next = next.map(|next| routed.named(next));
        let next = match next {
            Err(NoMember::Grant(permit)) => {
                group.note_failed(failed);
                Box::pin(self.wait_for_grants(permit, group, held)).await
            }
            next => next,
        };
        let next = match next {
            Err(NoMember::Wait) => {
                group.note_failed(failed);
                self.wait_again(group, held).await
            }
            next => next,
        };
        match next {
            Ok(next) => Ok(Some(next)),
            Err(NoMember::Failed(error)) => {
                tracing::debug!(%error, "the request cannot be written for another member");
                Ok(None)
            }
            Err(NoMember::End(end)) => {
                group.notes.borrow_mut().is_denied |= end == End::Budget;
                Ok(None)
            }
            Err(NoMember::Wait | NoMember::Grant(_) | NoMember::QueueFull) => Ok(None),
        }
    }

    /// Makes the attempt at this member the current one.
    pub(super) fn begin(&mut self, group: &mut GroupRequest, next: NextMember) {
        let NextMember { permit, upstream, outbound, model } = next;
        tracing::debug!(from = %self.upstream.spec.id, to = %upstream.spec.id, "another member is tried");
        note_begun(&group.notes, &upstream, model.as_deref(), Instant::now());
        self.attempts.begin(permit.permit.number());
        self.permit = Some(permit);
        (self.upstream, self.outbound) = (upstream, outbound);
    }

    /// Records a good response, whose first event or whole head arrived at `at`. Returns the permit,
    /// which the response keeps.
    pub(super) fn record_good(
        &mut self,
        group: Option<&GroupRequest>,
        held: &Held,
        arrived: &Arrived,
        at: Instant,
    ) -> Option<Box<MemberPermit>> {
        if group.is_some_and(|group| group.is_elsewhere) {
            self.learn_state(held);
        }
        let mut member = self.permit.take()?;
        member.permit.record_headers(&arrived.response.head.headers, clock);
        member.permit.record_first_event(at);
        // The record takes them over.
        member.notes = None;
        Some(member)
    }

    /// Relays the last response, or an earlier 429 whose limit ends sooner.
    fn serve_last(&mut self, group: &mut GroupRequest, arrived: Arrived, until: Option<Instant>) -> Accepted {
        let is_limited = arrived.response.head.status.as_u16() == TOO_MANY_REQUESTS;
        let limited = group.limited.take();
        let Some(limited) = limited.filter(|limited| is_limited && ends_before(limited.until, until)) else {
            return self.accepted(arrived, None);
        };
        group.note_failed(&Failed::Response(arrived));
        group.notes.borrow_mut().note_relayed(limited.attempt);
        limited.accepted
    }
}

impl Arrived {
    fn is_good(&self) -> bool {
        self.response.head.status.as_u16() < ERROR
    }
}

/// Returns true if this is a good response, unless it is a stream whose beginning is held.
pub(super) fn is_served_at_once(
    group: Option<&GroupRequest>,
    (_, snapshot): &Held,
    arrived: &Arrived,
) -> bool {
    arrived.is_good() && group.is_none_or(|group| hold_limit(group, snapshot, arrived).is_none())
}

/// The time for which the beginning of this response is held, if it is a stream and another member
/// could be tried.
fn hold_limit(group: &GroupRequest, snapshot: &WorkerSnapshot, arrived: &Arrived) -> Option<Duration> {
    let plan = group.plan_unless_last()?;
    let head = &arrived.response.head;
    let is_stream = head.status == StatusCode::OK && ResponseMeter::of(&head.headers, false).is_events();
    snapshot.first_event.get(&plan.group().spec().name).filter(|_| is_stream).copied()
}

/// Holds the beginning of a stream, where another member could be tried.
async fn look_at_start(
    group: &GroupRequest,
    snapshot: &WorkerSnapshot,
    arrived: &mut Arrived,
) -> StreamStart {
    let Some(limit) = hold_limit(group, snapshot, arrived) else { return StreamStart::Response };
    let mut reserved = snapshot.bodies.budget.reserve();
    let may_hold = |bytes| reserved.grow_to(bytes, &group.client).is_ok();
    stream_start(&mut arrived.response, limit, may_hold).await
}

/// The end of the rate limit that the verdict is about.
fn limit_end(verdict: &Verdict) -> Option<Instant> {
    match verdict.closes {
        Closes::Limit(Some(Cooldown(pause))) => Some(Instant::now() + pause),
        _ => None,
    }
}

/// Returns true if one limit ends before another. Unknown ends are the last.
fn ends_before(one: Option<Instant>, other: Option<Instant>) -> bool {
    one.is_some_and(|one| other.is_none_or(|other| one < other))
}

pub(super) fn clock() -> Clock {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock { now: Instant::now(), unix }
}
