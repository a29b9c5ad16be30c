//! Both ends of TLS with certificates of a test's own authority.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use streamgauge::tls::{
    ClientCertificates, ClientSettings, Facts, IdentitySource, ServerSettings, Source, Verification, Watch,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::{Authority, Pair};

/// Certificates of one authority, in files.
pub struct Folder {
    folder: TempDir,
    pub ca: Authority,
}

impl Folder {
    /// Creates certificates for the proxy as a server (`server`) and as a client (`client`).
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

    /// Writes a certificate and its key, each by a rename.
    pub fn write(&self, name: &str, pair: &Pair) {
        for (kind, text) in [("crt", &pair.certificate), ("key", &pair.key)] {
            let new = self.path("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.path(&format!("{name}.{kind}"))).unwrap();
        }
    }

    /// The configuration lines of a certificate with its key.
    pub fn lines(&self, name: &str) -> String {
        let file = |kind: &str| self.path(&format!("{name}.{kind}")).display().to_string();
        format!(
            "certificate = {{ file = {:?} }}\nprivate_key = {{ file = {:?} }}\n",
            file("crt"),
            file("key")
        )
    }

    /// The configuration line of an authority.
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

/// The configuration of a server: its certificate, the authorities of its clients, and its
/// protocols.
pub fn server_config(
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

pub fn serial(certificate: &CertificateDer<'_>) -> String {
    Facts::of(certificate).unwrap().serial
}

/// A TLS connection for hyper's client; [`Client`](super::Client) makes its own.
pub async fn connect(
    settings: &ClientSettings,
    address: SocketAddr,
    alpn: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let config = Arc::new(settings.config(alpn).unwrap());
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("127.0.0.1").unwrap(), tcp).await
}
