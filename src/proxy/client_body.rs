//! A request's body: held because something in it is needed, or passing through.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::Budget;
use super::budget::Reserved;
use crate::error::{Error, Result};
use crate::listener::RequestBody;
use crate::upstream::Watchdog;

/// The longest pause inside a body that is held: it takes memory while it comes.
const BODY_IDLE: Duration = Duration::from_secs(60);

/// The most memory that a declared length reserves before bytes of it are here.
const FIRST_RESERVATION: usize = 1 << 20;

/// Refuses a body whose declared length is too much, before a byte of it is read.
pub(super) fn check_length(body: &RequestBody, limit: usize) -> Result<()> {
    if body.size_hint().lower() > limit as u64 { Err(Error::BodyTooLarge { limit }) } else { Ok(()) }
}

/// Reads a whole body. Its bytes count against the budget until the reservation is dropped.
pub(super) async fn hold(mut body: RequestBody, limit: usize, budget: &Budget) -> Result<(Bytes, Reserved)> {
    let mut reserved = budget.reserve();
    let mut admit = |length| {
        if length > limit { Err(Error::BodyTooLarge { limit }) } else { reserved.grow_to(length) }
    };
    let declared = body.size_hint().exact().map_or(0, |length| length as usize);
    let mut watchdog = Watchdog::new(BODY_IDLE, None);
    let mut all = BytesMut::new();
    // Most bodies come in one frame, which is kept as it is.
    while all.is_empty() {
        let frame = poll_fn(|cx| watched(&mut watchdog, cx, |cx| Pin::new(&mut body).poll_frame(cx))).await;
        let Some(frame) = frame.transpose()? else { return Ok((Bytes::new(), reserved)) };
        all = frame.into_data().map(BytesMut::from).unwrap_or_default();
        admit(all.len())?;
    }
    all.reserve(declared.min(FIRST_RESERVATION).saturating_sub(all.len()));
    while !body.is_end_stream() {
        let added = poll_fn(|cx| watched(&mut watchdog, cx, |cx| body.poll_append(cx, &mut all))).await;
        if added.transpose()?.is_none() {
            break;
        }
        admit(all.len())?;
    }
    Ok((all.freeze(), reserved))
}

/// What is polled, or the end of a pause that takes too long.
fn watched<T>(
    watchdog: &mut Watchdog,
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<Option<io::Result<T>>>,
) -> Poll<Option<Result<T>>> {
    match poll(cx) {
        Poll::Pending => watchdog.poll_expired(cx).map(|_| Some(Err(Error::BodyTimeout(BODY_IDLE)))),
        Poll::Ready(next) => {
            watchdog.heard();
            Poll::Ready(next.map(|next| next.map_err(|error| incomplete(&error))))
        }
    }
}

/// A body that passes through: counted, and held to the same limit.
pub(super) struct Passing {
    body: RequestBody,
    limit: usize,
    seen: Rc<Cell<u64>>,
}

impl Passing {
    pub(super) fn new(body: RequestBody, limit: usize, seen: Rc<Cell<u64>>) -> Self {
        Self { body, limit, seen }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(incomplete(&error)))),
            Some(Ok(frame)) => frame,
        };
        let seen = self.seen.get() + frame.data_ref().map_or(0, Bytes::len) as u64;
        self.seen.set(seen);
        if seen > self.limit as u64 {
            return Poll::Ready(Some(Err(Error::BodyTooLarge { limit: self.limit })));
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
