//! A request's body: held because something in it is needed, or passing through.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::Budget;
use super::budget::Reserved;
use super::pace::{Pace, Wait};
use crate::error::{Error, Result};
use crate::flow::Limit;
use crate::listener::RequestBody;

/// The most memory that a declared length reserves before bytes of it are here.
const FIRST_RESERVATION: usize = 1 << 20;

/// What bodies may cost.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    /// The largest body that is held, in bytes.
    pub max_bytes: usize,
    /// The largest body that passes through, in bytes; `None`: any.
    pub max_passing_bytes: Option<u64>,
    /// Bytes per second that a body must bring; `None`: any rate.
    pub min_rate: Option<NonZeroU32>,
    /// What all held bodies share.
    pub budget: Budget,
}

impl BodyLimits {
    fn too_large(&self) -> Error {
        Error::BodyTooLarge { limit: self.max_bytes as u64, key: "server.max_request_bytes" }
    }

    /// Has a body pass through, whose bytes are counted in `seen`.
    ///
    /// # Errors
    /// Its declared length is too much.
    pub(super) fn pass(&self, body: RequestBody, seen: Rc<Cell<u64>>) -> Result<Passing> {
        self.check_passing(body.size_hint().lower())?;
        Ok(Passing { pace: Pace::new(self.min_rate), body, limits: self.clone(), seen })
    }

    fn check_passing(&self, bytes: u64) -> Result<()> {
        match self.max_passing_bytes {
            Some(limit) if bytes > limit => {
                Err(Error::BodyTooLarge { limit, key: "server.max_passing_bytes" })
            }
            _ => Ok(()),
        }
    }

    /// Reads a whole body of `client`; one whose declared length is too much is refused before a byte of it is read. Its bytes count against the budget until the reservation is dropped.
    pub(super) async fn hold(&self, body: RequestBody, client: &Arc<str>) -> Result<(Bytes, Reserved)> {
        if body.size_hint().lower() > self.max_bytes as u64 {
            return Err(self.too_large());
        }
        let (pace, reserved) = (Pace::new(self.min_rate), self.budget.reserve());
        let declared = body.size_hint().exact().map_or(0, |length| length as usize);
        let mut holding = Holding { limits: self, client, body, pace, reserved };
        let mut all = BytesMut::new();
        // Most bodies come in one frame, which is kept as it is.
        while all.is_empty() {
            let frame = poll_fn(|cx| holding.watch(cx, |body, cx| Pin::new(body).poll_frame(cx))).await;
            let Some(frame) = frame.transpose()? else { return Ok((Bytes::new(), holding.reserved)) };
            all = frame.into_data().map(BytesMut::from).unwrap_or_default();
            holding.admit(0, all.len())?;
        }
        all.reserve(declared.min(FIRST_RESERVATION).saturating_sub(all.len()));
        while !holding.body.is_end_stream() {
            let before = all.len();
            let added = poll_fn(|cx| holding.watch(cx, |body, cx| body.poll_append(cx, &mut all))).await;
            if added.transpose()?.is_none() {
                break;
            }
            holding.admit(before, all.len())?;
        }
        holding.reserved.settle()?;
        Ok((all.freeze(), holding.reserved))
    }
}

/// A body that is being read.
struct Holding<'a> {
    limits: &'a BodyLimits,
    client: &'a Arc<str>,
    body: RequestBody,
    pace: Pace,
    reserved: Reserved,
}

impl Holding<'_> {
    /// There are `after` bytes now, and were `before`.
    fn admit(&mut self, before: usize, after: usize) -> Result<()> {
        self.pace.heard(after - before);
        if after > self.limits.max_bytes {
            return Err(self.limits.too_large());
        }
        self.reserved.grow_to(after, self.client)
    }

    /// What is polled, or the end of a body that comes too slowly.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut RequestBody, &mut Context<'_>) -> Poll<Option<io::Result<T>>>,
    ) -> Poll<Option<Result<T>>> {
        if let Poll::Ready(next) = poll(&mut self.body, cx) {
            return Poll::Ready(next.map(|next| next.map_err(|error| incomplete(&error))));
        }
        let error = if self.reserved.is_evicted() {
            Error::BodyEvicted
        } else {
            match self.pace.poll(cx) {
                Wait::On(late_since) => {
                    self.reserved.is_late(late_since, cx.waker());
                    return Poll::Pending;
                }
                Wait::Over(error) => {
                    self.limits.budget.count(Limit::BodyRate);
                    error
                }
            }
        };
        Poll::Ready(Some(Err(error)))
    }
}

/// A body that passes through: counted, and held to a rate and a size of its own.
pub(super) struct Passing {
    body: RequestBody,
    limits: BodyLimits,
    pace: Pace,
    seen: Rc<Cell<u64>>,
}

impl Body for Passing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => match self.pace.poll(cx) {
                Wait::On(_) => return Poll::Pending,
                Wait::Over(error) => {
                    self.limits.budget.count(Limit::BodyRate);
                    return Poll::Ready(Some(Err(error)));
                }
            },
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(incomplete(&error)))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.pace.heard(bytes);
        let seen = self.seen.get() + bytes as u64;
        self.seen.set(seen);
        if let Err(error) = self.limits.check_passing(seen) {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn incomplete(error: &io::Error) -> Error {
    tracing::debug!(%error, "the client broke off inside its request");
    Error::BodyIncomplete
}
