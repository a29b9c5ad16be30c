//! One HTTP/2 connection, which hyper serves.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Surroundings;
use super::counted::Counted;
use super::peer_state::{Order, PeerState};
use super::{ClientCertificate, Handler, MAX_HEAD_BYTES, MAX_HTTP2_STREAMS, RequestBody};

/// Answer bytes that may wait for a slow client, per stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Serves a connection of which `read` was read already, until one side is done with it.
pub(super) async fn serve<S, H>(
    io: S,
    read: Vec<u8>,
    certificate: Option<ClientCertificate>,
    state: Rc<PeerState>,
    around: Rc<Surroundings<H>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    state.set_http2();
    let io = Io { io: TokioIo::new(io), prefix: read.into(), state: Rc::clone(&state) };
    let service = service_fn(|mut request: Request<Incoming>| {
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        // Begun at once: of a client that has left by now, hyper drops what is returned without polling it.
        let running = around.begin(&state);
        let handled = Box::pin(Rc::clone(&around.handler).handle(request.map(RequestBody::Http2)));
        let state = Rc::clone(&state);
        async move {
            let response = handled.await;
            Ok::<_, Infallible>(response.map(|body| Counted::<H>::new(body, running, &state)))
        }
    });
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let mut told = false;
    let ended = poll_fn(|cx| {
        state.wake_me(cx);
        match state.order() {
            Some(Order::Drop) => return Poll::Ready(Ok(())),
            Some(Order::Finish | Order::RefuseHead) if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            _ => {}
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "client connection ended");
    }
}

/// The bytes of the connection, as hyper reads and writes them: it gives back those that were read to tell the protocol, and notes
/// whether the client takes what is written.
struct Io<S> {
    io: TokioIo<S>,
    prefix: Bytes,
    state: Rc<PeerState>,
}

impl<S: AsyncRead + Unpin> Read for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.has_remaining() {
            let taken = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> Write for Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.state.takes(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.state.takes(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        ready!(self.state.takes(polled))?;
        // hyper flushes when it has written all that it had.
        self.state.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Runs what hyper spawns for a connection on the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
