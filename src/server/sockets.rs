//! The listening sockets of one accept loop.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use socket2::Socket;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A client's connection, and its address if it has one.
type Accepted = (TcpStream, Option<SocketAddr>);

impl Listening {
    fn register(socket: Socket) -> io::Result<Self> {
        Ok(if socket.local_addr()?.is_unix() {
            Self::Unix(UnixListener::from_std(OwnedFd::from(socket).into())?)
        } else {
            Self::Tcp(TcpListener::from_std(socket.into())?)
        })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, from)| (stream, Some(from))),
            Self::Unix(listener) => listener.poll_accept(cx).map(|accepted| Ok((as_tcp(accepted?.0)?, None))),
        }
    }
}

/// A Unix stream as the type of all connections: both kinds have the same system calls for reading,
/// writing and closing.
fn as_tcp(stream: UnixStream) -> io::Result<TcpStream> {
    TcpStream::from_std(OwnedFd::from(stream.into_std()?).into())
}

/// The sockets of an accept loop. Usually one; a supervisor may have passed more than there are workers,
/// or fewer, and then a worker may have none.
#[derive(Debug)]
pub struct Sockets {
    sockets: Vec<Listening>,
    /// The socket that is asked first: each in turn, so that no busy socket hides another.
    first: AtomicUsize,
}

impl Sockets {
    /// Registers the sockets in this thread's runtime.
    ///
    /// # Errors
    /// Fails if one of them cannot be registered.
    pub fn register(sockets: Vec<Socket>) -> io::Result<Self> {
        let sockets = sockets.into_iter().map(Listening::register).collect::<io::Result<_>>()?;
        Ok(Self { sockets, first: AtomicUsize::new(0) })
    }

    /// Accepts a connection from any socket. Without a socket, waits for ever. Cancel-safe.
    pub async fn accept(&self) -> io::Result<Accepted> {
        poll_fn(|cx| {
            let (count, first) = (self.sockets.len(), self.first.load(Ordering::Relaxed));
            for at in 0..count {
                let at = (first + at) % count;
                if let Poll::Ready(accepted) = self.sockets[at].poll_accept(cx) {
                    self.first.store(at + 1, Ordering::Relaxed);
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Deals the sockets to `workers`, whatever their number: every socket has a worker that accepts
/// from it.
pub(super) fn deal<S>(sockets: Vec<S>, workers: usize) -> Vec<Vec<S>> {
    let mut hands: Vec<Vec<S>> = (0..workers).map(|_| Vec::new()).collect();
    for (at, socket) in sockets.into_iter().enumerate() {
        hands[at % workers].push(socket);
    }
    hands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> (Socket, SocketAddr) {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        (socket.into(), address)
    }

    #[test]
    fn every_socket_is_dealt_to_a_worker() {
        let dealt = |sockets: usize, workers| deal((0..sockets).collect(), workers);
        assert_eq!(dealt(2, 2), [vec![0], vec![1]]);
        assert_eq!(dealt(1, 3), [vec![0], vec![], vec![]]);
        assert_eq!(dealt(5, 2), [vec![0, 2, 4], vec![1, 3]]);
    }

    #[tokio::test]
    async fn several_sockets_are_accepted_from_in_turn() {
        let (sockets, addresses): (Vec<_>, Vec<_>) = (0..3).map(|_| bound()).unzip();
        let sockets = Sockets::register(sockets).unwrap();
        let mut clients = Vec::new();
        for address in addresses.iter().flat_map(|address| [*address; 4]) {
            clients.push(std::net::TcpStream::connect(address).unwrap());
        }
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(sockets.accept().await.unwrap().0.local_addr().unwrap());
        }
        for address in addresses {
            assert_eq!(seen.iter().filter(|found| **found == address).count(), 2, "{seen:?}");
        }
    }
}
