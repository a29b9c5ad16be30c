//! Listening sockets, one per worker, on one address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds for a worker that is busy.
const BACKLOG: i32 = 4096;

/// Binds `count` listening sockets to one address and returns them with that address.
///
/// Each worker has a socket of its own (`SO_REUSEPORT`), so that workers neither share an accept
/// queue nor wake each other. The first is bound without the option: a second process on the same
/// port gets the error it deserves instead of half of the connections.
///
/// # Errors
/// What the system says, such as that the address is in use.
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

/// Tries whether a listening socket could be bound to the address, without listening there.
///
/// # Errors
/// As for [`bind`].
pub fn may_bind(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the process before it.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_address_and_nobody_else_can_join() {
        let (address, sockets) = bind("127.0.0.1:0".parse().unwrap(), 4).unwrap();
        assert_eq!(sockets.len(), 4);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        let second = bind(address, 4).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    }
}
