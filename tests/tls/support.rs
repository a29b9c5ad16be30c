//! A folder of certificates, the proxy, a TLS upstream that says who came, and TLS clients.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use streamgauge::app::{App, Running};
use streamgauge::config;
use streamgauge::record::{Sink, UsageRecord};
use streamgauge::tls::{
    ClientCertificates, ClientSettings, Facts, HTTP_1_1, IdentitySource, ServerSettings, Source,
    Verification, Watch, client_name,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certificates::{Authority, Pair};

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
    _running: Running,
    records: Receiver<Value>,
}

impl Proxy {
    /// `server` are lines of `[server.tls]`, none for plain HTTP; `upstream` are lines of `[upstreams.up.tls]`; `more` are
    /// further tables.
    pub fn run(server: &str, upstream: SocketAddr, tls: &str, more: &str) -> Self {
        Self::run_with("", server, upstream, tls, more)
    }

    /// The same with further lines of `[server]`.
    pub fn run_with(lines: &str, server: &str, upstream: SocketAddr, tls: &str, more: &str) -> Self {
        let server = if server.is_empty() { String::new() } else { format!("[server.tls]\n{server}") };
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n{lines}\n{server}\n[admin]\nlisten = \"\"\n[ledger]\npath = \"\"\n\
             [upstreams.up]\nprovider = \"other\"\nurl = \"https://{upstream}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n\
             [upstreams.up.tls]\n{tls}\n{more}"
        );
        let settings = config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
        let (sender, records) = mpsc::channel();
        let running = App::bind(&settings, vec![Box::new(Records(sender))]).unwrap().spawn().unwrap();
        Self { address: running.addresses().proxy, _running: running, records }
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

/// A TLS upstream, HTTP/1.1. Each answer says who came: `<name> <serial>` of the client's certificate, or `nobody`. An answer to
/// a path that has `slow` in it comes in two chunks, the second when [`Upstream::release`] says so.
pub struct Upstream {
    pub address: SocketAddr,
    release: watch::Sender<bool>,
}

/// The second chunk of slow answers.
pub const REST: &str = " and the rest";

impl Upstream {
    /// Under the certificate; whether it asks for those of clients, who are signed by the folder's authority.
    pub async fn run(folder: &Folder, pair: &Pair, asks: Option<ClientCertificates>) -> Self {
        let settings = ServerSettings {
            identity: identity(pair),
            client_ca: asks.map(|_| Source::File(folder.path("ca.crt"))).into_iter().collect(),
            client_certificates: asks.unwrap_or(ClientCertificates::Optional),
        };
        let mut config = ServerConfig::clone(&Watch::default().server(&settings).unwrap().load());
        // It speaks no HTTP/2.
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (release, released) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, released) = (acceptor.clone(), released.clone());
                tokio::spawn(async move {
                    // The client may refuse the certificate; what the test looks at will tell.
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        let _ = answer_all(stream, released).await;
                    }
                });
            }
        });
        Self { address, release }
    }

    /// Lets slow answers end.
    pub fn release(&self) {
        self.release.send_replace(true);
    }
}

async fn answer_all(
    mut stream: tokio_rustls::server::TlsStream<TcpStream>,
    mut released: watch::Receiver<bool>,
) -> io::Result<()> {
    let who = stream.get_ref().1.peer_certificates().map_or_else(
        || "nobody".to_owned(),
        |chain| format!("{} {}", client_name(&chain[0]).unwrap(), serial(&chain[0])),
    );
    loop {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        if head.is_empty() {
            return Ok(());
        }
        if head.contains("slow") {
            let first =
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{who}\r\n", who.len());
            stream.write_all(first.as_bytes()).await?;
            stream.flush().await?;
            released.wait_for(|released| *released).await.map_err(io::Error::other)?;
            let rest = format!("{:x}\r\n{REST}\r\n0\r\n\r\n", REST.len());
            stream.write_all(rest.as_bytes()).await?;
        } else {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{who}", who.len());
            stream.write_all(answer.as_bytes()).await?;
        }
        stream.flush().await?;
    }
}

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

/// A GET on a connection that then closes: the whole answer, or nothing where there is none.
pub async fn get(stream: &mut (impl AsyncRead + tokio::io::AsyncWrite + Unpin), headers: &str) -> String {
    get_path(stream, "/v1/models", headers).await
}

/// The same for another path.
pub async fn get_path(
    stream: &mut (impl AsyncRead + tokio::io::AsyncWrite + Unpin),
    path: &str,
    headers: &str,
) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n{headers}\r\n");
    // The proxy may have refused the connection already.
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it takes too long");
    String::from_utf8(answer).unwrap()
}
