//! The accept loop of one worker.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use socket2::Socket;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, interval_at, sleep, timeout};

use super::accept_errors::{AcceptErrors, is_exhaustion};
use super::addresses::AddressGuard;
use super::conn_state::{ConnState, Patience};
use super::connection::{ConnInfo, WorkerContext, serve};
use super::connections::{Connections, Registered};
use super::handshake::handshake;
use super::http1::Buffers;
use super::places::{Capacity, Place, Places};
use super::proxy_header::{HeaderFaults, take_header};
use super::sockets::{Sockets, deal};
use super::{Balance, Handler, Limits};
use crate::support::Live;
use crate::support::SharedGuard;
use crate::support::drain::{DrainEnd, Phase, Stop};
use crate::support::memory::WorkerMemory;
use crate::tls::ServerTls;

/// Pause of the loop when the system has no descriptor or memory left for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// The interval at which a connection without a place tries again to evict another one.
const RETRY: Duration = Duration::from_millis(50);

/// The time for connections to end the responses that the drain timeout cuts.
const STOP: Duration = Duration::from_secs(1);

/// The interval at which limits are enforced during the drain: a new connection is closed that long
/// after its time for a first request.
const DRAIN_BEAT: Duration = Duration::from_millis(100);

/// The largest number of connections that wait for a worker after another one gave them away.
const INBOX: usize = 1024;

/// A connection that is given to another worker.
type Given = (std::net::TcpStream, Option<SocketAddr>, Claim);

/// A connection without a place, its address, and its count for the address.
type Newcomer = (TcpStream, Option<SocketAddr>, Option<AddressGuard>);

/// The holdings of a connection: its place, its weight on the worker that serves it, and its count
/// for its address, if that is limited.
type Claim = (Place, SharedGuard, Option<AddressGuard>);

/// Everything that one worker needs to accept connections. Built before the workers' threads start,
/// then moved into one.
#[derive(Debug)]
pub struct Listener {
    worker: usize,
    sockets: Vec<Socket>,
    inbox: mpsc::Receiver<Given>,
    /// Channels to all workers, including this one, by number.
    outboxes: Arc<[mpsc::Sender<Given>]>,
    balance: Balance,
    places: Arc<Places>,
}

impl Listener {
    /// One listener per worker. Every socket is accepted from; a worker without one serves what the
    /// others give to it. `capacity` limits all of them together. A client beyond the limit waits
    /// until a connection ends or can be evicted; clients behind it wait in the kernel's queue.
    pub fn for_workers(
        sockets: Vec<Socket>,
        workers: usize,
        capacity: Capacity,
        balance: &Balance,
    ) -> Vec<Self> {
        let places = Arc::new(Places::new(capacity, workers));
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(INBOX)).unzip();
        let outboxes: Arc<[_]> = outboxes.into();
        let each = deal(sockets, workers).into_iter().zip(inboxes).enumerate();
        each.map(|(worker, (sockets, inbox))| Self {
            worker,
            sockets,
            inbox,
            outboxes: Arc::clone(&outboxes),
            balance: balance.clone(),
            places: Arc::clone(&places),
        })
        .collect()
    }

    /// The sockets that this one accepts from.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }
}

/// The way in which a worker's connections ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All connections ended by themselves, and so did the work that outlived them.
    Drained,
    /// Some connections still exist and must be dropped.
    Cut,
}

/// The accept loop of one worker.
pub struct Acceptor<H> {
    listener: Listener,
    context: Rc<WorkerContext<H>>,
}

impl<H: Handler> Acceptor<H> {
    /// Serves the connections of `listener` with `handler`, through TLS if `tls` is given.
    pub fn new(
        listener: Listener,
        handler: Rc<H>,
        tls: Option<Arc<Live<ServerTls>>>,
        limits: Rc<Cell<Limits>>,
    ) -> Self {
        let memory = listener.places.memory().clone();
        let context = WorkerContext {
            handler,
            tls,
            limits,
            connections: Connections::default(),
            places: Arc::clone(&listener.places),
            balance: listener.balance.clone(),
            worker: listener.worker,
            buffers: Rc::new(Buffers::new(memory.clone())),
            memory: Rc::new(WorkerMemory::new(memory)),
            header_faults: HeaderFaults::default(),
        };
        Self { listener, context: Rc::new(context) }
    }

    /// Accepts until the drain begins. Then waits until the last connection and the work that
    /// outlived it have ended, the drain timeout expires, or `stop` cuts.
    ///
    /// # Errors
    /// Fails if the socket cannot be used in this worker's runtime.
    pub async fn run(self, stop: Stop, drain_timeout: Arc<Live<Duration>>) -> io::Result<Ended> {
        let Self { listener, context } = self;
        let Listener { worker, sockets, mut inbox, outboxes, balance, places } = listener;
        let sockets = Sockets::register(sockets)?;
        let mut beat = Beat::new(context.limits.get());
        let mut draining = pin!(stop.reached(Phase::Draining));
        let mut errors = AcceptErrors::default();
        // Accepted, but without a place.
        let mut newcomer: Option<Newcomer> = None;
        let admit = |(stream, address, of_address): Newcomer, place| {
            let chosen = balance.choose(worker);
            let claim = (place, balance.load(chosen), of_address);
            if chosen == worker {
                spawn(stream, address, claim, &context);
            } else {
                hand_over(stream, address, claim, &outboxes[chosen], &context);
            }
        };
        loop {
            tokio::select! {
                accepted = sockets.accept(), if newcomer.is_none() => match accepted {
                    Ok((stream, address)) => {
                        let Some(accepted) = context.within_address(stream, address) else { continue };
                        if let Some(place) = places.try_for_connection() {
                            admit(accepted, place);
                        } else {
                            newcomer = Some(accepted);
                            context.evict_one();
                        }
                    }
                    Err(error) => {
                        errors.report(&error);
                        // Idle connections hold descriptors.
                        if is_exhaustion(&error) {
                            context.connections.evict(&places);
                        }
                        sleep(PAUSE).await;
                    }
                },
                place = places.for_connection(), if newcomer.is_some() => {
                    if let Some(accepted) = newcomer.take() {
                        admit(accepted, place);
                    }
                }
                () = sleep(RETRY), if newcomer.is_some() => context.evict_one(),
                () = places.called(worker) => context.evict_for_others(),
                Some(given) = inbox.recv() => take_over(given, &context),
                () = beat.tick(), if !context.connections.is_empty() => beat.enforce(&context, &places),
                () = &mut draining => break,
            }
        }
        drop(sockets);
        context.connections.drain(match stop.drain_ends() {
            DrainEnd::Timeout => Patience::Short,
            // The drain is that of an upgrade.
            DrainEnd::At(_) | DrainEnd::Never => Patience::Long,
        });
        // From now on other workers keep the connections that they would have given to this one.
        // Those already given are taken here; otherwise they would wait for the end of the drain,
        // neither served nor closed.
        inbox.close();
        while let Ok(given) = inbox.try_recv() {
            take_over(given, &context);
        }
        let mut beat = interval(DRAIN_BEAT);
        let end = stop.drain_end(*drain_timeout.load());
        let gone = async {
            context.connections.gone().await;
            context.handler.drained().await;
        };
        let (mut gone, mut cut, mut end) = (pin!(gone), pin!(stop.reached(Phase::Cut)), pin!(end));
        loop {
            tokio::select! {
                () = &mut gone, if newcomer.is_none() => return Ok(Ended::Drained),
                place = places.for_connection(), if newcomer.is_some() => {
                    if let Some(accepted) = newcomer.take() {
                        admit(accepted, place);
                    }
                }
                () = &mut cut => return Ok(Ended::Cut),
                () = &mut end => {
                    tracing::warn!("requests were still running when the time for the drain was over; they are cut");
                    context.handler.shutdown().await;
                    context.connections.stop();
                    // A client that does not read its last event in time loses it.
                    let _ = timeout(STOP, context.connections.gone()).await;
                    return Ok(Ended::Cut);
                }
                _ = beat.tick() => context.connections.enforce_limits(&context.limits.get(), &places),
            }
        }
    }
}

impl<H: Handler> WorkerContext<H> {
    /// Counts a new connection for its address. `None`: it exceeds a limit, and is closed. A trusted
    /// proxy has no limit; its clients are counted if it names them by the PROXY protocol.
    fn within_address(&self, stream: TcpStream, address: Option<SocketAddr>) -> Option<Newcomer> {
        let limited = address.filter(|&address| self.handler.limits_address(address));
        let of_address = limited.map_or(Ok(None), |address| self.places.enter_address(address)).ok()?;
        Some((stream, address, of_address))
    }
}

/// The interval at which the limits of connections are enforced, which a reload can change.
struct Beat(Interval);

impl Beat {
    fn new(limits: Limits) -> Self {
        let period = Connections::beat(&limits);
        let mut interval = interval_at((Instant::now() + period).into(), period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(interval)
    }

    /// Cancel-safe.
    async fn tick(&mut self) {
        self.0.tick().await;
    }

    fn enforce<H>(&mut self, context: &WorkerContext<H>, places: &Places) {
        let limits = context.limits.get();
        context.connections.enforce_limits(&limits, places);
        if self.0.period() != Connections::beat(&limits) {
            *self = Self::new(limits);
        }
    }
}

/// Gives a connection to a worker with less load, or serves it here if that worker cannot take it.
fn hand_over<H: Handler>(
    stream: TcpStream,
    address: Option<SocketAddr>,
    claim: Claim,
    outbox: &mpsc::Sender<Given>,
    context: &Rc<WorkerContext<H>>,
) {
    let Ok(stream) = stream.into_std() else { return };
    if let Err(back) = outbox.try_send((stream, address, claim)) {
        let (stream, address, claim) = back.into_inner();
        if let Ok(stream) = TcpStream::from_std(stream) {
            spawn(stream, address, claim, context);
        }
    }
}

/// Serves a connection that another worker has given to this one.
fn take_over<H: Handler>((stream, address, claim): Given, context: &Rc<WorkerContext<H>>) {
    match TcpStream::from_std(stream) {
        Ok(stream) => spawn(stream, address, claim, context),
        Err(error) => tracing::warn!(%error, "an accepted connection could not be registered"),
    }
}

fn spawn<H: Handler>(
    stream: TcpStream,
    address: Option<SocketAddr>,
    claim: Claim,
    context: &Rc<WorkerContext<H>>,
) {
    tokio::task::spawn_local(connection_task(stream, address, claim, Rc::clone(context)));
}

/// The task of one connection, which is registered before the task runs, so that no command is
/// missed in between.
fn connection_task<H: Handler>(
    stream: TcpStream,
    address: Option<SocketAddr>,
    claim: Claim,
    context: Rc<WorkerContext<H>>,
) -> impl Future<Output = ()> {
    let state = ConnState::new(Instant::now(), &context.memory);
    state.set_address(address);
    let registered = context.connections.register(Rc::clone(&state));
    // The others are boxed, so that the tasks of plain connections do not reserve space for them.
    let served = if address.is_some_and(|address| context.handler.expects_proxy_header(address)) {
        Served::Boxed { served: Box::pin(serve_proxied(stream, Rc::clone(&state), context)) }
    } else if let Some(tls) = context.tls.clone() {
        Served::Boxed { served: Box::pin(serve_tls(stream, tls, Rc::clone(&state), context)) }
    } else {
        Served::Plain { served: serve(stream, ConnInfo::default(), Rc::clone(&state), context) }
    };
    Task { served, registered, _claim: claim }
}

pin_project! {
    /// The task of a connection. An `async` block would hold the connection twice.
    struct Task<F> {
        #[pin]
        served: Served<F>,
        registered: Registered,
        // Dropped last.
        _claim: Claim,
    }
}

pin_project! {
    /// The work on a connection.
    #[project = ServedProjection]
    enum Served<F> {
        Plain { #[pin] served: F },
        Boxed { served: Pin<Box<dyn Future<Output = ()>>> },
        Over,
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        match this.served.as_mut().project() {
            ServedProjection::Plain { served } => ready!(served.poll(cx)),
            ServedProjection::Boxed { served } => ready!(served.as_mut().poll(cx)),
            ServedProjection::Over => {}
        }
        // The socket is closed before its requests have ended.
        this.served.set(Served::Over);
        this.registered.state().map_or(Poll::Ready(()), |state| state.poll_settled(cx))
    }
}

/// The size of a connection's task in bytes, of which there is one for each waiting stream.
#[cfg(test)]
pub(crate) fn connection_task_size<H: Handler>() -> usize {
    fn size_of_returned<A, B, C, D, R>(_: impl FnOnce(A, B, C, D) -> R) -> usize {
        size_of::<R>()
    }
    size_of_returned(connection_task::<H>)
}

/// Serves a connection that begins with a header of the PROXY protocol.
async fn serve_proxied<H: Handler>(stream: TcpStream, state: Rc<ConnState>, context: Rc<WorkerContext<H>>) {
    let Some(stream) = take_header(stream, &state, &context).await else { return };
    let client = state.address().filter(|&client| context.handler.limits_address(client));
    let of_address = client.map_or(Ok(None), |client| context.places.enter_address(client));
    let Ok(_of_address) = of_address else { return };
    state.on_handshake(Instant::now());
    match context.tls.clone() {
        None => serve(stream, ConnInfo::default(), state, context).await,
        Some(tls) => serve_tls(stream, tls, state, context).await,
    }
}

async fn serve_tls<H: Handler>(
    stream: TcpStream,
    tls: Arc<Live<ServerTls>>,
    state: Rc<ConnState>,
    context: Rc<WorkerContext<H>>,
) {
    if let Some((stream, info)) = handshake(stream, &tls, &state).await {
        state.on_handshake(Instant::now());
        serve(stream, info, state, context).await;
    }
}

#[cfg(test)]
mod tests;
