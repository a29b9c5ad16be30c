//! Peers in this process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use streamgauge::tls::ClientCertificates::Required;
use streamgauge::tls::{HTTP_1_1, HTTP_2};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{Identities, OUT, PASSWORD, Peers, USER};
use crate::harness::listen::{Peer, listen};
use crate::harness::service::{Service, service};
use crate::harness::tls::server_config;
use crate::witness::whole;

impl Peers {
    /// Starts all peers in this process; they listen until the test ends.
    pub fn in_process(who: &Identities) -> Self {
        let ca = std::fs::read_to_string(who.folder.path("ca.crt")).unwrap();
        let alpn = [HTTP_2, HTTP_1_1];
        let serve = |service: Service| service.run(|_, peer| whole(address_and_certificate(peer))).address;
        let open = service().tls(server_config(&who.target, None, &alpn));
        let closed = service().tls(server_config(&who.target, Some((ca, Required)), &alpn));
        let targets = [service(), open, closed].map(serve);
        let credentials = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let proxies = [
            proxy(OUT[0], None, None),
            proxy(OUT[1], Some(server_config(&who.proxy, None, &[])), None),
            proxy(OUT[2], None, Some(credentials)),
        ];
        Self { targets, proxies, _alive: Vec::new() }
    }
}

/// The report in the form of nginx's configuration.
fn address_and_certificate(peer: &Peer) -> String {
    let certificate = peer.certificate.as_ref().map(|_| format!(" CN={}", peer.name_and_serial()));
    format!("{}{}", peer.from.ip(), certificate.unwrap_or_default())
}

/// A CONNECT proxy, with or without TLS. `wanted` is the required `Proxy-Authorization`.
fn proxy(out: &'static str, tls: Option<Arc<ServerConfig>>, wanted: Option<String>) -> SocketAddr {
    let listening = listen(tls, move |accepted| {
        let wanted = wanted.clone();
        async move {
            // Either end may close; the client's error tells the reason.
            let _ = tunnel(accepted.stream, out, wanted).await;
        }
    });
    listening.address
}

async fn tunnel(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    out: &str,
    wanted: Option<String>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
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
