//! An upstream's response: its head, and a body that reads the connection when it is polled.

mod http1;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::http2::Http2ResponseBody;
use super::upgraded::UpgradedUpstream;
use crate::codec::head::ResponseHead;
use crate::record::error::Error;
use crate::support::pieces::Pieces;

pub(super) use http1::Http1ResponseBody;

/// A response of an upstream.
pub struct UpstreamResponse {
    /// The status is 200 or above, or 101 for an upgrade.
    pub head: ResponseHead,
    /// Must be polled to its end for the connection to be used again.
    pub body: UpstreamBody,
}

/// The body of a response. It reads the connection only when polled; dropping it before its end
/// closes the connection or resets the stream at once.
pub struct UpstreamBody {
    /// Data that was read ahead, returned first.
    ahead: Bytes,
    /// The trailers or the error that ended reading ahead. Boxed, because it is rare and streams
    /// are long-lived.
    after: Option<Box<Result<Frame<Bytes>, Error>>>,
    wire: Wire,
}

enum Wire {
    // Boxed, because a response is moved several times before its body is polled.
    Http1(Box<Http1ResponseBody>),
    Http2(Box<Http2ResponseBody>),
    /// No body: the connection was upgraded.
    Upgraded(Box<UpgradedUpstream>),
}

impl UpstreamBody {
    pub(super) fn http1(body: Box<Http1ResponseBody>) -> Self {
        Self::new(Wire::Http1(body))
    }

    pub(super) fn http2(body: Http2ResponseBody) -> Self {
        Self::new(Wire::Http2(Box::new(body)))
    }

    pub(super) fn upgraded(connection: UpgradedUpstream) -> Self {
        Self::new(Wire::Upgraded(Box::new(connection)))
    }

    /// Returns true if the connection was upgraded, so that there is no body.
    pub fn is_upgraded(&self) -> bool {
        matches!(self.wire, Wire::Upgraded(_))
    }

    pub fn into_upgraded(self) -> Option<Box<UpgradedUpstream>> {
        match self.wire {
            Wire::Upgraded(connection) => Some(connection),
            Wire::Http1(_) | Wire::Http2(_) => None,
        }
    }

    fn new(wire: Wire) -> Self {
        Self { ahead: Bytes::new(), after: None, wire }
    }

    /// Reads the whole body ahead; `None` if it fails or is longer than `limit` bytes. The body
    /// still yields all data afterwards. Cancel safe: only the frame boundaries are lost.
    pub async fn read_ahead(&mut self, limit: usize) -> Option<Bytes> {
        self.read_while(limit, |_, _| true).await;
        (self.is_read_ahead() && self.ahead.len() <= limit).then(|| self.ahead.clone())
    }

    /// The data that was read ahead.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Returns true if the data that was read ahead is the whole body, so that it needs no
    /// connection.
    pub fn is_read_ahead(&self) -> bool {
        self.has_ended() && self.failure().is_none()
    }

    /// The error with which the body ended while it was read ahead.
    pub fn failure(&self) -> Option<&Error> {
        self.after.as_deref().and_then(|after| after.as_ref().err())
    }

    /// Reads ahead while `wants_more(data, has_ended)` returns true, at most to the end of the body
    /// or one frame beyond `limit` bytes.
    pub async fn read_while(&mut self, limit: usize, mut wants_more: impl FnMut(&[u8], bool) -> bool) {
        loop {
            let has_ended = self.has_ended();
            if !wants_more(&self.ahead, has_ended) || has_ended || self.ahead.len() > limit {
                return;
            }
            match poll_fn(|cx| self.wire.poll_frame(cx)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => append(&mut self.ahead, data),
                    Err(trailers) => self.after = Some(Box::new(Ok(trailers))),
                },
                Some(Err(error)) => self.after = Some(Box::new(Err(error))),
                None => {}
            }
        }
    }

    /// Returns true if nothing follows the data that was read ahead, or an error.
    fn has_ended(&self) -> bool {
        self.after.is_some() || self.wire.is_end_stream()
    }
}

/// Appends `data`, with one copy of it and those of a vector that grows, unless a clone of `all`
/// exists.
fn append(all: &mut Bytes, data: Bytes) {
    if all.is_empty() {
        *all = data;
        return;
    }
    let mut grown = BytesMut::from(std::mem::take(all));
    grown.extend_from_slice(&data);
    *all = grown.freeze();
}

impl Wire {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
            Self::Upgraded(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Upgraded(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Upgraded(_) => SizeHint::with_exact(0),
        }
    }
}

impl UpstreamBody {
    /// Returns true if the end of the connection ends the body, so that a cut looks like the end.
    pub fn ends_by_close(&self) -> bool {
        matches!(&self.wire, Wire::Http1(body) if body.ends_by_close)
    }

    /// The time at which the bytes of the latest frame were read from the socket, or over HTTP/2,
    /// at which the shared connection was last read.
    pub fn read_at(&self) -> Instant {
        match &self.wire {
            Wire::Http1(body) => body.read_at,
            Wire::Http2(body) => body.read_at(),
            Wire::Upgraded(_) => Instant::now(),
        }
    }
}

impl UpstreamBody {
    /// The body as pieces; `None`: it has frames only, because it has no socket of its own or
    /// something was read ahead.
    pub fn as_pieces(&mut self) -> Option<&mut dyn Pieces<Error = Error>> {
        match &mut self.wire {
            Wire::Http1(body) if self.ahead.is_empty() && self.after.is_none() => Some(&mut **body),
            _ => None,
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.ahead)))));
        }
        if let Some(after) = self.after.take() {
            return Poll::Ready(Some(*after));
        }
        self.wire.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.after.is_none() && self.wire.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.wire.size_hint();
        let ahead = self.ahead.len() as u64;
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(rest + ahead),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy of all bytes for each frame would have another place each time, since the old bytes
    /// are still there.
    #[test]
    fn frames_that_are_read_ahead_are_copied_a_few_times_each() {
        const FRAME: [u8; 1024] = [7; 1024];
        let (mut all, mut place, mut moves) = (Bytes::new(), std::ptr::null(), 0);
        for frames in 1..=2048 {
            append(&mut all, Bytes::copy_from_slice(&FRAME));
            moves += usize::from(all.as_ptr() != place);
            place = all.as_ptr();
            assert_eq!(all.len(), frames * FRAME.len());
        }
        assert!(moves <= 12, "a buffer that doubles from 1 KiB to 2 MiB moves 12 times, not {moves}");
        assert!(all.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn bytes_that_are_read_ahead_stay_in_clones() {
        let mut all = Bytes::from_static(b"one");
        append(&mut all, Bytes::from_static(b" two"));
        let clone = all.clone();
        append(&mut all, Bytes::from_static(b" three"));
        assert_eq!((&clone[..], &all[..]), (&b"one two"[..], &b"one two three"[..]));
    }
}
