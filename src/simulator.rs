//! An OpenAI-style upstream that generates its responses, for tests, demonstrations and load.
//!
//! The simulator responds as OpenAI, Azure OpenAI and Anthropic do, at their paths and in their
//! forms. Each request can choose the amount, the pace and the faults of its response ([`HELP`]).
//! Its text and its token counts follow from that alone, so that a proxy's counts can be checked to
//! the last token. The simulator must never limit a load test: each thread has its own listening
//! socket and runtime, and shares only counters with the others.
//!
//! The simulator is for tests only: it trusts all clients, echoes credentials on request, and
//! bounds the cost of one request, but not the number of requests.

mod account;
mod ask;
mod body;
mod content;
mod conversations;
mod directions;
mod error;
mod files;
mod form;
mod help;
mod images;
mod limit;
mod moderation;
mod ordered;
mod place;
mod plain;
mod play;
mod realtime;
mod reel;
mod respond;
mod schema;
mod script;
mod shapes;
mod socket;
mod speech;
mod store;
mod stored;
mod tally;
mod task;
mod template;
mod text;
mod transcription;
mod wire;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub use help::HELP;
use respond::{Shared, respond};
use wire::{Order, Socket, Wire};

use crate::server;
use crate::tls::HTTP_2;

/// The bytes gathered for one write while events come without a pause.
const WRITE_BUFFER_BYTES: usize = 128 * 1024;

/// The pause after a failed accept, for example because of too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The settings of the simulator.
#[derive(Clone, Debug)]
pub struct SimulatorSettings {
    /// The address to listen on. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads; 0 means one for each CPU that this process may use.
    pub workers: usize,
    /// The key that requests must have, as `Authorization: Bearer` or `api-key`. `None`: requests
    /// need no key.
    pub api_key: Option<String>,
}

/// Binds the simulator's address. Connections wait until it is spawned.
///
/// # Errors
/// Fails with the system's error, such as an address in use.
pub fn bind(settings: &SimulatorSettings) -> io::Result<Bound> {
    let workers = match settings.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let (address, sockets) = server::bind(settings.listen, workers)?;
    let shared = Arc::new(Shared::new(settings.api_key.clone()));
    let sockets = sockets.into_iter().map(Into::into).collect();
    Ok(Bound { address, sockets, shared, tls: None })
}

/// A simulator that does not run yet.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
    shared: Arc<Shared>,
    tls: Option<Arc<ServerConfig>>,
}

impl Bound {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Appends the `x-simulate-id` of each executed request to this file, which is open for
    /// appending, as a line.
    #[must_use]
    pub fn with_executions(self, file: File) -> Self {
        self.shared.append_executions_to(file);
        self
    }

    /// Serves through TLS.
    #[must_use]
    pub fn with_tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Gives the simulator an account of this name, which refuses the ids of others.
    ///
    /// # Panics
    /// Panics if the simulator runs already, which is impossible: running it consumes this.
    #[must_use]
    pub fn with_account(mut self, name: &str) -> Self {
        Arc::get_mut(&mut self.shared).expect("no thread has it yet").set_account(name);
        self
    }

    /// Starts the threads.
    ///
    /// # Panics
    /// Panics if the system cannot start a thread.
    pub fn spawn(self) -> RunningSimulator {
        let (stop, stopped) = watch::channel(());
        let start = |socket| {
            let (shared, tls, stopped) = (Arc::clone(&self.shared), self.tls.clone(), stopped.clone());
            let thread = thread::Builder::new().name("simulator".to_owned());
            thread.spawn(move || work(socket, &shared, tls, stopped)).expect("the system can start a thread")
        };
        RunningSimulator { threads: self.sockets.into_iter().map(start).collect(), stop: Some(stop) }
    }
}

/// A simulator that runs until this is stopped or dropped.
#[derive(Debug)]
pub struct RunningSimulator {
    threads: Vec<JoinHandle<()>>,
    /// Dropped to stop.
    stop: Option<watch::Sender<()>>,
}

impl RunningSimulator {
    /// Ends the simulator: closes all connections in any state, and joins the threads.
    pub fn stop(self) {}
}

impl Drop for RunningSimulator {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            // A failed thread has panicked and reported it.
            let _ = thread.join();
        }
    }
}

/// Runs one thread: accepts connections until `stopped`, then drops them all.
fn work(
    socket: TcpListener,
    shared: &Arc<Shared>,
    tls: Option<Arc<ServerConfig>>,
    mut stopped: watch::Receiver<()>,
) {
    let tls = tls.map(TlsAcceptor::from);
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = runtime.expect("the system has what a runtime needs");
    runtime.block_on(async {
        let listener =
            tokio::net::TcpListener::from_std(socket).expect("a listening socket that does not block");
        tokio::select! {
            _ = stopped.changed() => {}
            () = accept(&listener, shared, tls.as_ref()) => {}
        }
    });
}

async fn accept(listener: &tokio::net::TcpListener, shared: &Arc<Shared>, tls: Option<&TlsAcceptor>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(serve(stream, Arc::clone(shared), tls.cloned()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one connection to its end. Its end is not logged, since the client sees it.
async fn serve(stream: TcpStream, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    let (stream, is_http2) = match tls {
        Some(tls) => {
            let Ok(stream) = tls.accept(stream).await else { return };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
            (Socket::Tls(Box::new(stream)), is_http2)
        }
        None => {
            let is_http2 = speaks_http2(&stream).await;
            (Socket::Plain(stream), is_http2)
        }
    };
    let order = Order::default();
    let io = TokioIo::new(Wire::new(stream, order.clone()));
    let service = service_fn(move |request| respond(Arc::clone(&shared), order.clone(), request));
    if is_http2 {
        let _ = http2::Builder::new(Local).timer(TokioTimer::new()).serve_connection(io, service).await;
    } else {
        let mut http1 = http1::Builder::new();
        // One buffer, so that as many events as fit are sent in one write.
        http1.writev(false).max_buf_size(WRITE_BUFFER_BYTES);
        let _ = http1.serve_connection(io, service).with_upgrades().await;
    }
}

/// Returns true if the client begins with HTTP/2's preface (RFC 9113 section 3.4). No HTTP/1 method
/// is `PRI`. Clients send the preface in one piece, so a first segment shorter than the word counts
/// as HTTP/1.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 4];
    matches!(stream.peek(&mut start).await, Ok(4)) && &start == b"PRI "
}

/// Runs the tasks of HTTP/2 on this thread.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

#[cfg(test)]
mod tests;
