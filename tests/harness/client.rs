//! A client that writes and reads raw HTTP/1.1, plain or over TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};
use streamgauge::tls::ClientSettings;

use super::PATIENCE;
use super::upstream::{header, read_body, read_head};

/// One connection of a client.
pub struct Client {
    reader: BufReader<Box<dyn Wire>>,
}

/// TCP, or TLS over TCP.
trait Wire: Read + Write + Send {
    fn tcp(&self) -> &TcpStream;

    /// The protocol that ALPN chose.
    fn protocol(&self) -> Option<&[u8]> {
        None
    }
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for StreamOwned<ClientConnection, TcpStream> {
    fn tcp(&self) -> &TcpStream {
        &self.sock
    }

    fn protocol(&self) -> Option<&[u8]> {
        self.conn.alpn_protocol()
    }
}

/// A response as it arrived.
#[derive(Clone, Debug)]
pub struct Response {
    pub head: String,
    /// The body without its framing. `None` if it was truncated.
    pub body: Option<Vec<u8>>,
}

/// The end of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The body ends with its final chunk or the last byte of its length, or with the end of the
    /// connection if the framing allows it.
    Proper,
    /// The body ends with the end of the connection.
    Closed,
    Reset,
}

impl End {
    fn of(error: &std::io::Error) -> Self {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        Self::Reset
    }
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The whole body, which must not be truncated.
    pub fn body(&self) -> &[u8] {
        self.body.as_deref().expect("the body broke off")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(self.body()).unwrap()
    }

    /// The `error` object of the proxy's own responses.
    pub fn error(&self) -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_slice(self.body()).unwrap();
        assert_eq!(body["error"]["type"], "streamgauge_error", "{body}");
        body["error"].clone()
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// Connects from this address of the machine.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::on(socket.into())
    }

    /// `None` if no socket listens any longer.
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        TcpStream::connect(address).ok().map(Self::on)
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(Box::new(stream)) }
    }

    /// Connects over TLS and completes the handshake. Fails if either end refuses the other.
    pub fn over_tls(settings: &ClientSettings, address: SocketAddr, alpn: &[&[u8]]) -> io::Result<Self> {
        Self::over_tls_behind(b"", settings, address, alpn)
    }

    /// Connects over TLS like [`Client::over_tls`], after these bytes.
    pub fn over_tls_behind(
        first: &[u8],
        settings: &ClientSettings,
        address: SocketAddr,
        alpn: &[&[u8]],
    ) -> io::Result<Self> {
        let config = Arc::new(settings.config(alpn).unwrap());
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut connection = ClientConnection::new(config, name).unwrap();
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        tcp.write_all(first)?;
        connection.complete_io(&mut tcp).inspect_err(assert_in_time)?;
        Ok(Self { reader: BufReader::new(Box::new(StreamOwned::new(connection, tcp))) })
    }

    /// The protocol that ALPN chose.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.reader.get_ref().protocol()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // The proxy may respond and close before it has read everything.
        let wire = self.reader.get_mut();
        let _ = wire.write_all(bytes.as_ref()).and_then(|()| wire.flush());
        self
    }

    /// Sends until no buffer on the path has accepted bytes for a while. Returns the number of sent
    /// bytes.
    pub fn send_until_full(&mut self) -> u64 {
        let stream = self.reader.get_mut();
        stream.tcp().set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        while let Ok(written) = stream.write(&[b'x'; 64 * 1024]) {
            sent += written as u64;
        }
        sent
    }

    /// Resets the connection, so that unsent bytes are lost.
    pub fn reset(self) {
        SockRef::from(self.reader.get_ref().tcp()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Sends a JSON request.
    pub fn post(&mut self, path: &str, body: &str) -> &mut Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(head + body)
    }

    /// Sends a request without a body.
    pub fn get(&mut self, path: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    }

    /// The next response, whole.
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let status = head.split(' ').nth(1).unwrap_or_default();
        let body = if matches!(status, "204" | "304") || status.starts_with('1') {
            Some(Vec::new())
        } else {
            read_body(&mut self.reader, &head, true)
        };
        Response { head, body }
    }

    /// The next response, whole. `None` if the connection ends first.
    pub fn next_response(&mut self) -> Option<Response> {
        let head = read_head(&mut self.reader)?;
        let body = Some(read_body(&mut self.reader, &head, true)?);
        Some(Response { head, body })
    }

    /// A response's body without its framing, and its end.
    pub fn body_and_end(&mut self, head: &str) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        if header(head, "transfer-encoding").is_none() {
            let length = header(head, "content-length").map(|length| length.parse().unwrap());
            let mut rest = (&mut self.reader).take(length.unwrap_or(u64::MAX));
            return match rest.read_to_end(&mut body) {
                Ok(read) if length.is_none_or(|length| read as u64 == length) => (body, End::Proper),
                Ok(_) => (body, End::Closed),
                Err(error) => (body, End::of(&error)),
            };
        }
        loop {
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(0) => return (body, End::Closed),
                Ok(_) => {}
                Err(error) => return (body, End::of(&error)),
            }
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
            let mut data = vec![0; size + 2];
            self.reader.read_exact(&mut data).expect("a whole chunk");
            body.extend_from_slice(&data[..size]);
            if size == 0 {
                return (body, End::Proper);
            }
        }
    }

    /// A truncated body, as text.
    pub fn cut_body(&mut self, head: &str) -> String {
        let (body, end) = self.body_and_end(head);
        let body = String::from_utf8(body).unwrap();
        assert_ne!(end, End::Proper, "{body:?}");
        body
    }

    /// The body of a truncated response, as text.
    pub fn cut_response(&mut self) -> String {
        let head = self.head();
        self.cut_body(&head)
    }

    /// The next response's head alone.
    pub fn head(&mut self) -> String {
        read_head(&mut self.reader).expect("a response")
    }

    /// The next chunk's data.
    pub fn chunk(&mut self) -> Vec<u8> {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
        let mut data = vec![0; size + 2];
        self.reader.read_exact(&mut data).unwrap();
        data.truncate(size);
        data
    }

    /// Reads chunks until this many bytes have arrived.
    pub fn chunks(&mut self, bytes: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < bytes {
            data.extend(self.chunk());
        }
        data
    }

    /// Reads this many bytes.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// All bytes until the proxy closes the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset ends a connection too.
        let _ = self.reader.read_to_end(&mut rest);
        rest
    }

    /// Does the same as [`Client::rest`], and returns the end of the connection, which must come
    /// soon.
    pub fn rest_and_end(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut rest = Vec::new();
        let end = self.reader.read_to_end(&mut rest).map(drop).inspect_err(assert_in_time);
        (rest, end)
    }

    /// A GET with further header lines, on a connection that ends with it. Returns the whole
    /// response, or nothing if there is none.
    pub fn last_get(&mut self, path: &str, headers: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"));
        String::from_utf8(self.rest_and_end().0).unwrap()
    }

    /// Reads the end of a chunked response whose data has been read.
    pub fn rest_of_response(&mut self) {
        assert_eq!(self.chunk(), b"");
    }

    /// Closes the sending direction.
    pub fn finish(&mut self) {
        self.reader.get_ref().tcp().shutdown(Shutdown::Write).unwrap();
    }
}

impl Client {
    /// Reads at most this many bytes, less if the connection ends.
    pub fn read_up_to(&mut self, count: usize) {
        let _ = (&mut self.reader).take(count as u64).read_to_end(&mut Vec::new());
    }
}

/// Fails on a timeout, which is not the end of a connection.
fn assert_in_time(error: &io::Error) {
    let is_late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    assert!(!is_late, "it takes too long: {error}");
}
