//! Peers in this process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use streamgauge::tls::ClientCertificates::Required;
use streamgauge::tls::{HTTP_1_1, HTTP_2};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Identities, OUT, PASSWORD, Peers, USER};
use crate::support::{Upstream, name_and_serial, read_until, server};

impl Peers {
    /// All in this process.
    pub async fn in_process(who: &Identities) -> Self {
        let ca = std::fs::read_to_string(who.folder.path("ca.crt")).unwrap();
        let alpn = [HTTP_2, HTTP_1_1];
        let serve = |config| Upstream::saying(address_and_certificate, config);
        let open = serve(Some(server(&who.target, None, &alpn))).await;
        let closed = serve(Some(server(&who.target, Some((ca, Required)), &alpn))).await;
        let plain = serve(None).await;
        let targets = [plain.address, open.address, closed.address];
        let credentials = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let proxies = [
            proxy(OUT[0], None, None).await,
            proxy(OUT[1], Some(server(&who.proxy, None, &[])), None).await,
            proxy(OUT[2], None, Some(credentials)).await,
        ];
        Self { targets, proxies, _alive: vec![Box::new((plain, open, closed))] }
    }
}

/// As nginx is configured to say it.
fn address_and_certificate(from: SocketAddr, certificate: Option<&CertificateDer<'_>>) -> String {
    let who = certificate.map(|certificate| format!(" CN={}", name_and_serial(from, Some(certificate))));
    format!("{}{}", from.ip(), who.unwrap_or_default())
}

/// A CONNECT proxy, maybe behind TLS, maybe for those only who say this in `Proxy-Authorization`.
async fn proxy(out: &'static str, tls: Option<Arc<ServerConfig>>, wanted: Option<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, wanted) = (tls.clone(), wanted.clone());
            tokio::spawn(async move {
                // Who does not trust it breaks off; what the test looks at will tell.
                match tls {
                    None => tunnel(tcp, out, wanted).await,
                    Some(tls) => tunnel(TlsAcceptor::from(tls).accept(tcp).await?, out, wanted).await,
                }
            });
        }
    });
    address
}

async fn tunnel(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    out: &str,
    wanted: Option<String>,
) -> io::Result<()> {
    let head = read_until(&mut client, "\r\n\r\n").await;
    if wanted.is_some_and(|wanted| !head.contains(&format!("\r\nproxy-authorization: {wanted}\r\n"))) {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await?;
        return client.flush().await;
    }
    let target = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next())
        .ok_or(io::ErrorKind::InvalidData)?;
    let target =
        tokio::net::lookup_host(target).await?.find(SocketAddr::is_ipv4).ok_or(io::ErrorKind::NotFound)?;
    let mut server = connect(out, target).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    client.flush().await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn connect(from: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.parse().map_err(io::Error::other)?, 0))?;
    socket.connect(to).await
}
