//! Requests of commands to the admin port of the process that runs with the same configuration.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{self, AdminPort, Mistakes, Sources};
use crate::support::ListenAddress;
use crate::tls::{ClientSettings, HTTP_1_1, Verification};

/// The longest response that is read.
const MAX_RESPONSE: u64 = 4 << 20;

pub(super) const NOT_THERE: &str = "nothing listens there: streamgauge does not run, or admin.listen has changed since its start, and --address \
     names the address in use";

/// The host of requests over a Unix socket, which has no name.
const LOCALHOST: &str = "localhost";

/// The address of the port.
#[derive(Clone, Debug)]
pub(super) struct AdminClient {
    pub(super) address: ListenAddress,
    has_tls: bool,
    /// The longest wait for a connection, and for each piece of the response.
    patience: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: String,
}

impl AdminClient {
    /// The port in the configuration, or the one at `address`. `None` if there is none.
    ///
    /// # Errors
    /// Fails if the configuration does not tell the port's address.
    pub(super) fn find(
        sources: &Sources,
        address: Option<ListenAddress>,
        patience: Duration,
    ) -> Result<Option<Self>, Mistakes> {
        let AdminPort { address, has_tls } = match (config::load_admin_port(sources), address) {
            (Ok(port), None) => port,
            (Ok(port), address) => AdminPort { address, ..port },
            (Err(_), Some(address)) => AdminPort { address: Some(address), has_tls: false },
            (Err(mistakes), None) => return Err(mistakes),
        };
        Ok(address.map(|address| Self { address: reachable(address), has_tls, patience }))
    }

    /// Sends a request without a body. `headers` are whole lines.
    ///
    /// The certificate is not verified: it is for the names that browsers use, and this is an address
    /// of the machine itself.
    pub(super) fn send(&self, method: &str, path: &str, headers: &str) -> io::Result<Response> {
        let (stream, host) = match &self.address {
            ListenAddress::Inet(address) => {
                (TcpStream::connect_timeout(address, self.patience)?, address.to_string())
            }
            ListenAddress::Unix(path) => (connect_unix(path, self.patience)?, LOCALHOST.to_owned()),
        };
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n"
        );
        if !self.has_tls {
            return exchange(stream, &request);
        }
        let settings = ClientSettings { verification: Verification::None, ..ClientSettings::default() };
        let config = settings.config(&[HTTP_1_1]).map_err(|fault| io::Error::other(fault.to_string()))?;
        let name = match &self.address {
            ListenAddress::Inet(address) => ServerName::from(address.ip()),
            ListenAddress::Unix(_) => ServerName::try_from(LOCALHOST).map_err(io::Error::other)?,
        };
        let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        exchange(StreamOwned::new(tls, stream), &request)
    }
}

/// Connects to a Unix socket. A queue that is full for longer than `patience` is an error. The
/// stream has the type of those of addresses: the same system calls read and write it.
fn connect_unix(path: &Path, patience: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The wait for room in the queue (unix(7)).
    socket.set_write_timeout(Some(patience))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

/// Returns true if no process listens at the address.
pub(super) fn is_not_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// A server on all addresses listens on the loopback address too.
fn reachable(listen: ListenAddress) -> ListenAddress {
    let ListenAddress::Inet(listen) = listen else { return listen };
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port()).into()
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Response> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let ended = stream.take(MAX_RESPONSE).read_to_end(&mut bytes);
    match parse(&bytes) {
        Some(response) => Ok(response),
        None => Err(ended
            .err()
            .unwrap_or_else(|| io::Error::other("this is not a response of streamgauge's admin port"))),
    }
}

/// `None` if the head is not complete, or not HTTP/1.1.
fn parse(bytes: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn at(address: SocketAddr, patience: Duration) -> AdminClient {
        AdminClient { address: address.into(), has_tls: false, patience }
    }

    /// The result for a server that sends these bytes.
    fn response_to(bytes: &'static [u8]) -> io::Result<Response> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(bytes).unwrap();
            String::from_utf8(request).unwrap()
        });
        let response = at(address, Duration::from_secs(5)).send("GET", "/readyz", "x-line: 1\r\n");
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
        assert!(request.ends_with("x-line: 1\r\n\r\n"), "{request}");
        response
    }

    #[test]
    fn response_has_its_status_and_body() {
        let response =
            response_to(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\ndraining\n");
        assert_eq!(response.unwrap(), Response { status: 503, body: "draining\n".to_owned() });
    }

    #[test]
    fn anything_but_a_response_is_an_error() {
        for bytes in
            [&b""[..], b"HTTP/1.1 200 OK\r\n", b"220 mail.example ESMTP\r\n\r\n", b"HTTP/1.1 2\r\n\r\n"]
        {
            response_to(bytes).unwrap_err();
        }
    }

    #[test]
    fn silent_server_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        at(address, Duration::from_millis(20)).send("GET", "/healthz", "").unwrap_err();
    }

    #[test]
    fn unix_socket_is_asked_as_localhost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let client = AdminClient {
            address: ListenAddress::Unix(path.clone()),
            has_tls: false,
            patience: Duration::from_secs(5),
        };
        assert!(is_not_there(&client.send("GET", "/healthz", "").unwrap_err()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok\n").unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let response = client.send("GET", "/healthz", "").unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "ok\n"));
        let request = server.join().unwrap();
        assert!(request.contains("\r\nhost: localhost\r\n"), "{request}");
        assert!(is_not_there(&client.send("GET", "/healthz", "").unwrap_err()), "it was left");
    }

    #[test]
    fn server_on_all_addresses_is_asked_on_loopback() {
        for (listen, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
