//! Explains the system's errors at a start, and what to change.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::port_owner::{Owner, owner};

/// Explains why `address`, the value of `key`, cannot be listened on.
pub(crate) fn address(key: &str, address: SocketAddr, error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => in_use(key, owner(address).as_ref()),
        io::ErrorKind::PermissionDenied if address.port() < 1024 => format!(
            "ports below 1024 need a permission (CAP_NET_BIND_SERVICE; in a systemd unit \
             AmbientCapabilities=CAP_NET_BIND_SERVICE): choose another port with {key}"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "{} is not an address of this machine: choose 127.0.0.1 for clients of this machine, 0.0.0.0 for all, or one that \
             the machine has",
            address.ip()
        ),
        _ if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
            "this system has no IPv6: choose an IPv4 address".to_owned()
        }
        _ => error.to_string(),
    };
    format!("{key}: cannot listen on {address}: {reason}")
}

fn in_use(key: &str, owner: Option<&Owner>) -> String {
    match owner {
        Some(Owner::This) => format!("another key of this configuration has the same port: change {key}"),
        Some(Owner::Process { id, name }) => {
            format!("the address is in use by {name} (process {id}): stop that, or change {key}")
        }
        Some(Owner::User(user)) => format!(
            "the address is in use by a process of the user with number {user}: stop that, or change {key}"
        ),
        None => format!("the address is in use: stop the program that has it, or change {key}"),
    }
}

/// Explains why a Unix socket at `path`, the value of `key`, cannot be listened on.
pub(crate) fn socket(key: &str, path: &Path, error: &io::Error) -> String {
    let folder = path.parent().unwrap_or(path).display();
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => format!("a process listens there: stop that, or change {key}"),
        io::ErrorKind::AlreadyExists => {
            "there is a file that is no socket, and it stays unchanged".to_owned()
        }
        io::ErrorKind::NotFound => format!("there is no folder {folder}: create it"),
        io::ErrorKind::PermissionDenied if fs::symlink_metadata(path).is_ok() => {
            format!(
                "there is a socket of another user, which this one may not replace: remove it, or change {key}"
            )
        }
        io::ErrorKind::PermissionDenied => format!("this user may not create a socket in {folder}"),
        _ => error.to_string(),
    };
    format!("{key}: cannot listen on {}: {reason}", path.display())
}

/// Explains why the file at `path`, the value of `key`, cannot be opened for appending.
pub(crate) fn file(key: &str, path: &Path, error: &io::Error) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let folder = folder.display();
    let reason = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no folder {folder}: create it"),
        io::ErrorKind::NotADirectory => format!("{folder} is not a folder"),
        io::ErrorKind::IsADirectory => "it is a folder: name a file in it".to_owned(),
        io::ErrorKind::PermissionDenied if fs::exists(path).unwrap_or(false) => {
            "this user may not write it".to_owned()
        }
        io::ErrorKind::PermissionDenied => format!("this user may not create a file in {folder}"),
        io::ErrorKind::ReadOnlyFilesystem => format!("{folder} is on a read-only file system"),
        _ => error.to_string(),
    };
    format!("{key}: cannot open {}: {reason}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_in_use_names_the_key_and_the_owner() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let error = std::net::TcpListener::bind(taken).unwrap_err();
        let text = address("server.listen", taken, &error);
        assert!(text.starts_with(&format!("server.listen: cannot listen on {taken}: another key")), "{text}");
        let text = in_use("--listen", Some(&Owner::Process { id: 7, name: "nginx".to_owned() }));
        assert_eq!(text, "the address is in use by nginx (process 7): stop that, or change --listen");
    }

    #[test]
    fn port_below_1024_and_unknown_address_say_what_to_choose() {
        let text =
            |kind: io::ErrorKind, value: &str| address("admin.listen", value.parse().unwrap(), &kind.into());
        let refused = text(io::ErrorKind::PermissionDenied, "127.0.0.1:80");
        assert!(refused.contains("CAP_NET_BIND_SERVICE"), "{refused}");
        let refused = text(io::ErrorKind::PermissionDenied, "127.0.0.1:8080");
        assert!(!refused.contains("CAP_NET_BIND_SERVICE"), "{refused}");
        let foreign = text(io::ErrorKind::AddrNotAvailable, "192.0.2.1:80");
        assert!(foreign.contains("192.0.2.1 is not an address of this machine"), "{foreign}");
    }

    #[test]
    fn socket_of_another_user_is_told_from_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let text = || socket("server.listen", &path, &io::ErrorKind::PermissionDenied.into());
        assert!(text().contains("may not create a socket in"), "{}", text());
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(text().contains("a socket of another user"), "{}", text());
    }

    #[test]
    fn file_that_cannot_be_opened_says_why() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for (name, reason) in
            [("gone/a", "there is no folder /"), ("", "it is a folder"), ("file/a", "is not a folder")]
        {
            let path = folder.path().join(name);
            let error = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap_err();
            let text = file("ledger.jsonl", &path, &error);
            assert!(text.starts_with("ledger.jsonl: cannot open /") && text.contains(reason), "{text}");
        }
    }
}
