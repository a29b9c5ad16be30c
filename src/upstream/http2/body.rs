//! The body of a response over HTTP/2: the DATA frames of its stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use super::connections::Slot;
use super::error::Http2Error;
use super::upload::Upload;
use crate::record::error::Error;
use crate::upstream::connect_spec::ConnectSpec;
use crate::upstream::error::{SendCause, SendError, SendPhase};
use crate::upstream::upload::UploadError;
use crate::upstream::watchdog::{Expired, Watchdog};

/// The body of a response over HTTP/2: each DATA frame becomes one frame. Taking a frame releases
/// its bytes to the windows, so that a client that does not read stops its upstream after one
/// window.
///
/// Also sends the rest of the request. Dropping it before its end resets the stream at once.
pub(in crate::upstream) struct Http2ResponseBody {
    spec: Arc<ConnectSpec>,
    /// `None` after the end or an error.
    open: Option<Open>,
    /// The rest of the body, if the upstream declared a length.
    remaining: Option<u64>,
    /// The frame or error behind the last byte of a declared length.
    ahead: Option<Result<Frame<Bytes>, h2::Error>>,
    watchdog: Watchdog,
    /// The time of the last read of the connection before the latest frame was taken.
    read_at: Instant,
}

/// The fields are dropped at the end of the response, in this order.
struct Open {
    stream: RecvStream,
    /// The rest of the request; `None` when it is sent, or when the upstream takes no more.
    upload: Option<Upload>,
    /// Frees the stream's place on the connection.
    slot: Slot,
}

impl Open {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match self.stream.poll_data(cx) {
            Poll::Ready(None) => self.stream.poll_trailers(cx).map(|trailers| match trailers {
                Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
                Err(error) => Some(Err(error)),
            }),
            polled => polled.map(|data| data.map(|data| data.map(Frame::data))),
        }
    }
}

impl Http2ResponseBody {
    pub(super) fn new(
        spec: &Arc<ConnectSpec>,
        slot: Slot,
        stream: RecvStream,
        upload: Option<Upload>,
        headers: &HeaderMap,
        watchdog: Watchdog,
    ) -> Self {
        let ended = stream.is_end_stream();
        // h2 resets a stream whose DATA does not add up to it (RFC 9113 section 8.1.1).
        let declared = || headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        Self {
            spec: Arc::clone(spec),
            open: (!ended).then(|| Open { stream, upload, slot }),
            remaining: if ended { Some(0) } else { declared() },
            ahead: None,
            watchdog,
            read_at: Instant::now(),
        }
    }

    pub(in crate::upstream) fn read_at(&self) -> Instant {
        self.read_at
    }

    fn fail(&self, cause: impl Into<SendCause>) -> Error {
        self.spec.fail(SendError::new(SendPhase::Body, cause))
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let Some(open) = &mut self.open else { return Poll::Ready(None) };
            if let Some(upload) = &mut open.upload {
                match upload.poll(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Err(UploadError::Client(error))) => return Poll::Ready(Some(Err(error))),
                    // The upstream may have responded without reading all of the request.
                    Poll::Ready(Ok(()) | Err(UploadError::Upstream)) => open.upload = None,
                }
            }
            let polled = match self.ahead.take() {
                Some(ahead) => Poll::Ready(Some(ahead)),
                None => open.poll_frame(cx),
            };
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    self.watchdog.heard();
                    if self.account(&frame) {
                        self.look_for_end(cx);
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(self.fail(Http2Error::from(error)))));
                }
                Poll::Ready(None) => {
                    self.open = None;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let expired = ready!(self.watchdog.poll_expired(cx));
                    return Poll::Ready(Some(Err(self.fail(match expired {
                        Expired::Silence => self.spec.idle_timeout(),
                        Expired::Total => self.spec.total_timeout(true),
                    }))));
                }
            }
        }
    }

    /// Reads on behind the last byte of a declared length: the end of the stream has mostly come with
    /// it, in a frame of its own, and clients whose protocol needs no end poll no further.
    fn look_for_end(&mut self, cx: &mut Context<'_>) {
        while self.remaining == Some(0)
            && self.ahead.is_none()
            && let Some(open) = &mut self.open
        {
            match open.poll_frame(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.open = None,
                Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) => {
                    self.account(&frame);
                }
                Poll::Ready(ahead) => self.ahead = ahead,
            }
        }
    }

    /// Releases a frame's window; returns false for an empty frame.
    fn account(&mut self, frame: &Frame<Bytes>) -> bool {
        let Some(open) = &mut self.open else { return true };
        self.read_at = open.slot.connection.heard_at();
        let Some(data) = frame.data_ref() else {
            self.open = None;
            return true;
        };
        // Fails only for more bytes than were received.
        let _ = open.stream.flow_control().release_capacity(data.len());
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
        if open.stream.is_end_stream() {
            self.open = None;
        }
        !data.is_empty()
    }
}

impl Body for Http2ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = ready!(self.poll_open(cx));
        if matches!(polled, Some(Err(_))) {
            self.open = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
