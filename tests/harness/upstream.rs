//! An upstream that executes a test's script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::PATIENCE;

/// A listening upstream; its threads end with their connections.
pub struct Upstream {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

/// Serves each connection with `script`, on a thread of its own, until the script returns.
pub fn upstream(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Upstream {
    upstream_on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
}

/// Does the same as [`upstream`] on a listener of the test's own.
pub fn upstream_on(
    listener: TcpListener,
    script: impl Fn(&mut Connection) + Send + Sync + 'static,
) -> Upstream {
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let (script, count) = (Arc::new(script), Arc::clone(&accepted));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let number = count.fetch_add(1, Ordering::SeqCst);
            let script = Arc::clone(&script);
            thread::spawn(move || script(&mut Connection::new(stream, number)));
        }
    });
    Upstream { address, accepted }
}

impl Upstream {
    /// An upstream with the same response to every request.
    pub fn responding(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        upstream(move |connection| {
            while connection.request().is_some() {
                connection.send(&response);
            }
        })
    }

    /// The number of accepted connections.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// One connection of an upstream.
pub struct Connection {
    reader: BufReader<TcpStream>,
    /// 0 for the first connection.
    pub number: usize,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// The bytes from the request line to the blank line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    /// The value of the first header with that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

impl Connection {
    /// A connection to a server, for a special client.
    pub fn to(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap(), 0)
    }

    /// The next connection to a listener.
    pub fn accept(listener: &TcpListener) -> Self {
        Self::new(listener.accept().unwrap().0, 0)
    }

    fn new(stream: TcpStream, number: usize) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream), number }
    }

    /// The next request, with its body. `None` when the proxy closes the connection.
    pub fn request(&mut self) -> Option<Request> {
        let head = self.head()?;
        let body = read_body(&mut self.reader, &head, false)?;
        Some(Request { head, body })
    }

    /// The next request's head alone.
    pub fn head(&mut self) -> Option<String> {
        read_head(&mut self.reader)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The proxy may have closed the connection; the test's assertion will tell.
        let _ = self.reader.get_mut().write_all(bytes.as_ref());
    }

    /// Reads this many bytes.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads this many bytes. `None` if the proxy closes the connection first.
    pub fn try_read(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Ends reading after this silence, as at the end of the connection.
    pub fn read_within(&self, silence: std::time::Duration) {
        self.reader.get_ref().set_read_timeout(Some(silence)).unwrap();
    }

    /// Waits until the proxy has closed the connection.
    pub fn wait_for_close(&mut self) {
        let mut sink = [0; 1024];
        while matches!(self.reader.read(&mut sink), Ok(count) if count > 0) {}
    }
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A head up to its blank line. `None` at the end of the connection.
pub fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let start = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if &head[start..] == "\r\n" {
            return Some(head);
        }
    }
}

/// A body by the framing in its head. `None` if it is truncated.
pub fn read_body(reader: &mut impl BufRead, head: &str, until_close: bool) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if header(head, "transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
            let from = body.len();
            body.resize(from + size, 0);
            reader.read_exact(&mut body[from..]).ok()?;
            let mut end = String::new();
            while size == 0 && end != "\r\n" {
                end.clear();
                reader.read_line(&mut end).ok().filter(|&count| count > 0)?;
            }
            if size == 0 {
                return Some(body);
            }
            reader.read_line(&mut end).ok().filter(|_| end == "\r\n")?;
        }
    } else if let Some(length) = header(head, "content-length") {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if until_close {
        reader.read_to_end(&mut body).ok()?;
    }
    Some(body)
}

impl Connection {
    /// The time that a write may wait for the proxy before [`Connection::try_send`] fails.
    pub fn block_after(&self, patience: std::time::Duration) {
        self.reader.get_ref().set_write_timeout(Some(patience)).unwrap();
    }

    /// Sends. Returns false if the proxy does not accept the bytes.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.reader.get_mut().write_all(bytes).is_ok()
    }
}
