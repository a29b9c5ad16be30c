//! One HTTP/2 connection; h2 reads and writes its frames.
//!
//! Every stream is a task of its own ([`stream`]), so that a stream that waits for its client does
//! not delay others.

mod body;
mod stream;
mod streams;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn_state::{ConnCommand, ConnState};
use super::connection::WorkerContext;
use super::places::Place;
use super::{ClientRequest, Handler, MAX_HEAD_BYTES, MAX_HTTP2_STREAMS, RequestBody};
use crate::record::error::Kind;
use crate::support::flow::Limit;
use crate::support::memory::HTTP2_CONNECTION;
use crate::tls::ClientCertificate;
pub use body::Http2RequestBody;
use streams::Streams;

/// Bounds of the memory of a connection.
#[derive(Clone, Copy)]
struct Bounds {
    /// The largest number of response bytes per stream that wait in h2 for the socket.
    send_buffer: usize,
    /// The largest number of bytes that a client may send before they are read, per request.
    stream_window: u32,
    /// The same per connection.
    connection_window: u32,
}

const BOUNDS: Bounds = Bounds { send_buffer: 64 * 1024, stream_window: 1 << 20, connection_window: 1 << 20 };

/// The bounds if memory is limited. [`HTTP2_CONNECTION`] has room for the connection's window, in
/// which a body that its upstream does not read leaves room for others.
const SMALL_BOUNDS: Bounds =
    Bounds { send_buffer: 16 * 1024, stream_window: 64 * 1024, connection_window: 256 * 1024 };

impl Bounds {
    fn of(state: &ConnState) -> Self {
        if state.has_memory_limit() { SMALL_BOUNDS } else { BOUNDS }
    }
}

/// The largest frame that is accepted.
const FRAME: u32 = 16 * 1024;

/// Serves a connection from which the bytes `read` were read already, until one side ends it.
pub(super) async fn serve<S, H>(
    io: S,
    read: Vec<u8>,
    certificate: Option<ClientCertificate>,
    state: Rc<ConnState>,
    context: Rc<WorkerContext<H>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    state.set_http2();
    state.grow(HTTP2_CONNECTION);
    let io = Io { io, prefix: read.into(), state: Rc::clone(&state) };
    let connection =
        Connection { certificate, state, context, places: Rc::default(), streams: Streams::default() };
    if let Err(error) = connection.run(io).await {
        tracing::debug!(%error, "client connection ended");
    }
}

/// The state that the streams of a connection share.
struct Connection<H> {
    certificate: Option<ClientCertificate>,
    state: Rc<ConnState>,
    context: Rc<WorkerContext<H>>,
    /// One per running stream except the first, which uses the connection's.
    places: Rc<RefCell<Vec<Place>>>,
    streams: Streams,
}

/// A stream's share of the places: dropping it frees one.
struct Seat(Rc<RefCell<Vec<Place>>>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.borrow_mut().pop();
    }
}

impl<H: Handler> Connection<H> {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(self, io: Io<S>) -> Result<(), h2::Error> {
        let state = &self.state;
        let bounds = Bounds::of(state);
        let mut handshake = Builder::new()
            .initial_window_size(bounds.stream_window)
            .initial_connection_window_size(bounds.connection_window)
            .max_frame_size(FRAME)
            .max_concurrent_streams(MAX_HTTP2_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .max_send_buffer_size(bounds.send_buffer)
            .handshake::<_, Bytes>(io);
        let agreed = poll_fn(|cx| {
            state.wake_me(cx);
            match Pin::new(&mut handshake).poll(cx) {
                // The handshake is not complete, so there is no request to finish.
                Poll::Pending if state.must_end_exchange(Instant::now(), true, || false) => Poll::Ready(None),
                polled => polled.map(Some),
            }
        });
        let Some(agreed) = agreed.await else { return Ok(()) };
        let mut connection = agreed?;
        let (mut told, mut stopped) = (false, false);
        poll_fn(|cx| {
            state.wake_me(cx);
            if state.command() == Some(ConnCommand::Stop) && !std::mem::replace(&mut stopped, true) {
                self.streams.wake();
            }
            match state.command() {
                Some(ConnCommand::Drop) => return Poll::Ready(Ok(())),
                Some(command) if !told => {
                    told = true;
                    // A graceful shutdown waits for the client's acknowledgement, which would delay
                    // a new connection. A request that crosses the GOAWAY is above its last stream
                    // id, so the client may send it again (RFC 9113 section 6.8).
                    match command {
                        ConnCommand::Yield => connection.abrupt_shutdown(Reason::NO_ERROR),
                        _ => connection.graceful_shutdown(),
                    }
                }
                None if !told && self.is_distrusted() => {
                    told = true;
                    connection.graceful_shutdown();
                }
                _ => {}
            }
            while let Some(accepted) = ready!(connection.poll_accept(cx)) {
                let (request, respond) = accepted?;
                self.begin(request, respond);
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Returns true if the client's certificate was trusted when the connection began, but is no
    /// longer.
    fn is_distrusted(&self) -> bool {
        self.certificate.as_ref().is_some_and(|shown| shown.name().is_none())
    }

    /// Starts a stream. The record is opened before its task runs, since the client may have left
    /// by then.
    fn begin(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let Self { certificate, state, context, .. } = self;
        let (head, body) = request.into_parts();
        let body = RequestBody::Http2(Http2RequestBody::new(body, &head.headers));
        let request = ClientRequest { head: head.into(), body, certificate: certificate.clone() };
        let seat = self.seat();
        let running = context.begin(state);
        let (state, context) = (Rc::clone(state), Rc::clone(context));
        if seat.is_none() {
            context.places.count(Limit::StreamPlaces);
            // The client's next try should find a place.
            context.evict_one();
            let refusal =
                std::future::ready(context.handler.reject(request, Kind::NoPlace.into(), state.address()));
            self.streams.spawn(stream::run(refusal, respond, running, state, context, None));
        } else {
            let handled = Box::pin(Rc::clone(&context.handler).handle(request, state.address()));
            self.streams.spawn(stream::run(handled, respond, running, state, context, seat));
        }
    }

    /// A place for one more stream, if there is one.
    fn seat(&self) -> Option<Seat> {
        if self.state.is_running() {
            let place = self.context.places.try_for_stream()?;
            self.places.borrow_mut().push(place);
        }
        Some(Seat(Rc::clone(&self.places)))
    }
}

/// The connection's bytes: returns those that were read to find the protocol, and tracks write
/// backpressure.
struct Io<S> {
    io: S,
    prefix: Bytes,
    state: Rc<ConnState>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.has_remaining() {
            let taken = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.state.track_write(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.state.track_write(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        ready!(self.state.track_write(polled))?;
        // h2 flushes after it has written everything.
        self.state.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
