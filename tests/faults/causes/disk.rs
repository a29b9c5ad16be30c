//! A file system without room, in a mount namespace of the program's own.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use super::{Cause, in_namespace};
use crate::scene::{Launch, Scene};
use crate::sinks;

/// The ledger and the JSON lines are on it.
pub struct DiskFull;

impl DiskFull {
    /// The file system, as seen from outside of the namespace.
    fn place(scene: &Scene) -> PathBuf {
        let path = scene.path("disk");
        PathBuf::from(format!("/proc/{}/root{}", scene.child.id(), path.display()))
    }
}

impl Cause for DiskFull {
    fn prepare(&mut self, launch: &mut Launch) {
        let disk = launch.folder.join("disk");
        fs::create_dir(&disk).unwrap();
        launch.wrapper = in_namespace(&format!("mount -t tmpfs -o size=1m tmpfs {}", disk.display()));
        launch.ledger = "path = \"disk/usage.db\"\njsonl = \"disk/usage.jsonl\"".to_owned();
    }

    fn strike(&mut self, scene: &mut Scene) {
        let mut filler = File::create(Self::place(scene).join("filler")).unwrap();
        let error = loop {
            if let Err(error) = filler.write_all(&[0; 1024]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    fn lift(&mut self, scene: &mut Scene) {
        fs::remove_file(Self::place(scene).join("filler")).unwrap();
    }

    /// Of a copy: SQLite would look for the file in this namespace.
    fn rows(&self, scene: &Scene) -> Option<Vec<String>> {
        for name in ["usage.db-wal", "usage.db"] {
            fs::copy(Self::place(scene).join(name), scene.path(name)).ok();
        }
        let _ = fs::remove_file(scene.path("usage.db-shm"));
        Some(sinks::rows(&scene.path("usage.db")))
    }
}
