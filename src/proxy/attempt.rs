//! The attempts at a request, until one has a response that is relayed.
//!
//! If the upstream refuses a request to which the proxy added `stream_options`, the request is sent
//! once more without them: to the same upstream, as another [`Variant`](crate::balance::Variant). A
//! request to a group is sent to one member after the other ([`group`]). Steps that few requests
//! need are boxed, so that the future of every request stays small.

mod first_event;
mod group;
mod group_request;
mod judge;
mod queue;
mod shared_body;

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;

use super::cost_telling::CostTelling;
use super::include_usage::{self, Seen};
use super::request::{Body, Buffered, Prepared};
use super::worker::{WorkerSnapshot, WorkerUpstream};
use crate::balance::Attempt;
use crate::codec::h1::BodyFraming;
use crate::llm::usage::Content;
use crate::proxy::meter::{IdWatch, MemberPermit, ResponsePolicy, UsageFeedback};
use crate::record::Entry;
use crate::record::error::Result;
use crate::upstream::{OutboundRequest, UpstreamResponse};

use group::{is_served_at_once, take_first_wait};
pub(super) use group_request::{FirstWait, GroupRequest, note_begun, note_sticky};
pub(super) use queue::served;
pub(super) use shared_body::SharedBody;

/// The response that is relayed, with the results of its attempt.
pub(super) struct Accepted {
    pub(super) response: UpstreamResponse,
    pub(super) upstream: Rc<WorkerUpstream>,
    /// The proxy asked for usage in the client's place, so that the usage event is not for the
    /// client.
    pub(super) asked_for_usage: bool,
    /// The time at which the head had arrived.
    pub(super) at: Instant,
    /// The kind of body, if its first bytes show it and its type does not.
    pub(super) content: Option<Content>,
    /// The use of the body's end for knowledge about the upstream.
    pub(super) feedback: Option<UsageFeedback>,
    /// The permit of the member of a group, which lives as long as the response. `None`: the
    /// request has no group, or the result is recorded already.
    pub(super) permit: Option<Box<MemberPermit>>,
    /// Remembers the ids in the response.
    pub(super) ids: Option<Box<IdWatch>>,
    /// Tells the client the use of the response. `None`: the client does not want to know.
    pub(super) telling: Option<Box<CostTelling>>,
}

/// The request of the attempts, and the configuration at its beginning.
type Held = (Box<Buffered>, Rc<WorkerSnapshot>);

/// A response whose head has arrived.
pub(super) struct Arrived {
    pub(super) response: UpstreamResponse,
    pub(super) at: Instant,
    pub(super) content: Option<Content>,
}

impl Prepared {
    /// Sends the request until a response is good, or no further attempt is possible.
    ///
    /// The future owns all of its data, so that it can outlive the request's own future inside a
    /// response body. It keeps the buffered body, and its place in the memory budget, until no
    /// further attempt is possible. `timeouts.connect` and `first_byte` apply to each attempt,
    /// `total` to all of them.
    pub(super) fn send(
        mut self,
        buffered: Box<Buffered>,
        snapshot: Rc<WorkerSnapshot>,
    ) -> impl Future<Output = Result<Accepted>> {
        let held = (buffered, snapshot);
        async move {
            let mut group = self.group.take();
            if let Some((group, wait)) = take_first_wait(&mut group) {
                Box::pin(self.wait_first(wait, group, &held)).await?;
            }
            loop {
                let asked = match group.as_ref().and_then(|group| group.first_byte()) {
                    Some(limit) => Box::pin(self.ask_within(limit, &held)).await,
                    None => self.ask(&held).await,
                };
                let Some(permit) = &mut self.permit else { return Ok(self.accepted(asked?, None)) };
                if let Ok(arrived) = &asked
                    && is_served_at_once(group.as_deref(), &held, arrived)
                {
                    let permit = self.record_good(group.as_deref(), &held, arrived, arrived.at);
                    return Ok(self.accepted(asked?, permit));
                }
                let group = group.get_or_insert_with(|| {
                    GroupRequest::of_one_attempt(permit, &self.upstream, self.attempts.started())
                });
                if let ControlFlow::Break(result) = Box::pin(self.go_on(group, &held, asked)).await {
                    return result;
                }
            }
        }
    }

    /// Sends the request to the upstream of the current attempt, in another variant if it refuses
    /// the first.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    fn ask<'a>(&'a mut self, held: &'a Held) -> impl Future<Output = Result<Arrived>> + 'a {
        async move {
            let (buffered, snapshot) = held;
            // Boxed: it is rare, and every request has such a future.
            let mut refused: Option<Box<(StatusCode, Box<str>)>> = None;
            loop {
                let client = self.outbound.decoded_headers.as_ref().unwrap_or(&buffered.head.headers);
                let request = OutboundRequest {
                    method: &buffered.head.method,
                    headers: self.upstream.spec.headers_for(&self.outbound.target, client),
                    target: std::mem::take(&mut self.outbound.target),
                    client,
                    upgrade: buffered.upgrade,
                    framing: self.outbound.framing,
                    payload: std::mem::take(&mut self.outbound.payload),
                    is_streamed: self.is_streamed,
                    started: self.attempts.started(),
                    is_new: std::mem::take(&mut self.is_new),
                };
                let mut response = match &self.upstream.spec.tokens {
                    None => self.upstream.connections.send(request).await?,
                    // Boxed: every request has such a future.
                    Some(tokens) => Box::pin(tokens.send(&self.upstream.connections, request)).await?,
                };
                let at = response.body.read_at();
                let (option, support) = (self.outbound.usage, &self.upstream.stream_options);
                if let Some(refusal) = &refused {
                    let (status, model) = &**refusal;
                    if include_usage::confirms_unsupported(*status, &mut response).await {
                        support.note_unsupported(model, Instant::now());
                    }
                    return Ok(Arrived { response, at, content: None });
                }
                if let Seen::Response(content) = option.check(&mut response, support).await {
                    return Ok(Arrived { response, at, content });
                }
                if !self.may_begin_again() {
                    return Ok(Arrived { response, at, content: None });
                }
                let status = response.head.status;
                drop(response);
                let attempt = self.attempts.without_stream_options();
                let name = self.rewrite(attempt, buffered, snapshot)?;
                tracing::debug!(upstream = %self.upstream.spec.id, model = %name, status = status.as_u16(), "stream_options are refused; sending once more without");
                refused = Some(Box::new((status, name)));
            }
        }
    }

    /// Writes the request in another variant. A body that passes through has none. Returns the name
    /// under which the upstream's support of `stream_options` is remembered.
    fn rewrite(
        &mut self,
        attempt: Attempt,
        buffered: &Buffered,
        snapshot: &WorkerSnapshot,
    ) -> Result<Box<str>> {
        let routed = buffered.find(snapshot, buffered.peek())?;
        let body = if self.outbound.framing == BodyFraming::None { Body::None } else { Body::Buffered };
        self.outbound = routed.write(attempt.member, attempt.variant, body)?;
        Ok(routed.support_name(attempt.member).into())
    }

    fn accepted(&self, arrived: Arrived, permit: Option<Box<MemberPermit>>) -> Accepted {
        let Arrived { response, at, content } = arrived;
        let usage = self.outbound.usage;
        let upstream = Rc::clone(&self.upstream);
        let feedback = usage.feedback(&upstream.stream_options);
        Accepted {
            response,
            upstream,
            asked_for_usage: usage.is_added(),
            at,
            content,
            feedback,
            permit,
            ids: self.ids.as_ref().and_then(|ids| ids.at(&self.upstream)),
            telling: None,
        }
    }
}

impl Accepted {
    /// Names the upstream in the record. Until an attempt wins, the record names the target's
    /// first.
    pub(super) fn record_upstream(&self, entry: &mut Entry) {
        let (row, spec) = (entry.row(), &self.upstream.spec);
        if !row.upstream.as_ref().is_some_and(|named| Arc::ptr_eq(named, spec.id.name())) {
            (row.upstream, row.provider) = (Some(Arc::clone(spec.id.name())), Some(spec.provider));
        }
    }

    /// The policy of the response, after the request began with `begun`. That may be of another
    /// member of the group.
    pub(super) fn policy(&self, begun: ResponsePolicy) -> ResponsePolicy {
        let WorkerUpstream { drains, stream_metrics, .. } = &*self.upstream;
        begun.at(stream_metrics, drains)
    }
}
