//! One client connection, from its first byte to its last.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::balance::Balance;
use super::conn_state::ConnState;
use super::connections::Connections;
use super::disconnect::{Socket, has_bytes};
use super::http1::{self, Connection};
use super::in_flight::Guard;
use super::places::Places;
use super::proxy_header::HeaderFaults;
use super::{Handler, Limits};
use crate::support::Live;
use crate::support::memory::WorkerMemory;
use crate::tls::{ClientCertificate, ServerTls};

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
    pub(super) memory: Rc<WorkerMemory>,
    pub(super) header_faults: HeaderFaults,
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
///
/// Every waiting stream has one of these futures, so it is kept small: an `async fn` would hold its
/// arguments twice.
pub(super) fn serve<S, H>(
    io: S,
    info: ConnInfo,
    state: Rc<ConnState>,
    context: Rc<WorkerContext<H>>,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Socket + Unpin + 'static,
    H: Handler,
{
    let ConnInfo { http2, certificate } = info;
    let mut connection = Connection::new(io, certificate, state, context);
    async move {
        match connection.tell_protocol(http2).await {
            Ok(Some(false)) => {}
            // Boxed, so that the tasks of HTTP/1.1 connections do not reserve space for it.
            Ok(Some(true)) => return Box::pin(connection.serve_http2()).await,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "client connection ended"),
        }
        let end = connection.run().await;
        // Boxed, as it runs once.
        Box::pin(connection.finish(end)).await;
    }
}

/// Polls the exchange before the first byte of HTTP until it ends. `None`: a command ends it first.
pub(super) async fn before_http<F>(
    mut exchange: F,
    socket: impl Fn(&F) -> Option<&TcpStream>,
    state: &ConnState,
) -> Option<F::Output>
where
    F: Future + Unpin,
{
    let mut has_begun = false;
    poll_fn(|cx| {
        state.wake_me(cx);
        let has_bytes = |exchange: &F| socket(exchange).is_some_and(has_bytes);
        has_begun = has_begun || has_bytes(&exchange);
        match Pin::new(&mut exchange).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if state.must_end_exchange(Instant::now(), has_begun, || has_bytes(&exchange)) => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
