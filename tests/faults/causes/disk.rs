//! A full file system, in a mount namespace of the program's own.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use super::{Cause, in_namespace};
use crate::harness::{PATIENCE, until};
use crate::scene::{Launch, Scene};
use crate::sinks::{self, Sink};

/// The ledger and the JSON lines are on it.
#[derive(Default)]
pub struct DiskFull {
    /// The file system's directory, which outlives the program's namespace.
    disk: Option<File>,
}

impl DiskFull {
    /// A file on it, as seen from outside of the namespace.
    fn place(&self, name: &str) -> PathBuf {
        let disk = self.disk.as_ref().expect("it was struck");
        PathBuf::from(format!("/proc/self/fd/{}/{name}", disk.as_raw_fd()))
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
        let disk = format!("/proc/{}/root{}", scene.child.id(), scene.path("disk").display());
        self.disk = Some(File::open(disk).unwrap());
        let mut filler = File::create(self.place("filler")).unwrap();
        let error = loop {
            if let Err(error) = filler.write_all(&[0; 1024]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        // The ledger's log has preallocated room, which a few commits use up.
        until(PATIENCE, "a full ledger", || {
            scene.request(1);
            scene.log().contains("can wait until this ends").then_some(())
        });
    }

    fn lift(&mut self, _: &mut Scene) {
        // The fault may have been removed before.
        let _ = fs::remove_file(self.place("filler"));
    }

    fn ids(&self, scene: &Scene, sink: Sink) -> Option<Vec<String>> {
        if sink == Sink::Jsonl {
            return Some(sinks::lines_of(&self.place("usage.jsonl")));
        }
        // Reads a copy: SQLite would look for the file in this namespace.
        for name in ["usage.db-wal", "usage.db", "usage.db-shm"] {
            let _ = fs::remove_file(scene.path(name));
        }
        for name in ["usage.db-wal", "usage.db"] {
            fs::copy(self.place(name), scene.path(name)).ok();
        }
        let spilled = sinks::lines_of(&self.place("usage.db.spill"));
        Some([sinks::rows(&scene.path("usage.db")), spilled].concat())
    }
}
