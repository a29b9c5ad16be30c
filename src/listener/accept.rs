//! The accept loop of one worker.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::MissedTickBehavior;

use super::balance::Load;
use super::connection::{Arrival, Surroundings, serve};
use super::connections::Connections;
use super::handshake::handshake;
use super::peer_state::PeerState;
use super::{Balance, Handler, Limits};
use crate::drain::{Phase, Stop};
use crate::tls::Live;

/// How long the loop waits when the system has no descriptor or memory left for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections that may be on their way to a worker that others gave them to.
const INBOX: usize = 1024;

/// A connection on its way to another worker.
type Given = (std::net::TcpStream, Claim);

/// What a connection holds: its place under the connection limit, and its weight on the worker that serves it.
type Claim = (OwnedSemaphorePermit, Load);

/// What one worker needs to accept connections. It is made before the workers' threads start, and moves into one.
#[derive(Debug)]
pub struct Listener {
    worker: usize,
    socket: std::net::TcpListener,
    inbox: mpsc::Receiver<Given>,
    /// The ways to the workers, this one's included, in their order.
    outboxes: Arc<[mpsc::Sender<Given>]>,
    balance: Balance,
    places: Arc<Semaphore>,
}

impl Listener {
    /// One for each socket. `max_connections` bounds them all together; a client beyond it waits in the
    /// kernel's queue until a connection ends.
    pub fn for_workers(
        sockets: Vec<std::net::TcpListener>,
        max_connections: usize,
        balance: &Balance,
    ) -> Vec<Self> {
        let places = Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS)));
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = sockets.iter().map(|_| mpsc::channel(INBOX)).unzip();
        let outboxes: Arc<[_]> = outboxes.into();
        let each = sockets.into_iter().zip(inboxes).enumerate();
        each.map(|(worker, (socket, inbox))| Self {
            worker,
            socket,
            inbox,
            outboxes: Arc::clone(&outboxes),
            balance: balance.clone(),
            places: Arc::clone(&places),
        })
        .collect()
    }
}

/// How a worker's connections ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All by themselves, and so has what had outlived them.
    Drained,
    /// Some are still there, and must be dropped.
    Cut,
}

/// The accept loop of one worker.
pub struct Acceptor<H> {
    listener: Listener,
    around: Rc<Surroundings<H>>,
}

impl<H: Handler> Acceptor<H> {
    /// Serves what comes to `listener` with `handler`, through TLS where there is a configuration of it.
    pub fn new(
        listener: Listener,
        handler: Rc<H>,
        tls: Option<Arc<Live<ServerConfig>>>,
        limits: Limits,
    ) -> Self {
        let around = Surroundings {
            handler,
            tls,
            limits,
            connections: Connections::default(),
            balance: listener.balance.clone(),
            worker: listener.worker,
            buffers: Rc::default(),
        };
        Self { listener, around: Rc::new(around) }
    }

    /// Accepts until the drain begins, then waits until the last connection is gone and what outlived it, the drain's time is over, or the cut.
    ///
    /// # Errors
    /// The socket cannot be used in this worker's runtime.
    pub async fn run(self, stop: Stop, drain_timeout: Duration) -> io::Result<Ended> {
        let Self { listener, around } = self;
        let Listener { worker, socket, mut inbox, outboxes, balance, places } = listener;
        let socket = TcpListener::from_std(socket)?;
        let mut beat = tokio::time::interval(Connections::beat(&around.limits));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = pin!(stop.reached(Phase::Draining));
        loop {
            tokio::select! {
                accepted = accept(&socket, &places) => match accepted {
                    Ok((stream, place)) => {
                        let chosen = balance.choose(worker);
                        let claim = (place, balance.load(chosen));
                        if chosen == worker {
                            spawn(stream, claim, &around);
                        } else {
                            hand_over(stream, claim, &outboxes[chosen], &around);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some((stream, claim)) = inbox.recv() => match TcpStream::from_std(stream) {
                    Ok(stream) => spawn(stream, claim, &around),
                    Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
                },
                _ = beat.tick(), if !around.connections.is_empty() => around.connections.keep(&around.limits),
                () = &mut draining => break,
            }
        }
        drop(socket);
        around.connections.drain();
        let end = tokio::time::sleep(drain_timeout);
        let gone = async {
            around.connections.gone().await;
            around.handler.idle().await;
        };
        let (mut gone, mut cut, mut end) = (pin!(gone), pin!(stop.reached(Phase::Cut)), pin!(end));
        loop {
            tokio::select! {
                () = &mut gone => return Ok(Ended::Drained),
                () = &mut cut => return Ok(Ended::Cut),
                () = &mut end => {
                    tracing::warn!("requests were still running when the drain timeout was over; they are cut");
                    around.handler.farewell().await;
                    return Ok(Ended::Cut);
                }
                _ = beat.tick() => around.connections.keep(&around.limits),
            }
        }
    }
}

/// Takes a place, then a connection. Cancel-safe: a place that is not used is given back.
async fn accept(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _): (_, SocketAddr) = socket.accept().await?;
    Ok((stream, place))
}

/// Gives a connection to a worker with less to do, or keeps it if that one cannot take it.
fn hand_over<H: Handler>(
    stream: TcpStream,
    claim: Claim,
    outbox: &mpsc::Sender<Given>,
    around: &Rc<Surroundings<H>>,
) {
    let Ok(stream) = stream.into_std() else { return };
    if let Err(back) = outbox.try_send((stream, claim)) {
        let (stream, claim) = back.into_inner();
        if let Ok(stream) = TcpStream::from_std(stream) {
            spawn(stream, claim, around);
        }
    }
}

fn spawn<H: Handler>(stream: TcpStream, claim: Claim, around: &Rc<Surroundings<H>>) {
    // Without it the last event of a burst waits for the client's acknowledgement, 40 ms on many systems.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let around = Rc::clone(around);
    let state = PeerState::new(Instant::now());
    // Before its task runs, so that nothing is missed in between.
    let registered = around.connections.register(Rc::clone(&state));
    tokio::task::spawn_local(async move {
        match around.tls.as_deref().map(Live::load) {
            None => serve(stream, Arrival::default(), Rc::clone(&state), around).await,
            // Boxed, so that the tasks of plain connections have no room for it.
            Some(config) => Box::pin(serve_tls(stream, config, Rc::clone(&state), around)).await,
        }
        state.settled().await;
        drop((claim, registered));
    });
}

/// Serves a connection through TLS.
async fn serve_tls<H: Handler>(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    state: Rc<PeerState>,
    around: Rc<Surroundings<H>>,
) {
    if let Some((stream, arrival)) = handshake(stream, config, &state, &around).await {
        serve(stream, arrival, state, around).await;
    }
}
