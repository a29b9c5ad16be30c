//! The attempts at a request, until one has a response that is relayed.
//!
//! If the upstream refuses a request to which the proxy added `stream_options`, the request is sent
//! once more without them: to the same upstream, as another [`Variant`](crate::balance::Variant).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;

use super::include_usage::{self, Seen};
use super::request::{Body, Buffered, Prepared};
use super::worker::{WorkerSnapshot, WorkerUpstream};
use crate::balance::Attempt;
use crate::codec::h1::BodyFraming;
use crate::llm::usage::Content;
use crate::proxy::meter::UsageFeedback;
use crate::record::Entry;
use crate::record::error::{Result, Retry};
use crate::upstream::{OutboundRequest, Payload, UpstreamResponse};

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
}

impl Prepared {
    /// Sends the request, and returns the first response that is not refused.
    ///
    /// The future owns all of its data, so that it can outlive the request's own future inside a
    /// response body. It keeps the buffered body, and its place in the memory budget, until no
    /// further attempt is possible. `timeouts.connect` and `first_byte` apply to each attempt,
    /// `total` to all of them.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    pub(super) fn send(
        mut self,
        buffered: Box<Buffered>,
        snapshot: Rc<WorkerSnapshot>,
    ) -> impl Future<Output = Result<Accepted>> {
        async move {
            let mut refused: Option<(StatusCode, Box<str>)> = None;
            loop {
                let request = OutboundRequest {
                    method: &buffered.head.method,
                    target: std::mem::take(&mut self.outbound.target),
                    headers: &self.upstream.spec.headers,
                    client: self.outbound.decoded_headers.as_ref().unwrap_or(&buffered.head.headers),
                    upgrade: buffered.upgrade,
                    framing: self.outbound.framing,
                    payload: std::mem::replace(&mut self.outbound.payload, Payload::Held(Vec::new())),
                    is_streamed: self.is_streamed,
                    started: self.attempts.started(),
                };
                let mut response = match self.upstream.connections.send(request).await {
                    Ok(response) => response,
                    Err(error) if error.retry() == Retry::NotSent && self.may_begin_again() => {
                        let Some(attempt) = self.attempts.next_member(Instant::now()) else {
                            return Err(error);
                        };
                        self.rewrite(attempt, &buffered, &snapshot)?;
                        refused = None;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let at = Instant::now();
                let (option, support) = (self.outbound.usage, &self.upstream.stream_options);
                if let Some((status, model)) = &refused {
                    if include_usage::confirms_unsupported(*status, &mut response).await {
                        support.note_unsupported(model, Instant::now());
                    }
                    return Ok(self.accept(response, at, None));
                }
                if let Seen::Response(content) = option.check(&mut response, support).await {
                    return Ok(self.accept(response, at, content));
                }
                if !self.may_begin_again() {
                    return Ok(self.accept(response, at, None));
                }
                let status = response.head.status;
                drop(response);
                let attempt = self.attempts.without_stream_options();
                let name = self.rewrite(attempt, &buffered, &snapshot)?;
                tracing::debug!(upstream = %self.upstream.spec.id, model = %name, status = status.as_u16(), "stream_options are refused; sending once more without");
                refused = Some((status, name));
            }
        }
    }

    /// Writes the request for another attempt. A body that passes through has none. Returns the
    /// name under which the upstream's support of `stream_options` is remembered.
    fn rewrite(
        &mut self,
        attempt: Attempt,
        buffered: &Buffered,
        snapshot: &WorkerSnapshot,
    ) -> Result<Box<str>> {
        let routed = buffered.find(snapshot, buffered.peek())?;
        let body = if self.outbound.framing == BodyFraming::None { Body::None } else { Body::Buffered };
        self.upstream = Rc::clone(routed.target.member(attempt.member));
        self.outbound = routed.write(&self.upstream, attempt.variant, body)?;
        Ok(routed.support_name(&self.upstream).into())
    }

    fn accept(self, response: UpstreamResponse, at: Instant, content: Option<Content>) -> Accepted {
        let Self { upstream, outbound, .. } = self;
        let asked_for_usage = outbound.usage.is_added();
        let feedback = outbound.usage.feedback(&upstream.stream_options);
        Accepted { response, upstream, asked_for_usage, at, content, feedback }
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
}
