//! The client's side of a connection: reads its bytes, writes to it, and detects that it has left.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::bell::Bell;
use super::body::{BodyReader, Http1RequestBody};
use super::buffers::Buffers;
use super::unsent::{Unsent, write_once};
use crate::codec::h1::server::{BadRequest, ParsedRequest, RequestReader};
use crate::server::ClientStream;
use crate::server::conn_state::{ConnCommand, ConnState};
use crate::server::disconnect::{DisconnectWatch, Socket, WATCHED};

/// A complete head, and its body.
type Found = Result<Option<(ParsedRequest, Http1RequestBody)>, BadRequest>;

/// The largest part that is read of the next request while a response is written.
const EARLY_BYTES: usize = 256;

/// Asks the client for a body that it holds back (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One connection.
pub(super) struct Peer<S> {
    pub(super) io: S,
    pub(super) state: Rc<ConnState>,
    pub(super) buffers: Rc<Buffers>,
    /// Bytes behind the current request.
    pub(super) unread: Vec<u8>,
    /// Bytes that the socket has not accepted yet, rarely any.
    unsent: Option<Box<Unsent>>,
    reader: RequestReader,
    /// The body of the current request, until it is complete. Boxed, because most bodies come with
    /// their head, and streams are long-lived.
    body_reader: Option<Box<BodyReader>>,
    pipelined: Pipelined,
    /// Rings when the client sends something or leaves.
    bell: Option<Arc<Bell>>,
}

/// Detection of a client that leaves behind bytes that are not read now: a part of its body that
/// the upstream does not take, or its next request.
#[derive(Debug)]
enum Pipelined {
    /// There are no such bytes.
    Unneeded,
    /// Not watched yet: the next turn may read them.
    Soon,
    /// Boxed, because it is rare, and streams are long-lived.
    Watched(Box<DisconnectWatch>),
    /// Not watched: no descriptor is left.
    Unwatched,
}

impl<S> Peer<S> {
    pub(super) fn new(io: S, state: Rc<ConnState>, buffers: Rc<Buffers>) -> Self {
        Self {
            io,
            state,
            buffers,
            unread: Vec::new(),
            unsent: None,
            reader: RequestReader::default(),
            body_reader: None,
            pipelined: Pipelined::Unneeded,
            bell: None,
        }
    }

    /// The socket is polled without the bell.
    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Peer<S> {
    /// The connection for another protocol, and the bytes read from it.
    pub(super) fn into_parts(self) -> (ClientStream, Bytes) {
        (Box::new(self.io), self.unread.into())
    }
}

impl<S: AsyncRead + AsyncWrite + Socket + Unpin> Peer<S> {
    /// Reads available bytes; 0 is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.ring();
        self.poll_read_silently(cx, buf)
    }

    fn poll_read_silently(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(read_once(&mut self.io, cx, buf))?;
        if read > 0 {
            self.state.received();
            self.pipelined = Pipelined::Unneeded;
        }
        Poll::Ready(Ok(read))
    }

    /// The head of the next request, if the bytes behind the last one have it.
    pub(super) fn head_in_unread(&mut self) -> Found {
        if self.unread.is_empty() || self.reader.has_begun() {
            return Ok(None);
        }
        self.state.received();
        self.pipelined = Pipelined::Unneeded;
        let mut unread = mem::take(&mut self.unread);
        let found = self.head_in(&mut unread);
        self.count_waiting();
        found
    }

    /// The head of the next request, once `new` completes it.
    pub(super) fn head_in(&mut self, new: &mut [u8]) -> Found {
        let found = self.head_behind_unread(new);
        if !matches!(found, Ok(Some(_))) {
            self.state.await_head();
        }
        found
    }

    fn head_behind_unread(&mut self, new: &mut [u8]) -> Found {
        if self.unread.is_empty() {
            return match self.reader.read(new)? {
                Some((head, used)) => Ok(Some(self.begin(head, &mut new[used..]))),
                None => {
                    self.keep(new);
                    Ok(None)
                }
            };
        }
        self.keep(new);
        let Some((head, used)) = self.reader.read(&self.unread)? else { return Ok(None) };
        let mut bytes = mem::take(&mut self.unread);
        let begun = self.begin(head, &mut bytes[used..]);
        self.count_waiting();
        Ok(Some(begun))
    }

    /// Keeps bytes that are read later.
    #[cold]
    fn keep(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        self.count_waiting();
    }

    /// Gives back the memory of bytes that no request will read: many refused clients can linger.
    pub(super) fn discard_unread(&mut self) {
        self.unread = Vec::new();
        self.count_waiting();
    }

    /// Counts the memory of bytes that are not read or written yet.
    #[cold]
    fn count_waiting(&self) {
        self.state.hold(self.unread.capacity(), unsent_bytes(&self.unsent));
    }

    /// Passes bytes behind a head to the body, and keeps the rest for the next request.
    fn begin(&mut self, head: ParsedRequest, rest: &mut [u8]) -> (ParsedRequest, Http1RequestBody) {
        let (body_reader, body, used) = BodyReader::begin(head.framing, head.expects_continue, rest);
        self.body_reader = body_reader.map(Box::new);
        if used < rest.len() {
            self.keep(&rest[used..]);
        }
        (head, body)
    }

    /// Reads request body if the handler waits for it; otherwise polls for client disconnect.
    /// Ready: the handler can continue.
    ///
    /// # Errors
    /// The client has left.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.body_reader {
            Some(body_reader) if body_reader.is_wanted() => {
                if body_reader.take_expectation() {
                    // Bytes that the socket does not accept now are written before the response.
                    let _ = self.poll_write(cx, CONTINUE, Bytes::new(), b"")?;
                }
                let _ = self.poll_flush(cx)?;
                ready!(self.poll_body(cx))?;
                Poll::Ready(Ok(()))
            }
            Some(_) => {
                self.ring();
                if self.io.tcp().poll_read_ready(cx)?.is_ready() {
                    self.peek_next(cx)?;
                }
                Poll::Pending
            }
            None => {
                self.poll_disconnect(cx)?;
                Poll::Pending
            }
        }
    }

    /// Reads a part of the request's body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ring();
        let Some(body_reader) = &mut self.body_reader else { return Poll::Ready(Ok(())) };
        let read = if let Some(read) =
            body_reader.read_to_buffer(|buffer| pin!(self.io.read_buf(buffer)).poll(cx))
        {
            ready!(read)?
        } else {
            let mut buf = self.buffers.read();
            let read = ready!(read_once(&mut self.io, cx, &mut buf))?;
            let used = body_reader.feed(&mut buf[..read]);
            if used < read {
                self.unread.extend_from_slice(&buf[used..read]);
                self.state.hold(self.unread.capacity(), unsent_bytes(&self.unsent));
            }
            read
        };
        if read == 0 {
            body_reader.end();
        }
        body_reader.tell(cx);
        if body_reader.is_done() {
            self.body_reader = None;
        }
        // The bytes belong to a body, so they do not begin the next head.
        self.pipelined = Pipelined::Unneeded;
        Poll::Ready(Ok(()))
    }

    /// A response makes `100 Continue` unnecessary.
    pub(super) fn on_response_start(&mut self) {
        if let Some(body_reader) = &mut self.body_reader {
            body_reader.take_expectation();
        }
    }

    /// Returns true if the connection can be reused: the body is complete, or the handler may still
    /// read it. A body that the handler dropped is discarded if the rest is small and available.
    pub(super) fn poll_reusable(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        Ok(self.body_reader.as_ref().is_none_or(|body_reader| !body_reader.is_abandoned())
            || self.poll_discard_body(cx)?)
    }

    /// Discards the rest of a body that the handler dropped, as far as it is available. True: the
    /// body is complete.
    pub(super) fn poll_discard_body(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.body_reader.as_ref().is_some_and(|body_reader| body_reader.is_abandoned()) {
            let _ = self.poll_body(cx)?;
        }
        Ok(self.body_reader.is_none())
    }

    /// Reads and discards until the end, a silence of this length, or an eviction.
    pub(super) async fn linger(&mut self, silence: Duration) -> io::Result<()> {
        self.state.set_lingering();
        self.ring();
        loop {
            let read = poll_fn(|cx| {
                if matches!(self.state.command(), Some(ConnCommand::Yield | ConnCommand::Stop)) {
                    return Poll::Ready(Ok(0));
                }
                read_once(&mut self.io, cx, &mut self.buffers.read())
            });
            if timeout(silence, read).await?? == 0 {
                return Ok(());
            }
        }
    }

    /// Polls for disconnect. Bytes that the client sends meanwhile are kept for the next request.
    fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.unread.is_empty() {
            return self.peek_next(cx);
        }
        let bell = self.bell.get_or_insert_with(|| Bell::new(cx.waker()));
        if bell.is_silent() {
            return Ok(());
        }
        let waker = bell.silence();
        let buffers = Rc::clone(&self.buffers);
        let mut buf = buffers.read();
        match self.poll_read_silently(&mut Context::from_waker(&waker), &mut buf[..EARLY_BYTES]) {
            Poll::Pending => Ok(()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Ok(read)) => {
                self.ring();
                self.unread.extend_from_slice(&buf[..read]);
                self.peek_next(cx)
            }
        }
    }

    /// Polls for disconnect behind bytes that are not read now. The first poll only schedules
    /// another turn, in which they may be read; a descriptor is spent only after it.
    fn peek_next(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match &self.pipelined {
            Pipelined::Unneeded => {
                self.pipelined = Pipelined::Soon;
                cx.waker().wake_by_ref();
                return Ok(());
            }
            Pipelined::Soon => {
                self.pipelined = DisconnectWatch::watch(self.io.tcp(), &WATCHED)
                    .inspect_err(|error| tracing::debug!(%error, "a client that leaves will be noticed late"))
                    .map_or(Pipelined::Unwatched, |watch| Pipelined::Watched(Box::new(watch)));
            }
            Pipelined::Watched(_) | Pipelined::Unwatched => {}
        }
        if let Pipelined::Watched(watch) = &mut self.pipelined
            && watch.poll(cx).is_ready()
        {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Writes the three parts in order. Bytes that the socket does not accept are kept, and must
    /// not be passed again.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        before: &[u8],
        data: Bytes,
        behind: &'static [u8],
    ) -> Poll<io::Result<()>> {
        debug_assert!(self.unsent.is_none(), "one after the other");
        if before.is_empty() && data.is_empty() && behind.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let (mut before, mut rest) = (before, Unsent { before: Bytes::new(), data, behind });
        let written = loop {
            if before.is_empty() && rest.is_empty() {
                break Poll::Ready(Ok(()));
            }
            let pieces = [IoSlice::new(before), IoSlice::new(&rest.data), IoSlice::new(rest.behind)];
            match write_once(&mut self.io, cx, pieces) {
                Poll::Ready(Ok(mut written)) => {
                    let taken = written.min(before.len());
                    before = &before[taken..];
                    written -= taken;
                    rest.advance(written);
                }
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if written.is_pending() {
            rest.before = Bytes::copy_from_slice(before);
            self.unsent = Some(Box::new(rest));
            self.count_waiting();
        }
        self.state.track_write(written)
    }

    /// Writes the bytes that the socket has not accepted yet.
    pub(super) fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(unsent) = &mut self.unsent {
            let pieces = [&unsent.before, &unsent.data, unsent.behind].map(IoSlice::new);
            let written = write_once(&mut self.io, cx, pieces);
            unsent.advance(ready!(self.state.track_write(written))?);
            if unsent.is_empty() {
                self.unsent = None;
                self.count_waiting();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Flushes the stream (TLS). When ready, all written bytes are with the kernel.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        ready!(self.state.track_write(flushed))?;
        self.state.flushed();
        Poll::Ready(Ok(()))
    }

    /// Resets the connection when it is dropped, so that the client sees an error instead of an
    /// end.
    pub(super) fn reset_on_drop(&self) -> io::Result<()> {
        SockRef::from(self.io.tcp()).set_linger(Some(Duration::ZERO))
    }

    /// Writes the rest, and shuts down this direction. If no bytes are read afterwards
    /// (`lingers`), the drop of a plain connection does that, with a system call less.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, lingers: bool) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        if !lingers && self.io.ends_when_dropped() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The memory of bytes that the socket has not accepted.
fn unsent_bytes(unsent: &Option<Box<Unsent>>) -> usize {
    unsent.as_deref().map_or(0, |unsent| unsent.before.len() + unsent.data.len())
}

/// Reads available bytes; 0 is the end.
pub(super) fn read_once(
    io: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buf: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(buf);
    ready!(Pin::new(io).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

#[cfg(test)]
mod tests;
