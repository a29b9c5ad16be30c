//! Writes a request's head and body over HTTP/1.1, as fast as the socket accepts them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;

use super::stream::Stream;
use crate::codec::h1;
use crate::llm::rewrite::body::Edited;
use crate::record::error::Error;

/// The largest number of slices of one vectored write.
const PIECES: usize = 16;

/// A body that the client is sending; its errors are the client's.
pub type ClientBody = Pin<Box<dyn Body<Data = Bytes, Error = Error>>>;

/// A request's body.
pub enum Payload {
    /// The body is in memory, because routing or editing needed it. It can be sent again.
    Held(Edited),
    /// Passed through while the client sends it.
    Streamed {
        body: ClientBody,
        /// True if it is sent in chunks; otherwise its length was in the head.
        chunked: bool,
    },
}

impl Default for Payload {
    /// No body.
    fn default() -> Self {
        Self::Held(Edited::default())
    }
}

impl Payload {
    /// A copy for sending again; `None` for a streamed body.
    pub(super) fn replay(&self) -> Option<Self> {
        match self {
            Self::Held(pieces) => Some(Self::Held(pieces.clone())),
            Self::Streamed { .. } => None,
        }
    }
}

/// The reason for which the upload stopped.
#[derive(Debug)]
pub(super) enum UploadError {
    /// The client's body ended early.
    Client(Error),
    /// The upstream accepts no more bytes. Reading then yields its response, or an error.
    Upstream,
}

/// The written part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// At most a part of the head.
    Nothing,
    /// The head, but not the whole body.
    Head,
    Everything,
}

/// Writes one request. Buffers at most one frame of a streamed body.
pub(super) struct Upload {
    /// The head; empty once it is written.
    head: Vec<u8>,
    /// The bytes of the head that were written.
    head_sent: usize,
    /// A body in memory; empty once it is written.
    held: Edited,
    /// The bytes of it that were written.
    held_sent: usize,
    /// The frame of a streamed body that is being written.
    queue: VecDeque<Bytes>,
    body: Option<(ClientBody, bool)>,
    /// Bytes were written since the last [`Upload::take_progress`].
    moved: bool,
    /// The last poll returned `Pending` because the client has sent no more.
    starved: bool,
}

impl Upload {
    pub(super) fn new(head: Vec<u8>, payload: Payload) -> Self {
        let (held, body) = match payload {
            Payload::Held(held) => (held, None),
            Payload::Streamed { body, chunked } => (Edited::default(), Some((body, chunked))),
        };
        let queue = VecDeque::new();
        Self { head, head_sent: 0, held, held_sent: 0, queue, body, moved: false, starved: false }
    }

    /// The buffer of a head that is written.
    pub(super) fn take_head(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    /// Returns true if bytes were written since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The written part; only until `poll` is ready.
    pub(super) fn sent(&self) -> Sent {
        if self.head.is_empty() { Sent::Head } else { Sent::Nothing }
    }

    /// Returns true if the upload waits for the client.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Writes as much as the socket accepts and the client has sent. `Ready(Ok)` is the end of the
    /// request; it must not be polled again.
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
                    // Bytes that were written must not wait in TLS for the next frame.
                    ready!(stream.poll_flush(cx)).map_err(refused)?;
                    self.starved = true;
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        while !self.head.is_empty() || !self.held.is_empty() || !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            let head = Some(&self.head[self.head_sent..]).filter(|head| !head.is_empty());
            let mut skipped = self.held_sent;
            let held = self.held.pieces().iter().filter_map(|piece| {
                let begin = skipped.min(piece.len());
                skipped -= begin;
                Some(&piece[begin..]).filter(|rest| !rest.is_empty())
            });
            let pieces = head.into_iter().chain(held).chain(self.queue.iter().map(|piece| &piece[..]));
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let mut written = ready!(stream.poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.moved = true;
            let taken = written.min(self.head.len() - self.head_sent);
            self.head_sent += taken;
            written -= taken;
            if self.head_sent < self.head.len() {
                continue;
            }
            self.head.clear();
            self.head_sent = 0;
            let taken = written.min(self.held.len() - self.held_sent);
            self.held_sent += taken;
            written -= taken;
            if self.held_sent == self.held.len() {
                (self.held, self.held_sent) = (Edited::default(), 0);
            }
            while let Some(front) = self.queue.front_mut() {
                let taken = written.min(front.len());
                front.advance(taken);
                written -= taken;
                if front.has_remaining() {
                    break;
                }
                self.queue.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Queues the next frame of the client's body. `false`: the body has ended.
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
                // Trailers of requests are dropped: no service needs them, and a sender must not
                // rely on them (RFC 9110 section 6.5).
                Err(_trailers) => {}
            },
        }
        Poll::Ready(Ok(true))
    }
}

fn refused(error: io::Error) -> UploadError {
    tracing::debug!(%error, "the upstream accepts no more of the request");
    UploadError::Upstream
}
