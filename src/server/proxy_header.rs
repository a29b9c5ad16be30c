//! The header of the PROXY protocol at the start of a trusted proxy's connection, before TLS.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::conn_state::ConnState;
use super::connection::{WorkerContext, before_http};
use crate::codec::proxy_header::{MAX_PROXY_HEADER, Proxied, parse};
use crate::support::flow::Limit;

/// The time for which a worker logs no further fault.
const QUIET: Duration = Duration::from_secs(60);

/// The bytes that are looked at first. A header without TLVs is shorter.
const FIRST_LOOK: usize = 256;

/// The time of the latest fault that a worker has logged. A proxy that is configured wrongly has one
/// with each of its connections.
#[derive(Debug, Default)]
pub(super) struct HeaderFaults(Cell<Option<Instant>>);

impl HeaderFaults {
    fn take_news(&self, now: Instant) -> bool {
        let is_quiet = self.0.get().is_some_and(|logged| now.saturating_duration_since(logged) < QUIET);
        if !is_quiet {
            self.0.set(Some(now));
        }
        !is_quiet
    }
}

/// Reads the header and no byte behind it, and gives `state` the client's address. `None`: the
/// header is malformed, the proxy has left, or a command ended the connection. The header timeout
/// runs meanwhile.
pub(super) async fn take_header<H>(
    stream: TcpStream,
    state: &ConnState,
    context: &WorkerContext<H>,
) -> Option<TcpStream> {
    match before_http(pin!(read_header(&stream)), |_| Some(&stream), state).await? {
        Ok(Some(Proxied::Itself)) => {}
        Ok(Some(Proxied::Client(address))) => state.set_address(Some(address)),
        Ok(Some(Proxied::Unknown)) => state.set_address(None),
        // Load balancers check this way that the port is open.
        Ok(None) => return None,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            context.places.count(Limit::ProxyHeader);
            let proxy = state.address().map(|address| address.ip().to_canonical());
            let proxy = proxy.map(tracing::field::display);
            let message = "a connection from server.trusted_proxies began without a valid header of the PROXY protocol, \
                           and was closed: let this proxy send one, or set server.proxy_protocol = false";
            if context.header_faults.take_news(Instant::now()) {
                tracing::warn!(proxy, "{message}");
            } else {
                tracing::debug!(proxy, "{message}");
            }
            return None;
        }
        Err(error) => {
            tracing::debug!(%error, "client connection ended");
            return None;
        }
    }
    Some(stream)
}

/// `None`: the connection ended without a byte.
///
/// # Errors
/// Fails with [`io::ErrorKind::InvalidData`] for bytes that are not a header.
async fn read_header(stream: &TcpStream) -> io::Result<Option<Proxied>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    // The bytes that were taken from the socket, followed by those that were only looked at.
    let mut bytes = vec![0; FIRST_LOOK];
    let mut taken = 0;
    loop {
        let seen = taken + stream.peek(&mut bytes[taken..]).await?;
        if seen == taken {
            return if taken == 0 { Ok(None) } else { Err(invalid()) };
        }
        let parsed = parse(&bytes[..seen]).map_err(|_| invalid())?;
        // Bytes of an incomplete header are taken, since a further look would return at once.
        let end = parsed.map_or(seen, |(_, length)| length);
        while taken < end {
            match stream.try_read(&mut bytes[taken..end]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => taken += read,
                // Bytes that were seen are there.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
                Err(error) => return Err(error),
            }
        }
        match parsed {
            Some((client, _)) => return Ok(Some(client)),
            None if seen == bytes.len() => bytes.resize(MAX_PROXY_HEADER, 0),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        let client = client.unwrap();
        client.set_nodelay(true).unwrap();
        (client, accepted.unwrap().0)
    }

    /// A header of version 2 whose TLVs are larger than the first look.
    fn long_header() -> Vec<u8> {
        let length = 12 + 700_u16;
        let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11";
        let ports = [0xc7, 0x38, 0x01, 0xbb];
        [&start[..], &length.to_be_bytes(), &[192, 0, 2, 7, 10, 0, 0, 1], &ports, &[0; 700]].concat()
    }

    #[tokio::test]
    async fn header_is_read_in_any_pieces_and_no_byte_behind_it() {
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 443\r\n".to_vec();
        for header in [line, long_header()] {
            let bytes = [&header[..], b"GET"].concat();
            for split in [1, 12, 16, 40, 256, 257, bytes.len()].map(|at| at.min(bytes.len())) {
                let (mut client, mut server) = pair().await;
                let sending = async {
                    client.write_all(&bytes[..split]).await.unwrap();
                    tokio::task::yield_now().await;
                    client.write_all(&bytes[split..]).await.unwrap();
                };
                let (read, ()) = tokio::join!(read_header(&server), sending);
                let client_address = "192.0.2.7:51000".parse().unwrap();
                assert_eq!(read.unwrap(), Some(Proxied::Client(client_address)), "{split}");
                let mut rest = [0; 3];
                server.read_exact(&mut rest).await.unwrap();
                assert_eq!(&rest, b"GET", "{split}");
            }
        }
    }

    #[tokio::test]
    async fn connection_that_ends_early_is_told_from_a_silent_one() {
        for (sent, expected) in [(&b""[..], Ok(None)), (b"PROXY ", Err(io::ErrorKind::InvalidData))] {
            let (mut client, server) = pair().await;
            client.write_all(sent).await.unwrap();
            drop(client);
            assert_eq!(read_header(&server).await.map_err(|error| error.kind()), expected);
        }
    }

    #[test]
    fn fault_is_news_once_a_minute() {
        let (faults, now) = (HeaderFaults::default(), Instant::now());
        assert!(faults.take_news(now));
        assert!(!faults.take_news(now + QUIET / 2));
        assert!(faults.take_news(now + QUIET));
    }
}
