//! Listening sockets, one per worker, on one address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel queues for a busy worker.
const BACKLOG: i32 = 4096;

/// Binds `count` listening sockets to one address and returns them with that address.
///
/// Each worker has its own socket (`SO_REUSEPORT`), so that workers neither share an accept queue
/// nor wake each other. The first is bound without the option, so that a second process on the same
/// port gets an error instead of half of the connections.
///
/// # Errors
/// Fails with the system's error, such as an address in use.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = socket(address)?;
    first.bind(&address.into())?;
    let bound = first.local_addr()?.as_socket().expect("bound to an internet address");
    if count > 1 {
        first.set_reuse_port(true)?;
    }
    first.listen(BACKLOG)?;
    let mut sockets = vec![first.into()];
    for _ in 1..count {
        let next = socket(bound)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        next.listen(BACKLOG)?;
        sockets.push(next.into());
    }
    Ok((bound, sockets))
}

/// Tests whether a listening socket can be bound to the address, without listening.
///
/// # Errors
/// Fails like [`bind`].
pub fn may_bind(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart does not wait for connections of the previous process (TIME_WAIT).
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted connections inherit it: a system call less for each. Without it the last event of a
    // burst waits for the client's ACK, 40 ms on many systems.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn bind_shares_one_address_among_workers_only() {
        let (address, sockets) = bind("127.0.0.1:0".parse().unwrap(), 4).unwrap();
        assert_eq!(sockets.len(), 4);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        let second = bind(address, 4).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn accepted_connection_inherits_nodelay() {
        let (address, sockets) = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        // The kernel chooses the socket.
        let clients: Vec<_> = (0..32).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut accepted = 0;
        while accepted < clients.len() {
            for socket in &sockets {
                while let Ok((stream, _)) = socket.accept() {
                    assert!(stream.nodelay().unwrap());
                    accepted += 1;
                }
            }
        }
    }
}
