//! Buffers lines for stderr.
//!
//! Our own instead of `tracing_appender::non_blocking`: that one bounds lines instead of bytes,
//! does not count the lines that stderr refuses, and its thread is not supervised.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::threads::{Threads, fault};

/// The largest number of bytes that wait for stderr, besides those that are being written. Some
/// 10,000 lines.
const CAPACITY: usize = 4 << 20;

/// The pause before another attempt if stderr is non-blocking and full.
const RETRY: Duration = Duration::from_millis(20);

/// The buffer of the process: there is one log, as there is one stderr.
static BUFFER: Buffer = Buffer::new();

#[derive(Debug)]
struct Buffer {
    waiting: Mutex<Waiting>,
    /// Signalled when there is a line to write.
    ready: Condvar,
    /// Signalled when all lines were written.
    done: Condvar,
    dropped: AtomicU64,
    /// The thread was started.
    is_written: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    lines: Lines,
    /// The thread is writing lines.
    is_writing: bool,
}

/// Bytes, with the end of each line.
#[derive(Debug)]
struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    const fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new() }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// The number of lines that are not complete in the first `written` bytes.
    fn beyond(&self, written: usize) -> usize {
        self.ends.len() - self.ends.partition_point(|&end| end <= written)
    }
}

/// The formatter's destination for one line. Never fails and never waits for stderr.
pub(super) struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BUFFER.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread that writes to stderr.
pub(super) fn spawn(threads: &Threads) -> io::Result<()> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let mut writer = Writer { out: stderr, lines: Lines::new(), written: 0, is_torn: false, said: 0 };
    threads.spawn("log-writer", move || writer.run(&BUFFER))?;
    BUFFER.is_written.store(true, Ordering::Relaxed);
    Ok(())
}

pub(super) fn is_written() -> bool {
    BUFFER.is_written.load(Ordering::Relaxed)
}

pub(super) fn flush(patience: Duration) -> bool {
    BUFFER.flush(patience)
}

pub(super) fn dropped() -> u64 {
    BUFFER.dropped.load(Ordering::Relaxed)
}

impl Buffer {
    const fn new() -> Self {
        let waiting = Waiting { lines: Lines::new(), is_writing: false };
        Self {
            waiting: Mutex::new(waiting),
            ready: Condvar::new(),
            done: Condvar::new(),
            dropped: AtomicU64::new(0),
            is_written: AtomicBool::new(false),
        }
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        let lines = &mut waiting.lines;
        if lines.bytes.len() + line.len() > CAPACITY {
            drop(waiting);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lines.bytes.extend_from_slice(line);
        lines.ends.push(lines.bytes.len());
        let is_first = lines.ends.len() == 1;
        drop(waiting);
        if is_first {
            self.ready.notify_one();
        }
    }

    /// Waits for lines, and replaces the finished ones in `taken` with them.
    fn take(&self, taken: &mut Lines) {
        taken.clear();
        let mut waiting = self.lock();
        waiting.is_writing = false;
        if waiting.lines.ends.is_empty() {
            self.done.notify_all();
        }
        let nothing = |waiting: &mut Waiting| waiting.lines.ends.is_empty();
        let mut waiting = self.ready.wait_while(waiting, nothing).unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut waiting.lines, taken);
        waiting.is_writing = true;
    }

    fn flush(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut waiting = self.lock();
        while waiting.is_writing || !waiting.lines.ends.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            waiting = self.done.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code under the lock can panic with half-changed lines.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of the thread. It survives a panic: the remaining lines are written next.
struct Writer<W> {
    out: W,
    lines: Lines,
    /// The bytes of `lines` that were written.
    written: usize,
    /// The last write stopped inside a line: the next one begins with a line break.
    is_torn: bool,
    /// The number of lost lines that the log has reported.
    said: u64,
}

impl<W: Write> Writer<W> {
    fn run(&mut self, buffer: &Buffer) -> ! {
        loop {
            self.write(buffer);
            buffer.take(&mut self.lines);
            self.written = 0;
            fault::strike("log-writer");
        }
    }

    /// Writes the lines. Refused ones are lost and counted.
    fn write(&mut self, buffer: &Buffer) {
        if self.lines.ends.is_empty() {
            return;
        }
        let result = self.write_all();
        let refused = self.lines.beyond(self.written);
        let is_line_end = self.written == 0 || self.lines.ends.binary_search(&self.written).is_ok();
        self.is_torn = (self.is_torn && self.written == 0) || !is_line_end;
        self.lines.clear();
        let dropped = refused as u64 + buffer.dropped.fetch_add(refused as u64, Ordering::Relaxed);
        if result.is_ok() && dropped > self.said {
            let lost = dropped - mem::replace(&mut self.said, dropped);
            tracing::warn!(lost, "lines of the log are lost: stderr could not be written, or was not read");
        }
    }

    fn write_all(&mut self) -> io::Result<()> {
        if self.is_torn {
            retry(|| self.out.write(b"\n"))?;
            self.is_torn = false;
        }
        while self.written < self.lines.bytes.len() {
            self.written += retry(|| self.out.write(&self.lines.bytes[self.written..]))?;
        }
        Ok(())
    }
}

/// Repeats an interrupted write, and one to a full descriptor that does not block.
fn retry(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that takes this many bytes, is full for one call, then takes everything.
    struct Disk {
        kept: Vec<u8>,
        room: usize,
        calls: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            let room = if self.calls <= 2 { self.room - self.kept.len().min(self.room) } else { usize::MAX };
            if room == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(room);
            self.kept.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer(room: usize) -> Writer<Disk> {
        let out = Disk { kept: Vec::new(), room, calls: 0 };
        Writer { out, lines: Lines::new(), written: 0, is_torn: false, said: 0 }
    }

    fn give(writer: &mut Writer<Disk>, buffer: &Buffer, lines: &[&str]) {
        lines.iter().for_each(|line| buffer.push(line.as_bytes()));
        buffer.take(&mut writer.lines);
        writer.written = 0;
        writer.write(buffer);
    }

    #[test]
    fn line_after_a_torn_one_begins_anew_and_lost_ones_are_counted() {
        let (buffer, mut writer) = (Buffer::new(), writer(6));
        give(&mut writer, &buffer, &["one\n", "two\n", "three\n"]);
        assert_eq!(buffer.dropped.load(Ordering::Relaxed), 2);
        give(&mut writer, &buffer, &["four\n"]);
        assert_eq!(String::from_utf8_lossy(&writer.out.kept), "one\ntw\nfour\n");
        assert_eq!(buffer.dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn buffer_without_room_drops_lines_and_counts_them() {
        let buffer = Buffer::new();
        let line = vec![b'x'; CAPACITY / 4];
        (0..6).for_each(|_| buffer.push(&line));
        assert_eq!(buffer.dropped.load(Ordering::Relaxed), 2);
        let mut taken = Lines::new();
        buffer.take(&mut taken);
        assert_eq!(taken.ends.len(), 4);
        buffer.push(&line);
        assert_eq!(buffer.dropped.load(Ordering::Relaxed), 2, "there is room again");
    }

    #[test]
    fn flush_gives_up_on_lines_that_nobody_writes() {
        let buffer = Buffer::new();
        assert!(buffer.flush(Duration::ZERO), "nothing waits");
        buffer.push(b"line\n");
        assert!(!buffer.flush(Duration::from_millis(5)));
        buffer.take(&mut Lines::new());
        assert!(!buffer.flush(Duration::from_millis(5)), "it is still in hand");
    }
}
