//! One client connection, from its first byte to its last.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::balance::Balance;
use super::conn_state::{ConnCommand, ConnState};
use super::connections::Connections;
use super::disconnect::Socket;
use super::in_flight::Guard;
use super::places::Places;
use super::{Handler, Limits, http1, http2};
use crate::support::Live;
use crate::tls::{ClientCertificate, ServerTls};

/// The HTTP/2 connection preface (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Size of the first read, which usually has the whole first head.
const FIRST_READ: usize = 2048;

/// The state that the connections of one worker share.
#[derive(Debug)]
pub(super) struct WorkerContext<H> {
    pub(super) handler: Rc<H>,
    pub(super) tls: Option<Arc<Live<ServerTls>>>,
    pub(super) limits: Rc<Cell<Limits>>,
    pub(super) connections: Connections,
    pub(super) places: Arc<Places>,
    pub(super) balance: Balance,
    pub(super) worker: usize,
    pub(super) buffers: Rc<http1::Buffers>,
}

impl<H> WorkerContext<H> {
    /// Counts a request of this connection.
    pub(super) fn begin(&self, state: &Rc<ConnState>) -> Guard {
        (state.begin(), self.balance.load(self.worker))
    }

    /// Evicts a connection for a new one, on this worker or another.
    pub(super) fn evict_one(&self) {
        if !self.connections.evict(&self.places) {
            self.places.call_others(self.worker);
        }
    }

    /// Evicts connections for new ones of other workers.
    pub(super) fn evict_for_others(&self) {
        while self.places.take_call() && self.connections.evict(&self.places) {}
    }
}

/// The properties of a connection before its first byte of HTTP.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnInfo {
    /// True if ALPN chose HTTP/2. `None`: the first bytes decide.
    pub(super) http2: Option<bool>,
    pub(super) certificate: Option<ClientCertificate>,
}

/// Serves `io` until the client leaves, a limit closes the connection, or the drain ends.
#[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
pub(super) fn serve<S, H>(
    mut io: S,
    info: ConnInfo,
    state: Rc<ConnState>,
    context: Rc<WorkerContext<H>>,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Socket + Unpin + 'static,
    H: Handler,
{
    async move {
        let (is_http2, read) = {
            let told = tokio::select! {
                told = tell_protocol(&mut io, info.http2) => told,
                () = wait_for_command(&state) => return,
            };
            match told {
                Ok((_, read)) if read.is_empty() => return,
                Ok(told) => told,
                Err(error) => return tracing::debug!(%error, "client connection ended"),
            }
        };
        if is_http2 {
            // Boxed, so that the tasks of HTTP/1.1 connections do not reserve space for it.
            return Box::pin(http2::serve(io, read, info.certificate, state, context)).await;
        }
        let served = pin!(http1::serve(io, read, info.certificate, Rc::clone(&state), &context));
        unless_dropped(served, &state).await;
    }
}

/// Polls `served` until it ends or the connection is dropped by command.
async fn unless_dropped(mut served: Pin<&mut impl Future<Output = ()>>, state: &ConnState) {
    let mut known = false;
    poll_fn(|cx| {
        // One task polls a connection for its whole life.
        if !std::mem::replace(&mut known, true) {
            state.wake_me(cx);
        }
        if state.command() == Some(ConnCommand::Drop) { Poll::Ready(()) } else { served.as_mut().poll(cx) }
    })
    .await;
}

/// Waits for a command. Cancel-safe.
pub(super) async fn wait_for_command(state: &ConnState) {
    poll_fn(|cx| {
        state.wake_me(cx);
        if state.command().is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Reads until the protocol is known, unless ALPN chose it. Returns whether it is HTTP/2, and the
/// bytes read.
async fn tell_protocol(
    io: &mut (impl AsyncRead + Unpin),
    agreed: Option<bool>,
) -> io::Result<(bool, Vec<u8>)> {
    let mut read = Vec::with_capacity(FIRST_READ);
    while io.read_buf(&mut read).await? > 0 {
        if let Some(http2) = agreed {
            return Ok((http2, read));
        }
        let seen = read.len().min(HTTP2_PREFACE.len());
        if read[..seen] != HTTP2_PREFACE[..seen] {
            return Ok((false, read));
        }
        if seen == HTTP2_PREFACE.len() {
            return Ok((true, read));
        }
    }
    Ok((false, read))
}
