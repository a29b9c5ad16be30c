//! The client at the other end of the socket: what it sends, what it takes, and whether it is still
//! there.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::body::{BodyReader, Http1RequestBody};
use super::buffers::Buffers;
use super::unsent::{Unsent, write_once};
use crate::h1::server::{BadRequest, RequestHead, RequestReader};
use crate::listener::ClientStream;
use crate::listener::conn_state::{ConnCommand, ConnState};
use crate::listener::disconnect::{DisconnectWatch, Socket, WATCHED};

/// A head, and the body behind it, once all of the head is here.
type Found = Result<Option<(RequestHead, Http1RequestBody)>, BadRequest>;

/// The most that is read of a client's next request while its last one is answered.
const EARLY_BYTES: usize = 256;

/// What asks a client for the body that it holds back.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One connection.
pub(super) struct Peer<S> {
    io: S,
    pub(super) state: Rc<ConnState>,
    buffers: Rc<Buffers>,
    /// What was read beyond the request that is answered.
    pub(super) unread: Vec<u8>,
    /// What the socket has not taken yet, which is seldom anything.
    unsent: Option<Box<Unsent>>,
    reader: RequestReader,
    /// The body of the request that is answered, until it is read.
    body_reader: Option<BodyReader>,
    pipelined: Pipelined,
}

/// Who notices that the client has left behind bytes that are not read now: a part of its body that
/// the upstream does not take, or its next request.
#[derive(Debug)]
enum Pipelined {
    /// Nobody: there are no such bytes.
    Unneeded,
    /// Not watched yet: the next turn may read them.
    Soon,
    Watched(DisconnectWatch),
    /// Nobody: there is no descriptor left for it.
    Unwatched,
}

impl<S> Peer<S> {
    pub(super) fn new(io: S, unread: Vec<u8>, state: Rc<ConnState>, buffers: Rc<Buffers>) -> Self {
        Self {
            io,
            state,
            buffers,
            unread,
            unsent: None,
            reader: RequestReader::default(),
            body_reader: None,
            pipelined: Pipelined::Unneeded,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Peer<S> {
    /// The connection itself, for who speaks no HTTP on it, and what was read of it.
    pub(super) fn into_parts(self) -> (ClientStream, Bytes) {
        (Box::new(self.io), self.unread.into())
    }
}

impl<S: AsyncRead + AsyncWrite + Socket + Unpin> Peer<S> {
    /// Reads what is there; 0 is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(read_once(&mut self.io, cx, buf))?;
        if read > 0 {
            self.state.received();
            self.pipelined = Pipelined::Unneeded;
        }
        Poll::Ready(Ok(read))
    }

    /// The head of the next request, if it is among what was read beyond the last one.
    pub(super) fn head_in_unread(&mut self) -> Found {
        if self.unread.is_empty() || self.reader.has_begun() {
            return Ok(None);
        }
        self.state.received();
        self.pipelined = Pipelined::Unneeded;
        let mut unread = mem::take(&mut self.unread);
        self.head_in(&mut unread)
    }

    /// The head of the next request, once `new` makes it whole.
    pub(super) fn head_in(&mut self, new: &mut [u8]) -> Found {
        if self.unread.is_empty() {
            return match self.reader.read(new, || self.buffers.headers())? {
                Some((head, used)) => Ok(Some(self.begin(head, &mut new[used..]))),
                None => {
                    self.unread.extend_from_slice(new);
                    Ok(None)
                }
            };
        }
        self.unread.extend_from_slice(new);
        let Some((head, used)) = self.reader.read(&self.unread, || self.buffers.headers())? else {
            return Ok(None);
        };
        let mut bytes = mem::take(&mut self.unread);
        Ok(Some(self.begin(head, &mut bytes[used..])))
    }

    /// Takes in what was read behind a head: first the body, then what belongs to the next request.
    fn begin(&mut self, head: RequestHead, rest: &mut [u8]) -> (RequestHead, Http1RequestBody) {
        let (mut body_reader, body) = BodyReader::new(head.framing, head.expects_continue);
        if !rest.is_empty() {
            let used = body_reader.feed(rest);
            self.unread.extend_from_slice(&rest[used..]);
        }
        self.body_reader = (!body_reader.is_done()).then_some(body_reader);
        (head, body)
    }

    /// Reads on where the request's body is waited for, and otherwise looks whether the client has
    /// left. Ready: who waits can go on.
    ///
    /// # Errors
    /// The client has left.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.body_reader {
            Some(body_reader) if body_reader.is_wanted() => {
                if body_reader.take_expectation() {
                    // What it does not take now goes before the response.
                    let _ = self.poll_write(cx, CONTINUE, Bytes::new(), b"")?;
                }
                let _ = self.poll_flush(cx)?;
                ready!(self.poll_body(cx))?;
                Poll::Ready(Ok(()))
            }
            Some(_) => {
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

    /// Reads some of the request's body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(body_reader) = &mut self.body_reader else { return Poll::Ready(Ok(())) };
        let read = if let Some(read) =
            body_reader.read_to_buffer(|buffer| pin!(self.io.read_buf(buffer)).poll(cx))
        {
            ready!(read)?
        } else {
            let mut buf = self.buffers.read();
            let read = ready!(read_once(&mut self.io, cx, &mut buf))?;
            let used = body_reader.feed(&mut buf[..read]);
            self.unread.extend_from_slice(&buf[used..read]);
            read
        };
        if read == 0 {
            body_reader.end();
        }
        body_reader.tell(cx);
        if body_reader.is_done() {
            self.body_reader = None;
        }
        // Not a byte of a head: where the last answer is over, it is what was left of its request.
        self.pipelined = Pipelined::Unneeded;
        Poll::Ready(Ok(()))
    }

    /// The answer begins: a client that waited for a word before its body has one.
    pub(super) fn on_response_start(&mut self) {
        if let Some(body_reader) = &mut self.body_reader {
            body_reader.take_expectation();
        }
    }

    /// Whether all of the request's body has come, or may still be read. What nobody asks for any
    /// more is read if it is little and here.
    pub(super) fn poll_reusable(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        Ok(self.body_reader.as_ref().is_none_or(|body_reader| !body_reader.is_abandoned())
            || self.poll_discard_body(cx)?)
    }

    /// Whether all of the request's body has come. What is left, and nobody asks for any more, is
    /// read if it is little and here.
    pub(super) fn poll_discard_body(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.body_reader.as_ref().is_some_and(BodyReader::is_abandoned) {
            let _ = self.poll_body(cx)?;
        }
        Ok(self.body_reader.is_none())
    }

    /// Reads what still comes, to its end or a silence of that length, or until the place is
    /// needed.
    pub(super) async fn linger(&mut self, silence: Duration) -> io::Result<()> {
        self.state.lingers();
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

    /// Looks whether the client has left, and has this task woken when it does. What it sends
    /// meanwhile is kept for later.
    fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.unread.is_empty() {
            return self.peek_next(cx);
        }
        let buffers = Rc::clone(&self.buffers);
        let mut buf = buffers.read();
        match self.poll_read(cx, &mut buf[..EARLY_BYTES]) {
            Poll::Pending => Ok(()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Ok(read)) => {
                self.unread.extend_from_slice(&buf[..read]);
                self.peek_next(cx)
            }
        }
    }

    /// Looks whether the client has left behind bytes that are not read now. As long as they may be
    /// in the next turn, nothing is spent on it.
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
                    .map_or(Pipelined::Unwatched, Pipelined::Watched);
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

    /// Writes these, one behind the other. What the socket does not take is kept, and is not to be
    /// given again.
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
        }
        self.state.track_write(written)
    }

    /// Writes what the socket has not taken yet.
    pub(super) fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(unsent) = &mut self.unsent {
            let pieces = [&unsent.before, &unsent.data, unsent.behind].map(IoSlice::new);
            let written = write_once(&mut self.io, cx, pieces);
            unsent.advance(ready!(self.state.track_write(written))?);
            if unsent.is_empty() {
                self.unsent = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands on what the stream itself still holds (TLS). Everything that was to be written is then
    /// with the system.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        ready!(self.state.track_write(flushed))?;
        self.state.flushed();
        Poll::Ready(Ok(()))
    }

    /// Has the connection reset when it is dropped: the client sees an error in place of an end.
    pub(super) fn reset_on_drop(&self) -> io::Result<()> {
        SockRef::from(self.io.tcp()).set_linger(Some(Duration::ZERO))
    }

    /// Writes what is left, and ends this side of the connection.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn read_once(
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
