//! One client connection, from its first byte to its last.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::balance::Balance;
use super::conn_state::{ConnCommand, ConnState};
use super::connections::Connections;
use super::disconnect::Socket;
use super::in_flight::Guard;
use super::places::Places;
use super::{ClientCertificate, Handler, Limits, http1, http2};
use crate::tls::Live;

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is read to tell the protocol: usually the whole first head.
const FIRST_READ: usize = 2048;

/// What a worker's connections have in common.
#[derive(Debug)]
pub(super) struct WorkerContext<H> {
    pub(super) handler: Rc<H>,
    pub(super) tls: Option<Arc<Live<ServerConfig>>>,
    pub(super) limits: Limits,
    pub(super) connections: Connections,
    pub(super) places: Arc<Places>,
    pub(super) balance: Balance,
    pub(super) worker: usize,
    pub(super) buffers: Rc<http1::Buffers>,
}

impl<H> WorkerContext<H> {
    /// A request of this connection begins.
    pub(super) fn begin(&self, state: &Rc<ConnState>) -> Guard {
        (state.begin(), self.balance.load(self.worker))
    }

    /// Gives a connection up for a newcomer, here or on another worker.
    pub(super) fn make_place(&self) {
        if !self.connections.make_places(&self.places) {
            self.places.call_others(self.worker);
        }
    }

    /// Gives connections up for other workers' newcomers.
    pub(super) fn answer_calls(&self) {
        while self.places.take_call() && self.connections.make_places(&self.places) {}
    }
}

/// What is known of a connection before its first byte of HTTP.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnInfo {
    /// Whether HTTP/2 was agreed on; `None`: the first bytes must tell.
    pub(super) http2: Option<bool>,
    /// Who the client's certificate says it is.
    pub(super) certificate: Option<ClientCertificate>,
}

/// Serves `io` until the client leaves, a limit is reached, or the drain is over with it.
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
            // Boxed, so that the tasks of HTTP/1.1 connections have no room for it.
            return Box::pin(http2::serve(io, read, info.certificate, state, context)).await;
        }
        let served = pin!(http1::serve(io, read, info.certificate, Rc::clone(&state), &context));
        unless_dropped(served, &state).await;
    }
}

/// Goes on until the connection is told to be dropped.
async fn unless_dropped(mut served: Pin<&mut impl Future<Output = ()>>, state: &ConnState) {
    let mut known = false;
    poll_fn(|cx| {
        // One task polls a connection all its life.
        if !std::mem::replace(&mut known, true) {
            state.wake_me(cx);
        }
        if state.command() == Some(ConnCommand::Drop) { Poll::Ready(()) } else { served.as_mut().poll(cx) }
    })
    .await;
}

/// Waits until the connection is told to end. Cancel-safe.
pub(super) async fn wait_for_command(state: &ConnState) {
    poll_fn(|cx| {
        state.wake_me(cx);
        if state.command().is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Waits for the first bytes, and reads until it is clear which protocol the client speaks, unless
/// that was agreed on; what was read is returned.
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
