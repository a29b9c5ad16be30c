//! Finds obstacles to a start on this machine without starting: directories, files and ports.
//!
//! The check creates nothing and listens nowhere. It cannot foresee what another program changes
//! until the start.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{Access, access};

use super::advice;
use super::port_owner::{self, Owner};
use crate::config::{JsonlTarget, Loaded};
use crate::server;
use crate::sinks::ledger;
use crate::support::ListenAddress;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The start would fail, with this message.
    Fatal(String),
    /// The start would fail unless the program in the message ends first, as in a restart.
    Replaced(String),
}

/// The obstacles in the order of a start. Each message begins with the place of its key.
pub(crate) fn obstacles(loaded: &Loaded) -> Vec<Obstacle> {
    let settings = &loaded.settings;
    let listen = [
        Some(("server.listen", &settings.server.listen)),
        settings.admin.listen.as_ref().map(|at| ("admin.listen", at)),
    ];
    let ports = listen.into_iter().flatten().filter_map(|(key, at)| match at {
        ListenAddress::Inet(address) => port(loaded.place(key), *address),
        ListenAddress::Unix(path) => socket(loaded.place(key), path).map(Obstacle::Fatal),
    });
    let jsonl = match &settings.ledger.jsonl {
        Some(JsonlTarget::File(path)) => appended(loaded.place("ledger.jsonl"), path),
        Some(JsonlTarget::Stdout) | None => None,
    };
    let ledger = settings.ledger.path.as_deref().and_then(|path| {
        let place = loaded.place("ledger.path");
        let foreign = || ledger::refusal(path).map(|error| format!("{place}: {error}"));
        appended(place, path).or_else(foreign)
    });
    ports.chain(ledger.into_iter().chain(jsonl).map(Obstacle::Fatal)).collect()
}

fn port(key: &str, address: SocketAddr) -> Option<Obstacle> {
    let error = server::may_bind(address).err()?;
    let message = advice::address(key, address, &error);
    let is_ours = error.kind() == io::ErrorKind::AddrInUse
        && matches!(port_owner::owner(address), Some(Owner::Process { name, .. }) if name == OUR_NAME);
    Some(if is_ours { Obstacle::Replaced(message) } else { Obstacle::Fatal(message) })
}

/// The reason for which a Unix socket could not be created.
fn socket(key: &str, path: &Path) -> Option<String> {
    let folder = path.parent().unwrap_or(path);
    let error = access(folder, Access::WRITE_OK | Access::EXEC_OK).err().map(io::Error::from);
    let error = error.or_else(|| {
        let found = fs::symlink_metadata(path).ok()?;
        (!found.file_type().is_socket()).then(|| io::ErrorKind::AlreadyExists.into())
    });
    error.map(|error| advice::socket(key, path, &error))
}

/// The system's name of a process of this program.
const OUR_NAME: &str = env!("CARGO_PKG_NAME");

/// The reason for which a file at the path could not be appended to.
fn appended(key: &str, path: &Path) -> Option<String> {
    let error = match fs::metadata(path) {
        // A FIFO without a reader would block here; other special files have rules of their own.
        Ok(found) if found.is_file() => OpenOptions::new().append(true).open(path).err(),
        Ok(found) if found.is_dir() => Some(io::ErrorKind::IsADirectory.into()),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            access(folder, Access::WRITE_OK | Access::EXEC_OK).err().map(io::Error::from)
        }
        Err(error) => Some(error),
    };
    error.map(|error| advice::file(key, path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_that_is_missing_is_named_and_nothing_is_created() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for (name, reason) in
            [("gone/a", "there is no folder /"), ("", "it is a folder"), ("file/a", "is not a folder")]
        {
            let found = appended("ledger.path", &folder.path().join(name)).unwrap();
            assert!(found.starts_with("ledger.path: cannot open /") && found.contains(reason), "{found}");
        }
        for name in ["new", "file"] {
            assert_eq!(appended("ledger.path", &folder.path().join(name)), None);
        }
        assert!(!folder.path().join("new").exists());
    }

    #[test]
    fn port_that_is_taken_is_named_with_its_owner() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let Some(Obstacle::Fatal(found)) = port("admin.listen", address) else { panic!("it is taken") };
        assert!(found.starts_with(&format!("admin.listen: cannot listen on {address}: ")), "{found}");
        drop(taken);
        assert_eq!(port("admin.listen", address), None);
    }
}
