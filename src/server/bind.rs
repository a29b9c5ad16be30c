//! Listening sockets: one per worker on one address, or one Unix socket.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

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
pub fn bind(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let first = socket(address)?;
    first.bind(&address.into())?;
    let bound = first.local_addr()?.as_socket().expect("bound to an internet address");
    if count > 1 {
        first.set_reuse_port(true)?;
    }
    first.listen(BACKLOG)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        let next = socket(bound)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        next.listen(BACKLOG)?;
        sockets.push(next);
    }
    Ok((bound, sockets))
}

/// The longest wait for another process that binds a socket in the same folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Binds a listening Unix socket at `path`, with the permissions `mode`. A socket that an earlier
/// process has left there is replaced. A lock on the folder keeps other processes of this program
/// from replacing a socket that does not listen yet.
///
/// # Errors
/// Fails with the system's error; with [`io::ErrorKind::AddrInUse`] if a process listens there, and
/// with [`io::ErrorKind::AlreadyExists`] if the file is no socket.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let _lock = lock_folder_of(path);
    remove_left(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address)?;
    // Until it listens, no client can connect with other permissions.
    let listening = set_socket_mode(path, mode).and_then(|()| socket.listen(BACKLOG));
    if let Err(error) = listening {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(socket)
}

/// Sets the permissions of a Unix socket.
///
/// # Errors
/// Fails with the system's error.
pub fn set_socket_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The lock, until it is dropped. `None`: this user may not read the folder, or another process
/// keeps it locked, which must not prevent a start.
fn lock_folder_of(path: &Path) -> Option<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder).ok()?;
    let until = Instant::now() + LOCK_PATIENCE;
    while let Err(error) = folder.try_lock() {
        if !matches!(error, TryLockError::WouldBlock) || Instant::now() >= until {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
    Some(folder)
}

/// Removes a socket on which no process listens.
fn remove_left(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue must not block the start.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
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
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bind_shares_one_address_among_workers_only() {
        let (address, sockets) = bind("127.0.0.1:0".parse().unwrap(), 4).unwrap();
        assert_eq!(sockets.len(), 4);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap().as_socket() == Some(address)));
        let second = bind(address, 4).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn unix_socket_replaces_one_that_was_left_and_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let socket = bind_unix(&path, 0o640).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(bind_unix(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        drop(bind_unix(&path, 0o600).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert_eq!(bind_unix(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn one_of_many_processes_replaces_a_socket_that_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        for _ in 0..50 {
            // A socket that is bound and does not listen looks as one that was left.
            drop(bind_unix(&path, 0o600).unwrap());
            let bound: Vec<_> = thread::scope(|scope| {
                let binding: Vec<_> = (0..4).map(|_| scope.spawn(|| bind_unix(&path, 0o600))).collect();
                binding.into_iter().map(|bound| bound.join().unwrap()).collect()
            });
            let (listening, refused): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
            assert_eq!((listening.len(), refused.len()), (1, 3));
            let mut kinds = refused.into_iter().map(|bound| bound.unwrap_err().kind());
            assert!(kinds.all(|kind| kind == io::ErrorKind::AddrInUse));
            UnixStream::connect(&path).expect("the socket at the path listens");
        }
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
                    assert!(stream.tcp_nodelay().unwrap());
                    accepted += 1;
                }
            }
        }
    }
}
