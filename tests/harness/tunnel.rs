//! Forward proxies between the proxy under test and its upstream, and TLS in front of either.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::PATIENCE;
use super::listen::listen;
use super::upstream::{header, read_head};

/// A forward proxy that leads every tunnel to one address, whatever name is requested.
pub struct Tunnels {
    pub address: SocketAddr,
    openings: Receiver<String>,
    passed: Arc<Mutex<Vec<u8>>>,
}

impl Tunnels {
    /// A CONNECT proxy.
    pub fn to(target: SocketAddr) -> Self {
        Self::with(target, |stream| connect(stream, None))
    }

    /// A CONNECT proxy that requires this `Proxy-Authorization`.
    pub fn to_with_authorization(target: SocketAddr, wanted: &'static str) -> Self {
        Self::with(target, move |stream| connect(stream, Some(wanted)))
    }

    /// A SOCKS5 proxy; `wanted` is a user name and a password.
    pub fn socks5_to(target: SocketAddr, wanted: Option<(&'static str, &'static str)>) -> Self {
        Self::with(target, move |stream| socks5(stream, wanted))
    }

    /// `open` accepts the client and returns its request, or refuses it and returns the mistake as
    /// `Err`.
    fn with(
        target: SocketAddr,
        open: impl Fn(&mut TcpStream) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, openings) = mpsc::channel();
        let passed = Arc::new(Mutex::new(Vec::new()));
        let (open, seen) = (Arc::new(open), Arc::clone(&passed));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (open, sender, seen) = (Arc::clone(&open), sender.clone(), Arc::clone(&seen));
                thread::spawn(move || tunnel(stream, target, &*open, &sender, &seen));
            }
        });
        Self { address, openings, passed }
    }

    /// The request of the next tunnel: a head of HTTP, or SOCKS5's target.
    pub fn opening(&self) -> String {
        self.openings.recv_timeout(PATIENCE).expect("a tunnel")
    }

    /// The number of tunnels requested since.
    pub fn more_openings(&self) -> usize {
        self.openings.try_iter().count()
    }

    /// Returns true if these bytes passed to the target.
    pub fn passed(&self, bytes: &str) -> bool {
        String::from_utf8_lossy(&self.passed.lock().unwrap()).contains(bytes)
    }
}

fn tunnel(
    mut client: TcpStream,
    target: SocketAddr,
    open: &dyn Fn(&mut TcpStream) -> Result<String, String>,
    openings: &Sender<String>,
    passed: &Mutex<Vec<u8>>,
) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let opened = open(&mut client);
    let is_open = opened.is_ok();
    // The test may be over.
    let _ = openings.send(opened.unwrap_or_else(|refused| refused));
    if !is_open {
        return;
    }
    let Ok(server) = TcpStream::connect(target) else { return };
    let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = thread::spawn(move || copy(from_server, to_client, |_| {}));
    copy(client, server, |bytes| passed.lock().unwrap().extend_from_slice(bytes));
    back.join().unwrap();
}

fn copy(mut from: TcpStream, mut to: TcpStream, see: impl Fn(&[u8])) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        see(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

fn connect(stream: &mut TcpStream, wanted: Option<&str>) -> Result<String, String> {
    // No bytes may follow the head before the response, so none stay in this reader.
    let head = read_head(&mut BufReader::new(&*stream)).unwrap_or_default();
    if wanted.is_some_and(|wanted| header(&head, "proxy-authorization") != Some(wanted)) {
        let _ = stream.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"a\"\r\ncontent-length: 0\r\n\r\n",
        );
        return Err(head);
    }
    let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
    Ok(head)
}

/// The server half of RFC 1928 and RFC 1929, as far as tests need it.
fn socks5(stream: &mut TcpStream, wanted: Option<(&str, &str)>) -> Result<String, String> {
    let read = |count: usize| {
        let mut bytes = vec![0; count];
        (&*stream).read_exact(&mut bytes).map_err(|error| error.to_string())?;
        Ok::<_, String>(bytes)
    };
    let write = |bytes: &[u8]| (&*stream).write_all(bytes).map_err(|error| error.to_string());
    let methods = read(2)?;
    let methods = read(methods[1].into())?;
    let method = if wanted.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        write(&[5, 0xff])?;
        return Err("no method".to_owned());
    }
    write(&[5, method])?;
    if let Some((name, password)) = wanted {
        let version_and_length = read(2)?;
        let found_name = read(version_and_length[1].into())?;
        let length = read(1)?[0];
        let found_password = read(length.into())?;
        let right = (found_name, found_password) == (name.into(), password.into());
        write(&[1, u8::from(!right)])?;
        if !right {
            return Err("wrong password".to_owned());
        }
    }
    let head = read(4)?;
    let host = match head[3] {
        1 => read(4)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        3 => {
            let length = read(1)?[0];
            String::from_utf8(read(length.into())?).unwrap()
        }
        kind => return Err(format!("address of kind {kind}")),
    };
    let port = read(2)?;
    write(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(format!("{host}:{}", u16::from_be_bytes([port[0], port[1]])))
}

/// TLS that ends here; its contents continue without TLS.
pub struct TlsFront {
    pub address: SocketAddr,
    /// The self-signed certificate, which is its own root.
    pub certificate: CertificateDer<'static>,
    pub pem: String,
}

/// TLS for `localhost` in front of a plain server.
pub fn tls_in_front_of(server: SocketAddr) -> TlsFront {
    tls_choosing(&[], server)
}

/// TLS in front of a server, with ALPN, which chooses the first of these protocols that the client
/// offers too.
pub fn tls_choosing(protocols: &[&str], server: SocketAddr) -> TlsFront {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, pem) = (identity.cert.der().clone(), identity.cert.pem());
    let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsFront { address: tls_front(Arc::new(config), server), certificate, pem }
}

/// TLS with this configuration, in front of a plain server.
pub fn tls_front(config: Arc<ServerConfig>, server: SocketAddr) -> SocketAddr {
    let front = listen(Some(config), move |accepted| async move {
        let mut stream = accepted.stream;
        // The test may be over.
        let Ok(mut plain) = tokio::net::TcpStream::connect(server).await else { return };
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
    });
    front.address
}
