//! The accept loop of the admin port, with the limits that neither axum nor hyper has.
//!
//! hyper serves HTTP/1.1 and HTTP/2 on each connection, in a task of its own, and axum responds.
//! The loop limits the number of connections, closes those that take too long, and reserves a few
//! descriptors, so that probes get a response although clients have taken all others.

mod conn;
mod reserve;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_rustls::TlsAcceptor;

use super::access::PeerAddress;
use crate::server::{AcceptErrors, Limits, MAX_HEAD_BYTES, Sockets, is_exhaustion};
use crate::support::Live;
use crate::support::drain::{Phase, Stop};
use crate::support::flow::{ConnectionCounts, Limit, LimitCounts};
use crate::tls::{ClientCertificate, ServerTls};
use conn::Conn;
use reserve::Reserve;

/// The time for which a connection may be silent before it can be evicted. Probes usually give up
/// after a second, and must not wait for silent connections.
const GRACE: Duration = Duration::from_millis(200);

/// Descriptors reserved for the case that the process has no other left.
pub const RESERVED_FILES: usize = 4;

/// Pause of the loop when the system has no descriptor or memory left for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// The interval at which limits are enforced, which is their accuracy.
const BEAT: Duration = Duration::from_millis(100);

/// The largest number of streams that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 64;

/// The admin port, bound.
pub struct AdminServer {
    sockets: Vec<Socket>,
    tls: Option<Arc<Live<ServerTls>>>,
    bounds: ServerBounds,
    reserve: Reserve,
}

/// The limits of connections.
pub struct ServerBounds {
    /// The largest number of connections at the same time.
    pub connections: usize,
    pub limits: Limits,
    /// Counts limits that acted.
    pub acted: Arc<LimitCounts>,
    /// Counts connections.
    pub opened: Arc<ConnectionCounts>,
}

impl AdminServer {
    /// Serves through TLS if `tls` is given.
    pub fn new(sockets: Vec<Socket>, tls: Option<Arc<Live<ServerTls>>>, bounds: ServerBounds) -> Self {
        Self { sockets, tls, bounds, reserve: Reserve::new(RESERVED_FILES) }
    }

    /// The sockets that this one accepts from.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// Serves until `stop` cuts. The port is closed when `draining` begins to drain, so that a
    /// following process can bind it; open connections continue, so that the drain can be observed.
    ///
    /// # Errors
    /// Fails if the socket cannot be used in this runtime.
    pub async fn run(self, router: Router, draining: Stop, stop: Stop) -> io::Result<()> {
        let Self { sockets, tls, bounds, mut reserve } = self;
        let mut sockets = Some(Sockets::register(sockets)?);
        let mut connections = Connections { bounds, tasks: JoinSet::new(), open: Vec::new() };
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut errors = AcceptErrors::default();
        let mut newcomer: Option<(TcpStream, IpAddr)> = None;
        loop {
            if let Some(stream) = newcomer.take_if(|_| connections.has_room()) {
                connections.spawn(stream, tls.clone(), router.clone());
            }
            tokio::select! {
                accepted = accept(sockets.as_ref()), if newcomer.is_none() => match accepted {
                    Ok(stream) => {
                        if !connections.has_room() {
                            connections.evict();
                        }
                        newcomer = Some(stream);
                    }
                    Err(error) if is_exhaustion(&error) && reserve.spend() => errors.report(&error),
                    Err(error) => {
                        errors.report(&error);
                        if is_exhaustion(&error) {
                            connections.evict();
                        }
                        sleep(PAUSE).await;
                    }
                },
                _ = connections.tasks.join_next(), if !connections.tasks.is_empty() => connections.forget(),
                _ = beat.tick(), if !connections.tasks.is_empty() => {
                    connections.enforce_limits();
                    reserve.fill();
                    if newcomer.is_some() {
                        connections.evict();
                    }
                }
                () = draining.reached(Phase::Draining), if sockets.is_some() => sockets = None,
                () = stop.reached(Phase::Cut) => return Ok(()),
            }
        }
    }
}

/// Accepts a connection, while there are sockets. Cancel-safe.
async fn accept(sockets: Option<&Sockets>) -> io::Result<(TcpStream, IpAddr)> {
    let Some(sockets) = sockets else { return pending().await };
    let (stream, peer) = sockets.accept().await?;
    // Only this machine can use a Unix socket.
    let Some(peer) = peer else { return Ok((stream, Ipv4Addr::LOCALHOST.into())) };
    // Without TCP_NODELAY the last event of a burst waits for the client's ACK.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    Ok((stream, peer.ip()))
}

/// The open connections. Dropping this closes them.
struct Connections {
    bounds: ServerBounds,
    tasks: JoinSet<()>,
    open: Vec<(Arc<Conn>, AbortHandle)>,
}

impl Connections {
    fn has_room(&self) -> bool {
        self.tasks.len() < self.bounds.connections.max(1)
    }

    fn spawn(
        &mut self,
        (stream, peer): (TcpStream, IpAddr),
        tls: Option<Arc<Live<ServerTls>>>,
        router: Router,
    ) {
        let conn = Conn::new(Instant::now());
        let opened = self.bounds.opened.begin();
        let served = serve(stream, PeerAddress(peer), tls, Arc::clone(&conn), router);
        let task = self.tasks.spawn(async move {
            served.await;
            drop(opened);
        });
        self.open.push((conn, task));
    }

    /// Forgets connections that have ended.
    fn forget(&mut self) {
        self.open.retain(|(_, task)| !task.is_finished());
    }

    /// Closes connections that have exceeded a limit.
    fn enforce_limits(&self) {
        let now = Instant::now();
        for (conn, task) in &self.open {
            if let Some(limit) = conn.exceeded(now, &self.bounds.limits) {
                self.close(task, limit);
            }
        }
    }

    /// Closes one connection for a new one, if any can be evicted.
    fn evict(&self) {
        let now = Instant::now();
        let ranked = self.open.iter().filter(|(_, task)| !task.is_finished());
        let ranked = ranked.filter_map(|(conn, task)| Some((conn.rank(now, GRACE)?, task)));
        if let Some((rank, task)) = ranked.min_by_key(|&(rank, _)| rank) {
            self.close(task, rank.limit());
        }
    }

    fn close(&self, task: &AbortHandle, limit: Limit) {
        self.bounds.acted.add(limit);
        task.abort();
    }
}

/// Serves one connection.
async fn serve(
    stream: TcpStream,
    peer: PeerAddress,
    tls: Option<Arc<Live<ServerTls>>>,
    conn: Arc<Conn>,
    router: Router,
) {
    let Some(tls) = tls else { return speak(stream, peer, None, conn, router).await };
    let generation = tls.generation();
    let config = Arc::clone(&tls.load().config);
    match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => {
            let certificate = ClientCertificate::of(stream.get_ref().1, &tls, generation);
            speak(stream, peer, certificate, conn, router).await;
        }
        Err(error) => tracing::debug!(%error, "a TLS handshake with a client failed"),
    }
}

/// Serves HTTP; the first bytes decide the version.
async fn speak<S>(
    io: S,
    peer: PeerAddress,
    certificate: Option<ClientCertificate>,
    conn: Arc<Conn>,
    router: Router,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let guard = conn.begin();
        request.extensions_mut().insert(peer);
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let response = router.call(request.map(Body::new));
        async move {
            let response = response.await?;
            Ok::<_, Infallible>(response.map(|body| {
                body.map_frame(move |frame| {
                    guard.progress();
                    frame
                })
            }))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(MAX_HEAD_BYTES);
    builder.http2().max_concurrent_streams(MAX_STREAMS);
    if let Err(error) = builder.serve_connection(TokioIo::new(io), service).await {
        tracing::debug!(%error, "a connection to the admin pages ended");
    }
}
