//! The attempts at a request to a group: one member after the other, until one has a response that
//! is relayed.
//!
//! The response that is relayed is the first good one, or else the last; of several 429s the one
//! whose limit ends first. If the last attempt had no response, the client gets its error, with a
//! list of all attempts.

use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use tokio::time::timeout;

use super::first_event::{StreamStart, stream_start};
use super::group_request::GroupRequest;
use super::{Accepted, Arrived, Held, Served};
use crate::balance::{Clock, Closes, Cooldown, End, UpstreamError, Verdict};
use crate::proxy::pending_response::Sending;
use crate::proxy::request::{Buffered, NextMember, NoMember, Prepared};
use crate::proxy::worker::WorkerSnapshot;
use crate::record::error::{Error, Kind, Result};

/// The lowest status of an error.
const ERROR: u16 = 400;

const TOO_MANY_REQUESTS: u16 = 429;

/// A failed attempt, after which another one is possible.
pub(super) enum Failed {
    Response(Arrived),
    /// A stream whose first event is this error; `None`: it ended without an event.
    Stream(Arrived, Option<UpstreamError>),
    NoResponse(Error),
}

/// A 429 that is relayed if no later attempt has a better response.
struct Limited {
    accepted: Accepted,
    /// The end of the limit; `None`: unknown.
    until: Option<Instant>,
    /// The place of its attempt.
    attempt: usize,
}

impl Prepared {
    /// Does the same as [`Prepared::send`], for a request to a group.
    pub(in crate::proxy) fn send_to_group(
        mut self,
        group: Box<GroupRequest>,
        buffered: Box<Buffered>,
        snapshot: Rc<WorkerSnapshot>,
    ) -> Sending {
        Box::pin(async move {
            let held = (buffered, snapshot);
            let mut limited: Option<Limited> = None;
            // A member does not have the state that the request names.
            let mut is_elsewhere = false;
            if let Some(waiting) = self.attempts.take_waiting() {
                let next = self.wait_first(waiting, &group, &held).await?;
                self.go_on(&group, next);
            }
            loop {
                let mut failed = match self.ask_in_time(&held).await {
                    Ok(mut arrived) if arrived.response.head.status.as_u16() < ERROR => {
                        match self.look_at_start(&group, &held.1, &mut arrived).await {
                            StreamStart::Response => {
                                if is_elsewhere {
                                    self.learn_state(&held);
                                }
                                return Ok(self.serve(&group, arrived));
                            }
                            StreamStart::Error(error) => Failed::Stream(arrived, Some(error)),
                            StreamStart::Nothing => Failed::Stream(arrived, None),
                        }
                    }
                    Ok(arrived) => Failed::Response(arrived),
                    Err(error) => Failed::NoResponse(error),
                };
                let verdict = self.judge(&group, &mut failed, &held).await;
                is_elsewhere |= verdict.as_ref().is_some_and(Verdict::is_of_state);
                let next = match &verdict {
                    Some(verdict) => self.next_member(verdict, &group, &held, &failed).await?,
                    None => None,
                };
                let Some(next) = next else {
                    if matches!(failed, Failed::NoResponse(_)) {
                        group.note_failed(&failed);
                    }
                    return match failed {
                        Failed::Response(arrived) => {
                            let until = verdict.and_then(|verdict| limit_end(&verdict));
                            Ok(self.serve_last(&group, arrived, limited, until))
                        }
                        Failed::Stream(arrived, _) => Ok(self.serve(&group, arrived)),
                        Failed::NoResponse(error) => Err(group.describe(error)),
                    };
                };
                group.note_failed(&failed);
                if let Failed::Response(arrived) = failed {
                    let status = arrived.response.head.status.as_u16();
                    let until = verdict.and_then(|verdict| limit_end(&verdict));
                    let is_best = limited.as_ref().is_none_or(|best| ends_before(until, best.until));
                    if status == TOO_MANY_REQUESTS && is_best && arrived.response.body.is_read_ahead() {
                        let attempt = group.notes.borrow().attempts.len() - 1;
                        limited = Some(Limited { accepted: self.accepted(arrived), until, attempt });
                    }
                }
                self.go_on(&group, next);
            }
        })
    }

    /// Sends the request to the current member. `retry.first_byte` bounds all attempts except the
    /// last.
    async fn ask_in_time(&mut self, held: &Held) -> Result<Arrived> {
        let limit = self.attempts.plan().filter(|plan| !plan.is_last());
        let limit = limit.and_then(|plan| plan.group().spec().retry.first_byte);
        let Some(limit) = limit else { return self.ask(held).await };
        let name = self.upstream.spec.id.name().clone();
        let key = "retry.first_byte";
        timeout(limit, self.ask(held))
            .await
            .unwrap_or_else(|_| Err(Kind::FirstByteTimeout { limit, key, was_sent: true }.at(name)))
    }

    /// Holds the beginning of a stream, where another member could be tried.
    async fn look_at_start(
        &mut self,
        group: &GroupRequest,
        snapshot: &WorkerSnapshot,
        arrived: &mut Arrived,
    ) -> StreamStart {
        let plan = self.attempts.plan().filter(|plan| !plan.is_last());
        let limit = plan.and_then(|plan| snapshot.first_event.get(&plan.group().spec().name));
        let Some(limit) = limit.filter(|_| arrived.response.head.status == StatusCode::OK) else {
            return StreamStart::Response;
        };
        let mut reserved = snapshot.bodies.budget.reserve();
        let may_hold = |bytes| reserved.grow_to(bytes, &group.client).is_ok();
        stream_start(&mut arrived.response, *limit, may_hold).await
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
        group: &GroupRequest,
        held: &Held,
        failed: &Failed,
    ) -> Result<Option<NextMember>> {
        let (buffered, snapshot) = held;
        let may_begin_again = self.may_begin_again();
        let Some(plan) = self.attempts.plan() else { return Ok(None) };
        if !plan.record_verdict(verdict) || !may_begin_again || group.is_body_taken() {
            return Ok(None);
        }
        let next = buffered.find(snapshot, buffered.peek())?.next_member(plan, &group.body);
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
            Err(NoMember::Wait | NoMember::QueueFull) => Ok(None),
        }
    }

    /// Makes the attempt at this member the current one.
    fn go_on(&mut self, group: &GroupRequest, next: NextMember) {
        let NextMember { permit, upstream, outbound, model } = next;
        tracing::debug!(from = %self.upstream.spec.id, to = %upstream.spec.id, "another member is tried");
        group.begin(&upstream, model.as_deref());
        self.attempts.begin(permit);
        (self.upstream, self.outbound) = (upstream, outbound);
    }

    /// Relays a good response.
    fn serve(&mut self, group: &GroupRequest, arrived: Arrived) -> Accepted {
        let mut permit = self.attempts.take_permit();
        if let Some(permit) = &mut permit {
            permit.record_headers(&arrived.response.head.headers, clock());
            // If the beginning of a stream was held, this is the time of its first event.
            permit.record_first_event(Instant::now());
        }
        let accepted = self.accepted(arrived);
        let notes = group.notes.borrow();
        let (attempts, waited_ms) = (notes.attempts.len(), notes.time_waiting_ms);
        Accepted { served: Some(Box::new(Served { attempts, waited_ms, permit })), ..accepted }
    }

    /// Relays the last response, or an earlier 429 whose limit ends sooner.
    fn serve_last(
        &mut self,
        group: &GroupRequest,
        arrived: Arrived,
        limited: Option<Limited>,
        until: Option<Instant>,
    ) -> Accepted {
        let is_limited = arrived.response.head.status.as_u16() == TOO_MANY_REQUESTS;
        let Some(limited) = limited.filter(|limited| is_limited && ends_before(limited.until, until)) else {
            return self.serve(group, arrived);
        };
        group.note_failed(&Failed::Response(arrived));
        let mut notes = group.notes.borrow_mut();
        notes.relayed = Some(limited.attempt);
        let served =
            Served { attempts: notes.attempts.len(), waited_ms: notes.time_waiting_ms, permit: None };
        Accepted { served: Some(Box::new(served)), ..limited.accepted }
    }
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
