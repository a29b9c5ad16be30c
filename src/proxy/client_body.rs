//! The limits of request bodies, and buffering within them.

use std::future::poll_fn;
use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Body;

use super::Budget;
use super::body_buffer::BodyBuffer;
use super::budget::Reserved;
use super::pace::{Pace, Wait};
use crate::llm::rewrite::form::Form;
use crate::record::error::{Error, Kind, Result};
use crate::server::RequestBody;
use crate::support::flow::Limit;

/// The limits of request bodies.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    /// The largest body that is buffered, in bytes.
    pub max_bytes: usize,
    /// The largest body that passes through, in bytes; `None`: no limit.
    pub max_passing_bytes: Option<u64>,
    /// The minimum rate in bytes per second; `None`: no limit.
    pub min_rate: Option<NonZeroU32>,
    /// The memory of all buffered bodies.
    pub budget: Budget,
}

impl BodyLimits {
    fn too_large(&self) -> Error {
        Kind::BodyTooLarge { limit: self.max_bytes as u64, key: "server.max_request_bytes" }.into()
    }

    /// # Errors
    /// Returns an error if these bytes are more than may be buffered.
    pub(super) fn check_held(&self, bytes: usize) -> Result<()> {
        if bytes > self.max_bytes { Err(self.too_large()) } else { Ok(()) }
    }

    /// `Ready` if a body was evicted or arrives too slowly. Must be called while it is waited for.
    pub(super) fn poll_pace(
        &self,
        pace: &mut Pace,
        reserved: &mut Reserved,
        cx: &mut Context<'_>,
    ) -> Poll<Error> {
        if reserved.is_evicted() {
            return Poll::Ready(Kind::BodyEvicted.into());
        }
        match pace.poll(cx) {
            Wait::On(late_since) => {
                reserved.set_late(late_since, cx.waker());
                Poll::Pending
            }
            Wait::Over(error) => {
                self.budget.count(Limit::BodyRate);
                Poll::Ready(error)
            }
        }
    }

    /// # Errors
    /// Returns an error if these bytes are more than may pass through.
    pub(super) fn check_passing(&self, bytes: u64) -> Result<()> {
        match self.max_passing_bytes {
            Some(limit) if bytes > limit => {
                Err(Kind::BodyTooLarge { limit, key: "server.max_passing_bytes" }.into())
            }
            _ => Ok(()),
        }
    }

    /// Reads a whole body of `client`. A declared length over the limit is refused before a byte is
    /// read. The body counts against the budget until the reservation is dropped.
    pub(super) async fn buffer(&self, mut body: RequestBody, client: &Arc<str>) -> Result<(Bytes, Reserved)> {
        if body.size_hint().lower() > self.max_bytes as u64 {
            return Err(self.too_large());
        }
        let mut reserved = self.budget.reserve();
        if let Some(whole) = body.take_whole() {
            self.check_held(whole.len())?;
            reserved.grow_to(whole.len(), client)?;
            return Ok((whole, reserved));
        }
        let pace = Pace::new(self.min_rate);
        let declared = body.size_hint().exact().map(|length| length as usize);
        let mut holding = Holding { limits: self, client, body, pace, reserved };
        let mut all = BytesMut::new();
        // Most bodies arrive in one frame, which is kept unchanged.
        while all.is_empty() {
            let frame = poll_fn(|cx| holding.watch(cx, |body, cx| Pin::new(body).poll_frame(cx))).await;
            let Some(frame) = frame.transpose()? else { return Ok((Bytes::new(), holding.reserved)) };
            all = frame.into_data().map(BytesMut::from).unwrap_or_default();
            holding.admit(0, all.len())?;
        }
        let mut all = BodyBuffer::new(all, declared, self.max_bytes);
        while !holding.body.is_end_stream() {
            let before = all.len();
            let added = poll_fn(|cx| holding.watch(cx, |body, cx| body.poll_append(cx, all.tail()))).await;
            if added.transpose()?.is_none() {
                break;
            }
            holding.admit(before, all.len())?;
            all.settle();
        }
        holding.reserved.settle()?;
        Ok((all.finish(), holding.reserved))
    }

    /// Reads a form up to its model, or to its end, within the limits of a whole body. Beyond the
    /// largest buffered body, a form that `must_name` its model is refused, and any other is read
    /// no further.
    pub(super) async fn buffer_form(
        &self,
        body: RequestBody,
        client: &Arc<str>,
        form: &mut Form,
        must_name: bool,
    ) -> Result<Beginning> {
        let (pace, reserved) = (Pace::new(self.min_rate), self.budget.reserve());
        let mut holding = Holding { limits: self, client, body, pace, reserved };
        let mut all = BytesMut::new();
        let mut has_ended = false;
        while !form.fields().has_model() && !has_ended {
            let frame = poll_fn(|cx| holding.watch(cx, |body, cx| Pin::new(body).poll_frame(cx))).await;
            let Some(frame) = frame.transpose()? else { break };
            let Ok(data) = frame.into_data() else { continue };
            holding.pace.heard(data.len());
            holding.reserved.grow_to(all.len() + data.len(), client)?;
            all.extend_from_slice(&data);
            form.push(&data);
            has_ended = holding.body.is_end_stream();
            let before_model = form.fields().model_span.as_ref().map_or(all.len(), |span| span.end);
            if before_model > self.max_bytes {
                if must_name {
                    return Err(Kind::ModelTooLate { limit: self.max_bytes as u64 }.into());
                }
                break;
            }
        }
        holding.reserved.settle()?;
        let rest = (!holding.body.is_end_stream()).then_some(holding.body);
        if rest.is_none() {
            form.end();
        }
        Ok(Beginning { bytes: all.freeze(), reserved: holding.reserved, rest })
    }
}

/// The beginning of a body.
pub(super) struct Beginning {
    pub(super) bytes: Bytes,
    pub(super) reserved: Reserved,
    /// The part that the client has not sent; `None`: the body is complete.
    pub(super) rest: Option<RequestBody>,
}

/// A body that is being buffered.
struct Holding<'a> {
    limits: &'a BodyLimits,
    client: &'a Arc<str>,
    body: RequestBody,
    pace: Pace,
    reserved: Reserved,
}

impl Holding<'_> {
    /// Checks the limits after the body grew from `before` to `after` bytes.
    fn admit(&mut self, before: usize, after: usize) -> Result<()> {
        self.pace.heard(after - before);
        self.limits.check_held(after)?;
        self.reserved.grow_to(after, self.client)
    }

    /// Polls the body; fails it if it was evicted or arrives too slowly.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut RequestBody, &mut Context<'_>) -> Poll<Option<io::Result<T>>>,
    ) -> Poll<Option<Result<T>>> {
        if let Poll::Ready(next) = poll(&mut self.body, cx) {
            return Poll::Ready(next.map(|next| next.map_err(|error| incomplete(&error))));
        }
        self.limits.poll_pace(&mut self.pace, &mut self.reserved, cx).map(|error| Some(Err(error)))
    }
}

pub(super) fn incomplete(error: &io::Error) -> Error {
    tracing::debug!(%error, "the client closed inside its request");
    Kind::BodyIncomplete.into()
}
