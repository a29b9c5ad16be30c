//! The accept loop of one worker.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::balance::Load;
use super::connection::{Arrival, Surroundings, serve};
use super::handshake::handshake;
use super::{Balance, Handler, Limits};
use crate::drain::{Connections, Phase, Stop};
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
    /// All by themselves.
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
        };
        Self { listener, around: Rc::new(around) }
    }

    /// Accepts until the drain begins, then waits until the last connection is gone, the drain's time is over, or the cut.
    ///
    /// # Errors
    /// The socket cannot be used in this worker's runtime.
    pub async fn run(self, stop: Stop, drain_timeout: Duration) -> io::Result<Ended> {
        let Self { listener, around } = self;
        let Listener { worker, socket, mut inbox, outboxes, balance, places } = listener;
        let socket = TcpListener::from_std(socket)?;
        let mut draining = std::pin::pin!(stop.reached(Phase::Draining));
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
                () = &mut draining => break,
            }
        }
        drop(socket);
        around.connections.drain();
        tokio::select! {
            () = around.connections.gone() => Ok(Ended::Drained),
            () = stop.reached(Phase::Cut) => Ok(Ended::Cut),
            () = tokio::time::sleep(drain_timeout) => {
                tracing::warn!("connections were still open when the drain timeout was over; they are cut");
                Ok(Ended::Cut)
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
    tokio::task::spawn_local(async move {
        match around.tls.as_deref().map(Live::load) {
            None => serve(stream, Arrival::default(), around).await,
            Some(config) => {
                // The drain waits for the handshake to hear of it.
                let _registered = around.connections.register();
                if let Some((stream, arrival)) = handshake(stream, config, &around).await {
                    serve(stream, arrival, around).await;
                }
            }
        }
        drop(claim);
    });
}
