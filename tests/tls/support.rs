//! A folder of certificates, the proxy, a TLS upstream that says who came, and TLS clients.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::{Request, Response, request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use streamgauge::app::{App, Running};
use streamgauge::config::{self, reload::Kind};
use streamgauge::record::{Sink, UsageRecord};
use streamgauge::tls::{
    ClientCertificates, ClientSettings, Facts, HTTP_1_1, HTTP_2, IdentitySource, ServerSettings, Source,
    Verification, Watch, client_name,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::harness::certificates::{Authority, Pair};

/// How long anything may take before a test gives up. Nothing is meant to take it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Certificates of one authority, in files.
pub struct Folder {
    folder: TempDir,
    pub ca: Authority,
}

impl Folder {
    pub fn new() -> Self {
        let folder = Self { folder: tempfile::tempdir().unwrap(), ca: Authority::new("ours") };
        fs::write(folder.path("ca.crt"), folder.ca.pem()).unwrap();
        folder.write("server", &folder.ca.issue_numbered(1, "proxy", &["127.0.0.1", "localhost"]));
        folder.write("client", &folder.ca.issue_numbered(1, "the-proxy", &[]));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a certificate and its key there, each by a rename.
    pub fn write(&self, name: &str, pair: &Pair) {
        for (kind, text) in [("crt", &pair.certificate), ("key", &pair.key)] {
            let new = self.path("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.path(&format!("{name}.{kind}"))).unwrap();
        }
    }

    /// The lines of a certificate with its key.
    pub fn lines(&self, name: &str) -> String {
        let file = |kind: &str| self.path(&format!("{name}.{kind}")).display().to_string();
        format!(
            "certificate = {{ file = {:?} }}\nprivate_key = {{ file = {:?} }}\n",
            file("crt"),
            file("key")
        )
    }

    /// The line of an authority.
    pub fn ca_line(&self, key: &str) -> String {
        format!("{key} = {{ file = {:?} }}\n", self.path("ca.crt").display().to_string())
    }

    /// Settings of a client that trusts the authority, and presents `pair`.
    pub fn client(&self, pair: Option<&Pair>) -> ClientSettings {
        ClientSettings {
            verification: Verification::Full,
            identity: pair.map(identity),
            ca: vec![Source::File(self.path("ca.crt"))],
            ca_adds_to_system: false,
        }
    }
}

fn identity(pair: &Pair) -> IdentitySource {
    let source = |text: &str| Source::text("the test", text).unwrap();
    IdentitySource {
        certificate: source(&pair.certificate),
        private_key: source(&pair.key),
        passphrase: None,
    }
}

/// A running proxy. Dropping it cuts what runs.
pub struct Proxy {
    pub address: SocketAddr,
    running: Running,
    records: Receiver<Value>,
}

impl Proxy {
    /// `server` are lines of `[server.tls]`, none for plain HTTP; `upstream` are lines of
    /// `[upstreams.up.tls]`; `more` are further tables.
    pub fn run(server: &str, upstream: SocketAddr, tls: &str, more: &str) -> Self {
        Self::run_with("", server, upstream, tls, more)
    }

    /// The same with further lines of `[server]`.
    pub fn run_with(lines: &str, server: &str, upstream: SocketAddr, tls: &str, more: &str) -> Self {
        let server = if server.is_empty() { String::new() } else { format!("[server.tls]\n{server}") };
        Self::of(&format!(
            "{lines}\n{server}\n[upstreams.up]\nprovider = \"other\"\nurl = \"https://{upstream}/v1\"\n\
             api_key = \"none\"\ndefault_model = \"m\"\n[upstreams.up.tls]\n{tls}\n{more}"
        ))
    }

    /// With further lines of `[server]` and tables behind them; it listens on a free port, and
    /// keeps no ledger.
    pub fn of(text: &str) -> Self {
        let text = format!(
            "[admin]\nlisten = \"\"\n[ledger]\npath = \"\"\n[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n{text}"
        );
        let settings = config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
        let (sender, records) = mpsc::channel();
        let running = App::bind(&settings, vec![Box::new(Records(sender))]).unwrap().spawn().unwrap();
        Self { address: running.addresses().proxy, running, records }
    }

    /// Has the files compared, as the proxy does every two seconds.
    pub async fn look(&self) {
        self.running.reload().request(Kind::Look).expect("it has files").await.expect("it runs");
    }

    /// The next record.
    pub fn record(&self) -> Value {
        self.records.recv_timeout(PATIENCE).expect("a usage record")
    }
}

struct Records(Sender<Value>);

impl Sink for Records {
    fn name(&self) -> String {
        "the test".to_owned()
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        for row in batch {
            // The test may be over.
            let _ = self.0.send(serde_json::to_value(row)?);
        }
        Ok(())
    }
}

/// An upstream, mostly with TLS. Each response says who came, mostly as [`name_and_serial`]. An
/// answer to a path that has `slow` in it goes on with a number each [`TICK`], from 1, until
/// [`Upstream::release`] ends it with [`REST`].
pub struct Upstream {
    pub address: SocketAddr,
    config: watch::Sender<Option<Arc<ServerConfig>>>,
    release: watch::Sender<bool>,
}

/// What an upstream says of who came: from where, and with which certificate.
pub type Says = fn(SocketAddr, Option<&CertificateDer<'_>>) -> String;

/// The certificate's name and serial number, or `nobody`.
pub fn name_and_serial(_from: SocketAddr, certificate: Option<&CertificateDer<'_>>) -> String {
    certificate.map_or_else(
        || "nobody".to_owned(),
        |certificate| format!("{} {}", client_name(certificate).unwrap(), serial(certificate)),
    )
}

/// The end of slow answers.
pub const REST: &str = "and the rest";

/// How fast slow answers are.
pub const TICK: Duration = Duration::from_millis(200);

impl Upstream {
    /// Under the certificate, over HTTP/1.1; whether it asks for those of clients, who are signed
    /// by the folder's authority.
    pub async fn run(folder: &Folder, pair: &Pair, asks: Option<ClientCertificates>) -> Self {
        let ca = asks.map(|asks| (fs::read_to_string(folder.path("ca.crt")).unwrap(), asks));
        Self::start(server(pair, ca, &[HTTP_1_1])).await
    }

    /// As the configuration says, which [`server`] makes.
    pub async fn start(config: Arc<ServerConfig>) -> Self {
        Self::saying(name_and_serial, Some(config)).await
    }

    /// One with other words; without a configuration, one without TLS.
    pub async fn saying(says: Says, config: Option<Arc<ServerConfig>>) -> Self {
        let (release, released) = watch::channel(false);
        let (address, config) = serve(config, says, move |request, who| {
            answer(request.uri.path().contains("slow"), who, released.clone())
        })
        .await;
        Self { address, config, release }
    }

    /// New connections get another configuration.
    pub fn change(&self, config: Arc<ServerConfig>) {
        self.config.send_replace(Some(config));
    }

    /// Lets slow answers end.
    pub fn release(&self) {
        self.release.send_replace(true);
    }
}

/// Answers every request, when its body is here, knowing what `says` says of who came. Returns
/// where, and the way to change the configuration of new connections.
pub async fn serve(
    config: Option<Arc<ServerConfig>>,
    says: Says,
    answer: impl Fn(&request::Parts, String) -> Response<AnswerBody> + Send + Sync + 'static,
) -> (SocketAddr, watch::Sender<Option<Arc<ServerConfig>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (config, present) = watch::channel(config);
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((tcp, from)) = listener.accept().await {
            let (config, answer) = (present.borrow().clone(), Arc::clone(&answer));
            tokio::spawn(async move {
                let Some(config) = config else {
                    return answer_all(tcp, false, says(from, None), answer).await;
                };
                match TlsAcceptor::from(config).accept(tcp).into_fallible().await {
                    Ok(stream) => {
                        let session = stream.get_ref().1;
                        let is_http2 = session.alpn_protocol() == Some(HTTP_2);
                        let who = says(from, session.peer_certificates().map(|chain| &chain[0]));
                        answer_all(stream, is_http2, who, answer).await;
                    }
                    // One of the two has refused the other, and said why: a close with something
                    // unread could take that away.
                    Err((_, mut tcp)) => {
                        let _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
                    }
                }
            });
        }
    });
    (address, config)
}

/// What an upstream speaks TLS with: its certificate, the authorities of its clients, and its
/// protocols.
pub fn server(
    pair: &Pair,
    clients: Option<(String, ClientCertificates)>,
    alpn: &[&[u8]],
) -> Arc<ServerConfig> {
    let settings = ServerSettings {
        identity: identity(pair),
        client_certificates: clients.as_ref().map_or(ClientCertificates::Optional, |(_, asks)| *asks),
        client_ca: clients.map(|(ca, _)| Source::text("the test", &ca).unwrap()).into_iter().collect(),
    };
    let mut config = ServerConfig::clone(&Watch::default().server(&settings).unwrap().load().config);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

async fn answer_all(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_http2: bool,
    who: String,
    answer: Arc<impl Fn(&request::Parts, String) -> Response<AnswerBody> + Send + Sync + 'static>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (who, answer) = (who.clone(), Arc::clone(&answer));
        async move {
            let (head, body) = request.into_parts();
            body.collect().await?;
            Ok::<_, hyper::Error>(answer(&head, who))
        }
    });
    // The client may go at any time.
    let io = TokioIo::new(stream);
    if is_http2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}

/// The body of an upstream's response.
pub type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

fn answer(is_slow: bool, who: String, released: watch::Receiver<bool>) -> Response<AnswerBody> {
    if !is_slow {
        return Response::new(Full::new(who.into()).boxed_unsync());
    }
    let frames = unfold((0, released), move |(number, mut released)| {
        let who = who.clone();
        async move {
            if number == ENDED {
                return None;
            }
            if number == 0 {
                return Some((Ok(Frame::data(format!("{who}\n").into())), (1, released)));
            }
            // A sender that is gone means that the test is over.
            let ended = tokio::time::timeout(TICK, released.wait_for(|released| *released)).await.is_ok();
            let (text, next) =
                if ended { (REST.to_owned(), ENDED) } else { (format!("{number}\n"), number + 1) };
            Some((Ok(Frame::data(text.into())), (next, released)))
        }
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// After the last number.
const ENDED: u32 = u32::MAX;

pub fn serial(certificate: &CertificateDer<'_>) -> String {
    Facts::of(certificate).unwrap().serial
}

/// Reads up to and with `end`, or what there is when the connection ends.
pub async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(end.as_bytes()) {
        match tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.expect("it takes too long") {
            Ok(1) => read.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(read).unwrap()
}

/// A TLS connection to the proxy.
pub async fn connect(
    settings: &ClientSettings,
    address: SocketAddr,
    alpn: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let config = Arc::new(settings.config(alpn).unwrap());
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("127.0.0.1").unwrap(), tcp).await
}

/// A GET on a connection that then closes: the whole response, or nothing where there is none.
pub async fn get(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), headers: &str) -> String {
    get_path(stream, "/v1/models", headers).await
}

/// The same for another path.
pub async fn get_path(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    headers: &str,
) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    // The proxy may have refused the connection already.
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it takes too long");
    String::from_utf8(answer).unwrap()
}
