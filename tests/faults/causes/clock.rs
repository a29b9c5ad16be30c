//! Clocks that jump, by libfaketime. Timers are not affected: setting a clock changes only the time
//! of day.

use std::fs;
use std::path::PathBuf;

use super::Cause;
use crate::scene::{Launch, Scene};

pub struct Clock {
    /// The offset in libfaketime's notation.
    offset: &'static str,
    /// The program is restarted with the new time.
    restarts: bool,
}

impl Clock {
    pub fn ahead() -> Self {
        Self { offset: "+100d", restarts: false }
    }

    pub fn ahead_at_start() -> Self {
        Self { offset: "+100d", restarts: true }
    }

    pub fn back() -> Self {
        Self { offset: "-1d", restarts: false }
    }
}

impl Cause for Clock {
    fn prepare(&mut self, launch: &mut Launch) {
        let file = launch.folder.join("clock");
        fs::write(&file, "+0").unwrap();
        launch.environment.extend([
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]);
    }

    fn strike(&mut self, scene: &mut Scene) {
        fs::write(scene.path("clock"), self.offset).unwrap();
        if self.restarts {
            scene.restart();
        }
    }
}

/// The library of Debian's package `faketime`.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().filter_map(|folder| Some(folder.ok()?.path()));
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("faketime is not installed; tests/run installs it")
}
