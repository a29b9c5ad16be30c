//! The request's way out: the head and the body, as the socket takes them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;

use super::stream::Stream;
use crate::error::Error;
use crate::h1;

/// The most pieces that one write hands to the system.
const PIECES: usize = 16;

/// A body as the client sends it; its errors are the client's.
pub type ClientBody = Pin<Box<dyn Body<Data = Bytes, Error = Error>>>;

/// A request's body.
pub enum Payload {
    /// In memory, because something in it was needed. It can be sent again.
    Held(Vec<Bytes>),
    /// Passing through as the client sends it.
    Streamed {
        /// What the client sends.
        body: ClientBody,
        /// Whether it goes out in chunks; else its length was in the head.
        chunked: bool,
    },
}

impl Payload {
    /// The same once more, if it is still there.
    pub(super) fn replay(&self) -> Option<Self> {
        match self {
            Self::Held(pieces) => Some(Self::Held(pieces.clone())),
            Self::Streamed { .. } => None,
        }
    }
}

/// Why the upload stopped.
#[derive(Debug)]
pub(super) enum UploadError {
    /// The client broke off inside its body.
    Client(Error),
    /// The upstream takes no more. It may have answered nevertheless; if not, reading says why.
    Upstream,
}

/// How much of a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// At most a part of the head.
    Nothing,
    /// The head, and not all of the body.
    Head,
    Everything,
}

/// A request on its way out. At most one frame of a streamed body waits here.
pub(super) struct Upload {
    queue: VecDeque<Bytes>,
    body: Option<(ClientBody, bool)>,
    /// The head is not written yet, or not all of it.
    has_head: bool,
    /// Bytes went out since [`Upload::moved`] was asked.
    moved: bool,
    /// The last poll stopped for want of the client's bytes.
    starved: bool,
}

impl Upload {
    pub(super) fn new(head: Bytes, payload: Payload) -> Self {
        let mut queue = VecDeque::from([head]);
        let body = match payload {
            Payload::Held(pieces) => {
                queue.extend(pieces);
                None
            }
            Payload::Streamed { body, chunked } => Some((body, chunked)),
        };
        Self { queue, body, has_head: true, moved: false, starved: false }
    }

    /// Whether bytes went out since this was asked last.
    pub(super) fn moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// How much is written, before everything is.
    pub(super) fn sent(&self) -> Sent {
        if self.has_head { Sent::Nothing } else { Sent::Head }
    }

    /// Whether it is the client that everything waits for.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Writes as much as the socket takes and the client has sent. `Ready(Ok)`: all of it; not to
    /// be polled again.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<Result<(), UploadError>> {
        self.starved = false;
        loop {
            ready!(self.poll_write(cx, stream)).map_err(refused)?;
            match self.poll_body(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return stream.poll_flush(cx).map_err(refused),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(UploadError::Client(error))),
                Poll::Pending => {
                    // What was written must not wait for what comes next.
                    ready!(stream.poll_flush(cx)).map_err(refused)?;
                    self.starved = true;
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let mut written = ready!(stream.poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.moved = true;
            while let Some(front) = self.queue.front_mut() {
                let taken = written.min(front.len());
                front.advance(taken);
                written -= taken;
                if front.has_remaining() {
                    break;
                }
                self.queue.pop_front();
                self.has_head = false;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next frame of the client's body into the queue. `false`: there is none.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        let Some((body, chunked)) = &mut self.body else { return Poll::Ready(Ok(false)) };
        let chunked = *chunked;
        match ready!(body.as_mut().poll_frame(cx)).transpose()? {
            None => {
                self.body = None;
                if chunked {
                    self.queue.push_back(Bytes::from_static(h1::LAST_CHUNK));
                }
            }
            Some(frame) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) if chunked => {
                    self.queue.push_back(Bytes::copy_from_slice(h1::chunk_size_line(data.len()).as_ref()));
                    self.queue.push_back(data);
                    self.queue.push_back(Bytes::from_static(h1::CHUNK_END));
                }
                Ok(data) => self.queue.push_back(data),
                // No service asks for trailers of a request, and a sender must not rely on them
                // (RFC 9110 section 6.5).
                Err(_trailers) => {}
            },
        }
        Poll::Ready(Ok(true))
    }
}

fn refused(error: io::Error) -> UploadError {
    tracing::debug!(%error, "the upstream takes no more of the request");
    UploadError::Upstream
}
