//! The bytes of one client connection, as hyper reads and writes them.
//!
//! It does what hyper leaves to its IO: it gives back the bytes that were read to tell the protocol, notes when a
//! head begins, looks whether an HTTP/1.1 client has left while it is answered (hyper would, but holds 8 KB of buffer for it,
//! which is most of what an idle stream takes), and puts the proxy's own JSON in the place of the empty answer with which hyper's server
//! refuses a head that it cannot parse (400, 414, 431). That answer is told from all others by what it bears:
//! a status of 4xx, no request running, and none of this proxy's `x-streamgauge-id`.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};

use super::departure::{Departure, Socket, WATCHED};
use super::peer_state::{Order, PeerState};
use super::{ClientStream, Handler};
use crate::error::Error;
use crate::record::ID_HEADER;

/// The most of a refused body that is taken in before the connection is dropped.
const LINGER_BYTES: usize = 1 << 20;

/// How an answer begins after which the connection is no longer HTTP.
const SWITCHING: &[u8] = b"HTTP/1.1 101";

/// How long the rest of a refused body is taken in.
const LINGER: Duration = Duration::from_secs(2);

/// The most that is read of a client's next request while its last one is answered.
const EARLY_BYTES: usize = 256;

pub(super) struct ClientIo<S, H> {
    io: TokioIo<S>,
    /// Read from the socket before hyper asked for it.
    prefix: Bytes,
    /// Nobody but this looks whether the client has left.
    watch: Watch,
    /// How that is done while `prefix` waits: no read can tell then.
    beyond: Beyond,
    /// Since hyper read last, it has had a turn to read more.
    had_turn: bool,
    state: Rc<PeerState>,
    handler: Rc<H>,
    /// The refusal that goes out in place of hyper's.
    refusal: Bytes,
    header_timeout: Duration,
    linger: Option<Pin<Box<Sleep>>>,
    lingered: usize,
}

/// Who notices that the client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// hyper, which always reads: HTTP/2, or a connection that became a tunnel.
    Hyper,
    /// hyper has asked for bytes in vain since it flushed last, and is woken when there are any.
    Reading,
    /// Nobody yet: hyper's HTTP/1.1 server with half-closed connections allowed.
    Nobody,
}

/// Who notices that the client has left behind bytes that hyper does not take: a part of its body that the upstream does not
/// take either, or its next request.
#[derive(Debug)]
enum Beyond {
    /// Nobody: there are no such bytes.
    Unneeded,
    /// Nobody yet: hyper may take them when it is polled next.
    Soon,
    Watched(Departure),
    /// Nobody: there is no descriptor left for it.
    Unwatched,
}

impl<S, H> ClientIo<S, H> {
    pub(super) fn new(
        io: S,
        prefix: Bytes,
        watch: Watch,
        state: Rc<PeerState>,
        handler: Rc<H>,
        header_timeout: Duration,
    ) -> Self {
        Self {
            io: TokioIo::new(io),
            prefix,
            watch,
            beyond: Beyond::Unneeded,
            had_turn: false,
            state,
            handler,
            refusal: Bytes::new(),
            header_timeout,
            linger: None,
            lingered: 0,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static, H> ClientIo<S, H> {
    /// The connection itself, for who speaks no HTTP on it, and what was read of it; `first` is what hyper has read.
    pub(super) fn into_parts(self, first: Bytes) -> (ClientStream, Bytes) {
        let first = if self.prefix.is_empty() { first } else { [first, self.prefix].concat().into() };
        (Box::new(self.io.into_inner()), first)
    }
}

impl<S: AsyncRead + AsyncWrite + Socket + Unpin, H: Handler> ClientIo<S, H> {
    /// The error behind hyper's own refusal, if `bytes` are one.
    fn refused(&self, bytes: &[u8]) -> Option<Error> {
        if self.state.is_running() || !bytes.starts_with(b"HTTP/1.1 4") {
            return None;
        }
        let error = match bytes.get(9..12) {
            Some(b"400") => Error::MalformedHead,
            Some(b"414") => Error::UriTooLong,
            Some(b"431") => Error::HeadTooLarge,
            _ => return None,
        };
        memmem::find(bytes, ID_HEADER.as_str().as_bytes()).is_none().then_some(error)
    }

    /// Looks whether the client has left, if nobody else does, and has this task woken when it does. What it sends
    /// meanwhile is kept for when hyper asks.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.watch != Watch::Nobody {
            return Ok(());
        }
        if self.prefix.has_remaining() {
            return self.look_beyond(cx);
        }
        // The rest of a body is for hyper, which has more room for it.
        if !mem::replace(&mut self.had_turn, true) && self.io.inner().tcp().poll_read_ready(cx).is_ready() {
            cx.waker().wake_by_ref();
            return Ok(());
        }
        let mut bytes = [0; EARLY_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.io).poll_read(cx, buf.unfilled()) {
            Poll::Pending => Ok(()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Ok(())) => {
                self.prefix = Bytes::copy_from_slice(buf.filled());
                self.look_beyond(cx)
            }
        }
    }

    /// Looks whether the client has left behind what waits in `prefix`. As long as hyper takes that when it is polled next,
    /// nothing is spent on it.
    fn look_beyond(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match &self.beyond {
            Beyond::Unneeded => {
                self.beyond = Beyond::Soon;
                cx.waker().wake_by_ref();
                return Ok(());
            }
            Beyond::Soon => {
                self.beyond = Departure::watch(self.io.inner().tcp(), &WATCHED)
                    .inspect_err(|error| tracing::debug!(%error, "a client that leaves will be noticed late"))
                    .map_or(Beyond::Unwatched, Beyond::Watched);
            }
            Beyond::Watched(_) | Beyond::Unwatched => {}
        }
        if let Beyond::Watched(departure) = &mut self.beyond
            && departure.poll(cx).is_ready()
        {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Notes whether the client takes what is written.
    fn noted<T>(&self, polled: Poll<T>) -> Poll<T> {
        match polled {
            Poll::Pending => self.state.stalls(),
            Poll::Ready(_) => self.state.moves(),
        }
        polled
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.refusal.has_remaining() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.refusal))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.refusal.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in what the client still sends, so that the answer is not lost to a reset.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sink = [0; 4096];
        let patience = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        while self.lingered < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut sink);
            ready!(Pin::new(&mut self.io).poll_read(cx, buf.unfilled()))?;
            if buf.filled().is_empty() {
                break;
            }
            self.lingered += buf.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Socket + Unpin, H: Handler> Read for ClientIo<S, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state.order() == Some(Order::RefuseHead) {
            self.refusal = self.handler.refuse(Error::HeadTimeout(self.header_timeout)).into();
            // Best effort: a client that does not even read a few hundred bytes is not waited for.
            let _ = self.poll_refusal(cx);
            return Poll::Ready(Ok(()));
        }
        if self.prefix.has_remaining() {
            let taken = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(taken));
            self.beyond = Beyond::Unneeded;
            self.had_turn = false;
            self.state.received();
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        match (&read, self.watch) {
            (Poll::Pending, Watch::Nobody) => self.watch = Watch::Reading,
            (Poll::Ready(_), Watch::Reading) => self.watch = Watch::Nobody,
            _ => {}
        }
        ready!(read)?;
        self.had_turn = false;
        self.state.received();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Socket + Unpin, H: Handler> Write for ClientIo<S, H> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.refused(bytes) {
            self.refusal = self.handler.refuse(error).into();
            return Poll::Ready(Ok(bytes.len()));
        }
        if bytes.starts_with(SWITCHING) {
            self.watch = Watch::Hyper;
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        let written = self.noted(written);
        if written.is_pending() {
            // hyper flushes only what it could write.
            self.look(cx)?;
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // hyper's refusal is a head without a body: it is all in the first piece.
        if let Some(error) = pieces.first().and_then(|piece| self.refused(piece)) {
            self.refusal = self.handler.refuse(error).into();
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.noted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        ready!(self.noted(polled))?;
        // hyper flushes when it has written all that it had.
        self.state.flushed();
        self.look(cx)?;
        if self.watch == Watch::Reading {
            self.watch = Watch::Nobody;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        if self.state.linger.get() { self.poll_linger(cx) } else { Poll::Ready(Ok(())) }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};
    use std::time::Instant;

    use http::{Request, Response};
    use http_body_util::Empty;
    use hyper::body::Incoming;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    struct Nobody;

    impl Handler for Nobody {
        type Body = Empty<Bytes>;

        async fn handle(self: Rc<Self>, _: Request<Incoming>) -> Response<Empty<Bytes>> {
            unreachable!("no request is answered here")
        }

        fn refuse(&self, _: Error) -> Vec<u8> {
            Vec::new()
        }
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    async fn read(io: &mut ClientIo<TcpStream, Nobody>, room: usize) -> usize {
        let mut bytes = vec![0; room];
        let mut buf = ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buf.unfilled())).await.unwrap();
        buf.filled().len()
    }

    #[tokio::test]
    async fn the_rest_of_a_body_is_left_to_hyper_which_reads_more_of_it_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (served, _) = listener.accept().await.unwrap();
        let state = PeerState::new(Instant::now());
        let limit = Duration::from_secs(1);
        let mut io =
            ClientIo::new(served, Bytes::new(), Watch::Nobody, Rc::clone(&state), Rc::new(Nobody), limit);
        let _running = state.begin();
        client.write_all(&[b'x'; 30_000]).await.unwrap();

        assert_eq!(read(&mut io, 1000).await, 1000);
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let flushed = Pin::new(&mut io).poll_flush(&mut Context::from_waker(&waker));
        assert!(matches!(flushed, Poll::Ready(Ok(()))));
        assert!(woken.0.load(Ordering::Relaxed), "hyper gets its turn");
        assert_eq!(read(&mut io, 20_000).await, 20_000, "nothing has been read in its place");

        // It had a turn and did not want more: now it is looked whether the client is there.
        for _ in 0..2 {
            poll_fn(|cx| Pin::new(&mut io).poll_flush(cx)).await.unwrap();
        }
        assert_eq!(read(&mut io, 20_000).await, EARLY_BYTES);
        assert_eq!(read(&mut io, 20_000).await, 9000 - EARLY_BYTES);
    }
}
