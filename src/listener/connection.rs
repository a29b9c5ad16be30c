//! One client connection, from its first byte to its last.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::ops::DerefMut;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use pin_project_lite::pin_project;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::balance::{Balance, Load};
use super::client_io::{ClientIo, Watch};
use super::connections::Connections;
use super::departure::Socket;
use super::peer_state::{Order, PeerState, Running};
use super::{ClientCertificate, Handler, Limits, MAX_HEAD_BYTES, MAX_HTTP2_STREAMS, Takeover};
use crate::flow::Delivery;
use crate::tls::Live;

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is read to tell the protocol: usually the whole first head.
const FIRST_READ: usize = 2048;

/// Answer bytes that may wait for a slow HTTP/2 client, per stream.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// What a worker's connections have in common.
#[derive(Debug)]
pub(super) struct Surroundings<H> {
    pub(super) handler: Rc<H>,
    pub(super) tls: Option<Arc<Live<ServerConfig>>>,
    pub(super) limits: Limits,
    pub(super) connections: Connections,
    pub(super) balance: Balance,
    pub(super) worker: usize,
}

/// What is known of a connection before its first byte of HTTP.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrival {
    /// Whether HTTP/2 was agreed on; `None`: the first bytes must tell.
    pub(super) http2: Option<bool>,
    /// Who the client's certificate says it is.
    pub(super) certificate: Option<ClientCertificate>,
}

/// Serves `io` until the client leaves, a limit is reached, or the drain is over with it.
pub(super) async fn serve<S, H>(
    mut io: S,
    arrival: Arrival,
    state: Rc<PeerState>,
    around: Rc<Surroundings<H>>,
) where
    S: AsyncRead + AsyncWrite + Socket + Unpin + 'static,
    H: Handler,
{
    let told = tokio::select! {
        told = tell_protocol(&mut io, arrival.http2) => told,
        () = ordered(&state) => return,
    };
    let (http2, prefix) = match told {
        Ok((http2, prefix)) if !prefix.is_empty() => (http2, prefix),
        _ => return,
    };
    let takeover = Rc::<Taken>::default();
    let service = service_fn({
        let (around, state, takeover) = (Rc::clone(&around), Rc::clone(&state), Rc::clone(&takeover));
        move |mut request: Request<Incoming>| {
            if let Some(certificate) = &arrival.certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            answer(&around, Rc::clone(&state), Rc::clone(&takeover), request)
        }
    });
    let (handler, header_timeout) = (Rc::clone(&around.handler), around.limits.header_timeout);
    let watch = if http2 { Watch::Hyper } else { Watch::Nobody };
    let io = ClientIo::new(io, prefix, watch, Rc::clone(&state), handler, header_timeout);
    if http2 {
        state.set_http2();
        // Boxed, so that the tasks of HTTP/1.1 connections have no room for it.
        let connection = Box::pin(
            http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_HTTP2_STREAMS)
                .max_header_list_size(MAX_HEAD_BYTES as u32)
                .max_send_buf_size(HTTP2_SEND_BUFFER)
                .serve_connection(io, service),
        );
        drive(connection, |connection| connection.graceful_shutdown(), &state).await;
    } else {
        let mut connection = http1::Builder::new()
            .header_read_timeout(None)
            // No `max_headers`: hyper's own limit is 100, and saying so would cost a list of that many for each head.
            .max_buf_size(MAX_HEAD_BYTES)
            // A client that closes its side has left. `ClientIo` looks for that with less memory than hyper.
            .half_close(true)
            // One event is one write of one piece: cheaper than a list of three by some 4 % of all that an event costs. A burst
            // of events, which is copied once more, costs 7 % more than without.
            .writev(false)
            .serve_connection(io, service);
        drive(Pin::new(&mut connection), |connection| connection.graceful_shutdown(), &state).await;
        let taken = takeover.borrow_mut().take();
        if let Some((takeover, _running)) = taken {
            let parts = connection.into_parts();
            let (stream, first) = parts.io.into_parts(parts.read_buf);
            Box::pin(takeover.run(stream, first)).await;
        }
    }
}

/// Polls a connection to its end, and does what it is told.
async fn drive<P, C>(mut connection: Pin<P>, finish: impl Fn(Pin<&mut C>), state: &PeerState)
where
    P: DerefMut<Target = C>,
    C: Future<Output = hyper::Result<()>>,
{
    let mut told = false;
    let mut known = false;
    let result = poll_fn(|cx| {
        // One task polls a connection all its life.
        if !mem::replace(&mut known, true) {
            state.wake_me(cx);
        }
        match state.order() {
            None => {}
            Some(Order::Drop) => return Poll::Ready(Ok(())),
            Some(Order::Finish | Order::RefuseHead) if told => {}
            Some(Order::Finish | Order::RefuseHead) => {
                told = true;
                finish(connection.as_mut());
            }
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "client connection ended");
    }
}

/// Waits until the connection is told to end. Cancel-safe.
pub(super) async fn ordered(state: &PeerState) {
    poll_fn(|cx| {
        state.wake_me(cx);
        if state.order().is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Waits for the first bytes, and reads until it is clear which protocol the client speaks, unless that was agreed on; what was
/// read is returned.
async fn tell_protocol(io: &mut (impl AsyncRead + Unpin), agreed: Option<bool>) -> io::Result<(bool, Bytes)> {
    let mut read = Vec::with_capacity(FIRST_READ);
    while io.read_buf(&mut read).await? > 0 {
        if let Some(http2) = agreed {
            return Ok((http2, read.into()));
        }
        let seen = read.len().min(HTTP2_PREFACE.len());
        if read[..seen] != HTTP2_PREFACE[..seen] {
            return Ok((false, read.into()));
        }
        if seen == HTTP2_PREFACE.len() {
            return Ok((true, read.into()));
        }
    }
    Ok((false, read.into()))
}

/// Answers one request, and counts it while it runs.
///
/// It begins when this is called: of a client that has left by then, hyper drops what is returned without polling it.
fn answer<H: Handler>(
    around: &Surroundings<H>,
    state: Rc<PeerState>,
    takeover: Rc<Taken>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Counted<H::Body>>, Infallible>> + use<H> {
    let running = Some((state.begin(), around.balance.load(around.worker)));
    let has_body = !request.body().is_end_stream();
    // Boxed, as a connection has room for the largest future that it ever polled, and streams wait long without one.
    let handled = Box::pin(Rc::clone(&around.handler).handle(request));
    Answering::<H, _> { handled, running, state, takeover, has_body, handler: PhantomData }
}

pin_project! {
    /// A request that is being answered. Written out, since an `async` block would have room for `handled` twice.
    struct Answering<H, F> {
        #[pin]
        handled: F,
        running: Option<(Running, Load)>,
        state: Rc<PeerState>,
        takeover: Rc<Taken>,
        has_body: bool,
        handler: PhantomData<H>,
    }
}

impl<H: Handler, F: Future<Output = Response<H::Body>>> Future for Answering<H, F> {
    type Output = Result<Response<Counted<H::Body>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.handled.poll(cx));
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(taken) = H::takeover(response.body_mut())
        {
            // It runs until who takes over is done, and not until hyper is.
            this.takeover.replace(this.running.take().map(|running| (taken, running)));
        }
        this.state.linger.set(*this.has_body && response.status().is_client_error());
        let (running, state) = (this.running.take(), Rc::clone(this.state));
        Poll::Ready(Ok(response.map(|body| {
            let delivery = H::delivery(&body).map(Rc::clone);
            Counted { body, delivery, state, give_up: H::give_up, _running: running }
        })))
    }
}

/// An answer's body; the request runs until it is dropped.
struct Counted<B> {
    body: B,
    /// Where its events' times are counted.
    delivery: Option<Rc<Delivery>>,
    /// The connection, whose writes end them.
    state: Rc<PeerState>,
    give_up: fn(&mut B, String),
    _running: Option<(Running, Load)>,
}

/// Who takes the connection over when hyper is done with it, and the request that runs until then.
type Taken = RefCell<Option<(Takeover, (Running, Load))>>;

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(delivery) = self.delivery.as_ref().filter(|delivery| delivery.announces()) {
            self.state.delivers(delivery);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Counted<B> {
    fn drop(&mut self) {
        if let Some(limit) = self.state.given_up() {
            let reason =
                format!("the client took nothing of its answer for {limit:?} (server.write_timeout)");
            (self.give_up)(&mut self.body, reason);
        }
    }
}

/// Runs what hyper spawns for an HTTP/2 connection on the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
