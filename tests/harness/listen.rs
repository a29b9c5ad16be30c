//! Servers that run as tasks: a thread accepts connections, plain or with TLS.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use streamgauge::tls::{HTTP_2, client_name};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::tls::serial;

/// A listening server; its thread ends with the test.
pub struct Listening {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    tls: Arc<Mutex<Option<Arc<ServerConfig>>>>,
}

/// A connection of a server.
pub struct Accepted {
    pub stream: Box<dyn Stream>,
    pub peer: Peer,
    /// The choice of ALPN.
    pub is_http2: bool,
}

/// The other end of a connection.
#[derive(Clone)]
pub struct Peer {
    pub from: SocketAddr,
    /// The leaf certificate, if the server requests one.
    pub certificate: Option<CertificateDer<'static>>,
}

/// TCP, or TLS over TCP.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Peer {
    /// The name and serial number of its certificate; `nobody` without one.
    pub fn name_and_serial(&self) -> String {
        self.certificate.as_ref().map_or_else(
            || "nobody".to_owned(),
            |certificate| format!("{} {}", client_name(certificate).unwrap(), serial(certificate)),
        )
    }
}

impl Listening {
    /// The number of accepted connections.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Uses another configuration for new connections.
    pub fn change_tls(&self, config: Arc<ServerConfig>) {
        *self.tls.lock().unwrap() = Some(config);
    }
}

/// Passes each connection to `serve`, in a task of its own. Without a configuration there is no
/// TLS.
pub fn listen<F>(
    tls: Option<Arc<ServerConfig>>,
    serve: impl Fn(Accepted) -> F + Send + Sync + 'static,
) -> Listening
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, tls) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(tls)));
    let (count, present, serve) = (Arc::clone(&accepted), Arc::clone(&tls), Arc::new(serve));
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((tcp, from)) = listener.accept().await {
                tcp.set_nodelay(true).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (config, serve) = (present.lock().unwrap().clone(), Arc::clone(&serve));
                tokio::spawn(async move {
                    if let Some(accepted) = accept(tcp, from, config).await {
                        serve(accepted).await;
                    }
                });
            }
        });
    });
    Listening { address, accepted, tls }
}

async fn accept(tcp: TcpStream, from: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Option<Accepted> {
    let Some(config) = tls else {
        let peer = Peer { from, certificate: None };
        return Some(Accepted { stream: Box::new(tcp), peer, is_http2: false });
    };
    match TlsAcceptor::from(config).accept(tcp).into_fallible().await {
        Ok(stream) => {
            let session = stream.get_ref().1;
            let certificate = session.peer_certificates().map(|chain| chain[0].clone().into_owned());
            let is_http2 = session.alpn_protocol() == Some(HTTP_2);
            Some(Accepted { stream: Box::new(stream), peer: Peer { from, certificate }, is_http2 })
        }
        // One end has refused the other with an alert. A close with unread bytes could discard the
        // alert.
        Err((_, mut tcp)) => {
            let _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
            None
        }
    }
}
