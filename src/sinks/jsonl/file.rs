//! The file of JSON lines: follows its path, and keeps only whole lines.
//!
//! * Before each batch the path's device and inode are compared with those of the open file. If
//!   they differ, the path is reopened, so that a renamed or deleted file gets a successor without
//!   a signal.
//! * A partial line, which a full disk leaves at the end of a batch, is removed from a regular
//!   file. A pipe gets pieces of whole lines that the system writes atomically (POSIX, `PIPE_BUF`).
//! * No call waits for long. A FIFO is opened and written without blocking. Without a reader its
//!   records are lost, which is logged, and the next batch tries again.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PIPE_BUF;

use super::{LineWriter, Unwritten};
use crate::support::OutageNotice;

/// The time that a batch may wait for the reader of a full pipe. After that no batch waits until
/// one is written.
const PIPE_PATIENCE: Duration = Duration::from_secs(1);

/// The file at a path.
#[derive(Debug)]
pub struct LineFile(Arc<Shared>);

/// Opens the file again on request.
#[derive(Clone, Debug)]
pub(super) struct Reopener(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// The next check of the path reopens it, even if it has not changed.
    is_asked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: a FIFO without a reader, or a deleted file whose path cannot be opened.
    open: Option<Open>,
    /// The last write stopped inside a line, and the partial line is still in the file.
    is_torn: bool,
    /// The reader of a pipe has not read for [`PIPE_PATIENCE`].
    is_stuck: bool,
    /// The path cannot be opened.
    outage: OutageNotice,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    kind: Kind,
}

/// The permissions of a new file: records reveal the use of each client. An existing file keeps its
/// own.
const PRIVATE: u32 = 0o600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Regular,
    Fifo,
    /// Anything else, such as a terminal or `/dev/null`.
    Other,
}

impl LineFile {
    /// Appends to the file at `path`, and creates it if it does not exist. A FIFO without a reader
    /// is not an error.
    ///
    /// # Errors
    /// Fails if the file cannot be opened for appending.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let outage = OutageNotice::default();
        let mut state = State { open: None, is_torn: false, is_stuck: false, outage };
        match Open::at(path) {
            Ok((open, is_torn)) => (state.open, state.is_torn) = (Some(open), is_torn),
            Err(error) if is_unread_fifo(path, &error) => {
                tracing::warn!(
                    path = %path.display(),
                    "this FIFO has no reader: its usage records are lost until a reader opens it"
                );
                state.outage.record_failure(());
            }
            Err(error) => return Err(error),
        }
        let (path, is_asked) = (path.to_owned(), AtomicBool::new(false));
        Ok(Self(Arc::new(Shared { path, is_asked, state: Mutex::new(state) })))
    }

    /// The handle for the signal handler.
    pub(super) fn reopener(&self) -> Reopener {
        Reopener(Arc::clone(&self.0))
    }
}

impl LineWriter for LineFile {
    fn append(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let mut state = self.0.lock();
        state.follow(&self.0)?;
        state.append(lines)
    }
}

impl Reopener {
    /// Reopens the path now, or before the next batch if one is being written. Never waits for a
    /// write.
    pub(super) fn reopen(&self) {
        self.0.is_asked.store(true, Ordering::Relaxed);
        if let Ok(mut state) = self.0.state.try_lock()
            && let Err(error) = state.follow(&self.0)
        {
            tracing::warn!(path = %self.0.path.display(), %error, "the JSON-lines file cannot be opened again");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock can panic with a half-changed state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reopens the path if it no longer leads to the open file, or on request.
    ///
    /// If a file was renamed and its path cannot be opened, writing continues in the renamed file,
    /// so that no record is lost.
    fn follow(&mut self, shared: &Shared) -> io::Result<()> {
        let path = &shared.path;
        let is_asked = shared.is_asked.swap(false, Ordering::Relaxed);
        let present = fs::metadata(path).ok().as_ref().map(identity);
        if !is_asked && self.open.as_ref().is_some_and(|open| Some(open.identity) == present) {
            self.outage.record_success();
            return Ok(());
        }
        match Open::at(path) {
            Ok((open, is_torn)) => {
                (self.open, self.is_torn) = (Some(open), is_torn);
                self.is_stuck = false;
                self.outage.record_success();
                tracing::info!(path = %path.display(), "the JSON-lines file was opened again");
                Ok(())
            }
            Err(error) if self.open.as_ref().is_some_and(Open::has_name) => {
                if self.outage.record_failure(()) || is_asked {
                    tracing::warn!(
                        path = %path.display(), %error,
                        "the JSON-lines file cannot be opened again; records are still written into the renamed one"
                    );
                }
                Ok(())
            }
            Err(error) => {
                self.open = None;
                Err(if is_unread_fifo(path, &error) { unread() } else { error })
            }
        }
    }

    /// Appends whole lines to the open file.
    fn append(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let Some(open) = &mut self.open else { return Err(unread().into()) };
        if self.is_torn {
            open.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        let patience = if self.is_stuck { Duration::ZERO } else { PIPE_PATIENCE };
        let Err(Torn { written, start, error }) = open.write(lines, patience) else {
            self.is_stuck = false;
            return Ok(());
        };
        let is_gone = error.kind() == io::ErrorKind::BrokenPipe;
        let unwritten = Unwritten::after(written, lines, if is_gone { unread() } else { error });
        let half = written - unwritten.whole;
        self.is_torn = half > 0 && !start.is_some_and(|start| open.cut_back(start + written as u64, half));
        self.is_stuck = unwritten.error.kind() == io::ErrorKind::TimedOut;
        if is_gone {
            self.open = None;
        }
        Err(unwritten)
    }
}

/// The result of an incomplete write.
struct Torn {
    /// Bytes written.
    written: usize,
    /// The offset of these bytes in a regular file.
    start: Option<u64>,
    error: io::Error,
}

impl Open {
    /// Opens the path. Also returns true if the file ends inside a line.
    fn at(path: &Path) -> io::Result<(Self, bool)> {
        let mut options = OpenOptions::new();
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let file = options.create(true).append(true).mode(PRIVATE).custom_flags(nonblocking).open(path)?;
        let metadata = file.metadata()?;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::Regular,
            kind if kind.is_fifo() => Kind::Fifo,
            _ => Kind::Other,
        };
        let is_torn = kind == Kind::Regular && ends_inside_line(path, metadata.len());
        Ok((Self { file, identity: identity(&metadata), kind }, is_torn))
    }

    /// Returns true if the file still has a name in a directory.
    fn has_name(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
    }

    fn write(&mut self, lines: &[u8], patience: Duration) -> Result<(), Torn> {
        let (mut written, mut start) = (0, None);
        let until = Instant::now() + patience;
        while written < lines.len() {
            let rest = &lines[written..];
            let piece = if self.kind == Kind::Fifo { piece(rest) } else { rest };
            let error = match self.file.write(piece) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(count) => {
                    if written == 0 && self.kind == Kind::Regular {
                        let end = self.file.stream_position().ok();
                        start = end.and_then(|end| end.checked_sub(count as u64));
                    }
                    written += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match wait(&self.file, until.saturating_duration_since(Instant::now())) {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            return Err(Torn { written, start, error });
        }
        Ok(())
    }

    /// Removes the last `bytes` of a file that must end at `end`. Returns false without a change if
    /// another process has appended.
    fn cut_back(&mut self, end: u64, bytes: usize) -> bool {
        self.file.stream_position().is_ok_and(|position| position == end)
            && self.file.metadata().is_ok_and(|metadata| metadata.len() == end)
            && self.file.set_len(end - bytes as u64).is_ok()
    }
}

/// Waits until a pipe has room for a piece, or its reader has left.
fn wait(file: &File, patience: Duration) -> io::Result<()> {
    let patience =
        Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
    match poll(&mut [PollFd::new(file, PollFlags::OUT)], Some(&patience)) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, "its reader does not read")),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The whole lines that the system writes atomically into a pipe, or one longer line.
fn piece(lines: &[u8]) -> &[u8] {
    let fits = &lines[..lines.len().min(PIPE_BUF)];
    let end = memchr::memrchr(b'\n', fits).or_else(|| memchr::memchr(b'\n', lines));
    end.map_or(lines, |end| &lines[..=end])
}

/// Returns true if a file of this length lacks its last line break, for example after a crash
/// during a write.
fn ends_inside_line(path: &Path, length: u64) -> bool {
    let Some(last) = length.checked_sub(1) else { return false };
    let mut byte = [0];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut byte, last));
    read.is_ok() && byte != *b"\n"
}

/// Returns true for `ENXIO` on opening for writing: a FIFO has no reader (open(2)).
fn is_unread_fifo(path: &Path, error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
        && fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

fn unread() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the FIFO has no reader")
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests;
