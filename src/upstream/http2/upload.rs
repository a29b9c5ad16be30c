//! Sends a request's body into an HTTP/2 stream.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use crate::record::error::Error;
use crate::upstream::upload::{ClientBody, Payload, UploadError};

/// Sends one body as fast as the peer's windows allow. Buffers at most one frame of a streamed
/// body.
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    queue: VecDeque<Bytes>,
    body: Option<ClientBody>,
    /// Over HTTP/1.1 the streamed body would be in chunks.
    chunked: bool,
    /// A frame was taken from the streamed body, which therefore cannot be sent again.
    begun: bool,
    /// Bytes were sent since the last [`Upload::take_progress`].
    moved: bool,
    /// The last poll returned `Pending` because the client has sent no more.
    starved: bool,
}

impl Upload {
    pub(super) fn new(stream: SendStream<Bytes>, payload: Payload) -> Self {
        let (queue, body, chunked) = match payload {
            Payload::Held(held) => (held.pieces().iter().cloned().collect(), None, false),
            Payload::Streamed { body, chunked } => (VecDeque::new(), Some(body), chunked),
        };
        Self { stream, queue, body, chunked, begun: false, moved: false, starved: false }
    }

    /// Returns true if bytes were sent since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Returns true if the upload waits for the client.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// The streamed body, if no frame of it was taken.
    pub(super) fn into_untouched(self) -> Option<Payload> {
        let body = self.body.filter(|_| !self.begun)?;
        Some(Payload::Streamed { body, chunked: self.chunked })
    }

    /// Sends as much as the windows take and the client has sent. `Ready(Ok)` is the end of the
    /// request; it must not be polled again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        self.starved = false;
        loop {
            if ready!(self.poll_queue(cx))? {
                return Poll::Ready(Ok(()));
            }
            match self.poll_body(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => {
                    return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(refused));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(UploadError::Client(error))),
                Poll::Pending => {
                    self.starved = true;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Sends the queue. `true`: the end of the body was sent with it.
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, UploadError>> {
        while let Some(front) = self.queue.front_mut() {
            if front.is_empty() {
                self.queue.pop_front();
                continue;
            }
            self.stream.reserve_capacity(front.len());
            while self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(refused(error))),
                    None => return Poll::Ready(Err(UploadError::Upstream)),
                }
            }
            let piece = front.split_to(self.stream.capacity().min(front.len()));
            if front.is_empty() {
                self.queue.pop_front();
            }
            let last = self.queue.is_empty() && self.body.is_none();
            self.stream.send_data(piece, last).map_err(refused)?;
            self.moved = true;
            if last {
                return Poll::Ready(Ok(true));
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Queues the next frame of the client's body. `false`: the body has ended.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(false)) };
        let frame = ready!(body.as_mut().poll_frame(cx)).transpose()?;
        self.begun = true;
        if frame.is_none() || body.is_end_stream() {
            self.body = None;
        }
        // Trailers of requests are dropped, as over HTTP/1.1.
        self.queue.extend(frame.and_then(|frame| frame.into_data().ok()));
        Poll::Ready(Ok(self.body.is_some() || !self.queue.is_empty()))
    }
}

fn refused(error: h2::Error) -> UploadError {
    tracing::debug!(%error, "the upstream accepts no more of the request");
    UploadError::Upstream
}
