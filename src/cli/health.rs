//! `streamgauge health`: asks the admin port of the process that runs with this configuration. It is
//! for probes in images that have no shell and no curl.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{FAILED, WRONG};
use crate::config::{self, AdminPort, Overrides, Sources};
use crate::tls::{ClientSettings, HTTP_1_1, Verification};

/// The longest wait for a connection, and for each piece of the response.
const PATIENCE: Duration = Duration::from_secs(5);

/// `/readyz` has a few lines.
const MAX_RESPONSE: u64 = 64 << 10;

/// Options of `health`.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    /// Ask whether it can take requests (/readyz), not only whether it runs (/healthz)
    #[arg(long)]
    ready: bool,
    /// The address of the admin port, in place of the configuration's
    #[arg(long, value_name = "ADDR")]
    address: Option<SocketAddr>,
}

/// Prints the response's body. What keeps it from being 200 goes to stderr.
pub(super) fn run(args: &HealthArgs) -> ExitCode {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let AdminPort { address, has_tls } = match (config::load_admin_port(&sources), args.address) {
        (Ok(port), None) => port,
        (Ok(port), address) => AdminPort { address, ..port },
        (Err(_), Some(address)) => AdminPort { address: Some(address), has_tls: false },
        (Err(mistakes), None) => {
            say!("{mistakes}");
            return ExitCode::from(WRONG);
        }
    };
    let Some(address) = address.map(reachable) else {
        say!("health: admin.listen is \"\": this configuration has no admin port to ask");
        return ExitCode::from(FAILED);
    };
    let path = if args.ready { "/readyz" } else { "/healthz" };
    match ask(address, has_tls, path, PATIENCE) {
        Ok(Response { status: 200, body }) => match io::stdout().write_all(body.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => super::output::unwritten(&error, 0),
        },
        Ok(Response { status, body }) => {
            say!("health: {address}{path}: status {status}\n{}", body.trim_end());
            ExitCode::from(FAILED)
        }
        Err(error) => {
            say!("health: {address}{path}: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// A server on all addresses is on this machine's own one too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: u16,
    body: String,
}

/// The certificate is not verified: it is for the names that browsers use, and this is an address of
/// the machine itself.
fn ask(address: SocketAddr, has_tls: bool, path: &str, patience: Duration) -> io::Result<Response> {
    let tcp = TcpStream::connect_timeout(&address, patience)?;
    tcp.set_read_timeout(Some(patience))?;
    tcp.set_write_timeout(Some(patience))?;
    if !has_tls {
        return exchange(tcp, address, path);
    }
    let settings = ClientSettings { verification: Verification::None, ..ClientSettings::default() };
    let config = settings.config(&[HTTP_1_1]).map_err(|fault| io::Error::other(fault.to_string()))?;
    let name = ServerName::from(address.ip());
    let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    exchange(StreamOwned::new(tls, tcp), address, path)
}

fn exchange(mut stream: impl Read + Write, address: SocketAddr, path: &str) -> io::Result<Response> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let ended = stream.take(MAX_RESPONSE).read_to_end(&mut bytes);
    match parse(&bytes) {
        Some(response) => Ok(response),
        None => Err(ended
            .err()
            .unwrap_or_else(|| io::Error::other("this is no response of streamgauge's admin port"))),
    }
}

/// `None` where the head is not complete, or not HTTP/1.1.
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

    /// What is made of a server that answers with these bytes.
    fn answered(bytes: &'static [u8]) -> io::Result<Response> {
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
        let response = ask(address, false, "/readyz", PATIENCE);
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
        response
    }

    #[test]
    fn response_has_its_status_and_body() {
        let response = answered(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\ndraining\n");
        assert_eq!(response.unwrap(), Response { status: 503, body: "draining\n".to_owned() });
    }

    #[test]
    fn anything_but_a_response_is_an_error() {
        for bytes in
            [&b""[..], b"HTTP/1.1 200 OK\r\n", b"220 mail.example ESMTP\r\n\r\n", b"HTTP/1.1 2\r\n\r\n"]
        {
            answered(bytes).unwrap_err();
        }
    }

    #[test]
    fn silent_server_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ask(address, false, "/healthz", Duration::from_millis(20)).unwrap_err();
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
