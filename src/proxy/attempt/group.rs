//! The attempts at a request to a group: one member after the other, until one has a response that
//! is relayed.
//!
//! The response that is relayed is the first good one, or else the last; of several 429s the one
//! whose limit ends first. If the last attempt had no response, the client gets its error, with a
//! list of all attempts.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use tokio::time::timeout;

use super::first_event::{StreamStart, stream_start};
use super::{Accepted, Arrived, Held, Served};
use crate::balance::{Clock, Closes, Cooldown, End, Failure, OutReason, Permit, UpstreamError, Verdict};
use crate::llm::usage::Usage;
use crate::proxy::include_usage::readable_body;
use crate::proxy::meter::ResponseMeter;
use crate::proxy::pending_response::Sending;
use crate::proxy::request::{Body, Buffered, NextMember, NoMember, Prepared};
use crate::proxy::worker::{WorkerSnapshot, WorkerUpstream};
use crate::record::error::{Error, Kind, Result, Retry};
use crate::record::{Billed, GroupUse};
use crate::upstream::UpstreamResponse;

/// The number of bytes of an error's body that are read for a verdict.
const MAX_ERROR: usize = 16 << 10;

/// The longest wait for the rest of an error's body.
const ERROR_WAIT: Duration = Duration::from_secs(1);

/// The lowest status of an error.
const ERROR: u16 = 400;

const TOO_MANY_REQUESTS: u16 = 429;

/// The data that only a request to a group has.
pub(in crate::proxy) struct GroupRequest {
    /// The record's notes.
    pub(in crate::proxy) notes: Rc<RefCell<GroupUse>>,
    /// The body, for further attempts.
    pub(in crate::proxy) body: Body,
    pub(in crate::proxy) client: Arc<str>,
    /// The share of the client in the group's queue, and its priority.
    pub(in crate::proxy) share: u32,
    pub(in crate::proxy) priority: u32,
}

/// A failed attempt, after which another one is possible.
enum Failed {
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

    /// Reports the failure to the member's health, and returns the verdict. `None`: the member is
    /// not to blame.
    async fn judge(
        &mut self,
        group: &GroupRequest,
        failed: &mut Failed,
        (buffered, snapshot): &Held,
    ) -> Option<Verdict> {
        let permit = self.attempts.take_permit()?;
        let random = fastrand::u64(..);
        let verdict = match failed {
            Failed::Response(arrived) => {
                let error = read_error(&mut arrived.response).await;
                let head = &arrived.response.head;
                let status = head.status.as_u16();
                let failure = Failure::Response { status, headers: &head.headers, error: &error };
                let verdict = permit.record_failure(&failure, clock(), random);
                let stored = snapshot.stored_ids.as_ref();
                let lacks = stored.is_some_and(|stored| {
                    stored.is_refused(buffered, buffered.endpoint(snapshot), status, &error.message)
                });
                if lacks { verdict.or_of_state() } else { verdict }
            }
            Failed::Stream(_, Some(error)) => {
                permit.record_failure(&Failure::FirstEvent { error }, clock(), random)
            }
            Failed::Stream(_, None) => permit.record_failure(&Failure::EmptyStream, clock(), random),
            Failed::NoResponse(error) => permit.record_failure(&failure(error)?, clock(), random),
        };
        if let Some(reason) = verdict.opened {
            let upstream = self.upstream.spec.id.name().clone();
            group.notes.borrow_mut().opened.push((upstream, reason.name()));
            log_opened(&self.upstream, reason);
        }
        Some(verdict)
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

impl GroupRequest {
    /// Notes the end of the current attempt, once.
    fn note_failed(&self, failed: &Failed) {
        let mut notes = self.notes.borrow_mut();
        match failed {
            _ if !notes.is_attempting() => {}
            Failed::NoResponse(error) => notes.fail(error, Instant::now()),
            Failed::Stream(arrived, error) => {
                let code = error.as_ref().map_or("no event", error_name);
                notes.reject_stream(code, arrived.at, Instant::now());
                reported_usage(&arrived.response).into_iter().for_each(|usage| notes.record_usage(usage));
            }
            Failed::Response(arrived) => {
                notes.reject(arrived.response.head.status.as_u16(), arrived.at, Instant::now());
                reported_usage(&arrived.response).into_iter().for_each(|usage| notes.record_usage(usage));
            }
        }
    }

    /// Notes whether the conversation's member serves the request.
    pub(in crate::proxy) fn note_sticky(&self, permit: &Permit) {
        self.notes.borrow_mut().sticky.get_or_insert(permit.sticky().name());
    }

    /// Notes an attempt that begins.
    pub(in crate::proxy) fn begin(&self, upstream: &WorkerUpstream, model: Option<&str>) {
        let spec = &upstream.spec;
        self.notes.borrow_mut().begin(spec.id.name().clone(), spec.provider, model, Instant::now());
    }

    /// Returns true if a part of a body that passes through was sent, and is gone.
    fn is_body_taken(&self) -> bool {
        matches!(&self.body, Body::Shared(body, _) if body.is_taken())
    }

    /// Adds a list of the attempts to the error of the last one.
    fn describe(&self, error: Error) -> Error {
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

/// The failure that an error stands for; `None`: it is the client's, or of the request as a whole.
fn failure(error: &Error) -> Option<Failure<'static>> {
    match error.kind() {
        Kind::TotalTimeout { .. } => None,
        Kind::FirstByteTimeout { limit, was_sent: true, .. } => Some(Failure::FirstByte(*limit)),
        Kind::Unanswered => Some(Failure::Closed),
        _ if error.retry() == Retry::NotSent => Some(Failure::Connect),
        _ => None,
    }
}

/// Reads the beginning of an error's body, for a verdict. The bytes stay part of the body.
async fn read_error(response: &mut UpstreamResponse) -> UpstreamError {
    let _ = timeout(ERROR_WAIT, response.body.read_ahead(MAX_ERROR)).await;
    let body = readable_body(&response.head.headers, response.body.ahead());
    body.map(|body| UpstreamError::parse(&body)).unwrap_or_default()
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

fn clock() -> Clock {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock { now: Instant::now(), unix }
}

/// Logs once that a member is left out, with the remedy.
fn log_opened(upstream: &WorkerUpstream, reason: OutReason) {
    let id = &upstream.spec.id;
    match reason {
        OutReason::Credentials => tracing::error!(
            upstream = %id,
            "the upstream refuses its credentials and is left out: replace its api_key, and reload the configuration"
        ),
        OutReason::Quota => {
            tracing::warn!(upstream = %id, "the upstream's quota is used up: it is left out for five minutes")
        }
        OutReason::Forbidden => {
            tracing::warn!(upstream = %id, "the upstream refuses a model to its credentials: the model is left out there")
        }
        OutReason::UnknownModel => {
            tracing::warn!(upstream = %id, "the upstream does not have a model: the model is left out there")
        }
        OutReason::Failures | OutReason::SuccessRate => {
            tracing::warn!(upstream = %id, reason = reason.name(), "the upstream fails and is left out");
        }
    }
}
