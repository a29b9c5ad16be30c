//! Outputs that cannot be written: pipes whose reader has closed or does not read, and a full
//! device.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, PipeReader, Read as _, Write as _, pipe};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::Cause;
use crate::harness::{PATIENCE, until};
use crate::scene::{Launch, Scene};

/// `O_NONBLOCK` of Linux on the machines that run this test.
const NONBLOCK: i32 = 0o4000;

/// The last bytes in a FIFO, which keeps the order. They are not a record.
const LAST: &[u8] = b"the end\n";

#[derive(Default)]
pub struct StderrClosed(Option<PipeReader>);

impl Cause for StderrClosed {
    fn prepare(&mut self, launch: &mut Launch) {
        let (reader, writer) = pipe().unwrap();
        launch.stderr = writer.into();
        self.0 = Some(reader);
    }

    fn strike(&mut self, _: &mut Scene) {
        self.0 = None;
    }
}

pub struct StderrFull;

impl Cause for StderrFull {
    fn prepare(&mut self, launch: &mut Launch) {
        launch.stderr = OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    }
}

#[derive(Default)]
pub struct StderrUnread(Option<PipeReader>);

impl Cause for StderrUnread {
    fn prepare(&mut self, launch: &mut Launch) {
        let (reader, writer) = full_pipe();
        launch.stderr = writer;
        self.0 = Some(reader);
    }
}

/// `jsonl = "-"`.
#[derive(Default)]
pub struct StdoutUnread {
    reader: Option<PipeReader>,
    collected: Arc<Mutex<Vec<u8>>>,
    collector: Option<JoinHandle<()>>,
}

impl Cause for StdoutUnread {
    fn prepare(&mut self, launch: &mut Launch) {
        let (reader, writer) = full_pipe();
        launch.stdout = writer;
        launch.ledger = "path = \"usage.db\"\njsonl = \"-\"".to_owned();
        launch.collected = Some(Arc::clone(&self.collected));
        self.reader = Some(reader);
    }

    fn lift(&mut self, _: &mut Scene) {
        if let Some(reader) = self.reader.take() {
            self.collector = Some(collect(File::from(OwnedFd::from(reader)), &self.collected));
        }
    }

    fn finish_reading(&mut self) {
        // The end of the program closes the pipe.
        if let Some(collector) = self.collector.take() {
            collector.join().unwrap();
        }
    }
}

#[derive(Default)]
pub struct FifoStuck {
    path: PathBuf,
    reader: Option<File>,
    collected: Arc<Mutex<Vec<u8>>>,
}

impl Cause for FifoStuck {
    fn prepare(&mut self, launch: &mut Launch) {
        let path = launch.folder.join("usage.fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Opened for both, so that it waits for no writer; read only after [`Self::lift`].
        let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        fill(&path);
        launch.ledger = "path = \"usage.db\"\njsonl = \"usage.fifo\"".to_owned();
        launch.collected = Some(Arc::clone(&self.collected));
        self.reader = Some(reader);
        self.path = path;
    }

    fn lift(&mut self, _: &mut Scene) {
        if let Some(reader) = self.reader.take() {
            collect(reader, &self.collected);
        }
    }

    fn finish_reading(&mut self) {
        OpenOptions::new().write(true).open(&self.path).unwrap().write_all(LAST).unwrap();
        until(PATIENCE, "the last line", || self.collected.lock().unwrap().ends_with(LAST).then_some(()));
    }
}

/// A full pipe.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, writer) = pipe().unwrap();
    fill(&PathBuf::from(format!("/proc/self/fd/{}", writer.as_fd().as_raw_fd())));
    (reader, writer.into())
}

/// Fills a pipe with line breaks.
fn fill(path: &Path) {
    let mut pipe = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(path).unwrap();
    // The last bytes one by one, so that there is no room for a short line.
    for size in [4096, 1] {
        let error = loop {
            if let Err(error) = pipe.write_all(&vec![b'\n'; size]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

/// Reads from now on, to the end.
fn collect(mut reader: File, collected: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let collected = Arc::clone(collected);
    thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut part) {
            collected.lock().unwrap().extend(&part[..count]);
        }
    })
}
