//! Writes records as JSON lines, to a file or to stdout.

mod file;
mod switch;

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::Path;

use file::LineFile;
pub use switch::{LineTarget, Switch, SwitchedLines};

use crate::record::{Batch, Sink, Turn, UsageRecord};

/// Writes one JSON object per record and line.
#[derive(Debug)]
pub struct Jsonl<L> {
    name: String,
    out: L,
    /// The lines of one batch. The buffer is reused.
    lines: Vec<u8>,
}

/// A destination for whole lines.
pub trait LineWriter {
    /// Appends the lines of a batch. After an error the next batch begins on a new line.
    ///
    /// # Errors
    /// Fails if some or all of the lines were not written.
    fn append(&mut self, lines: &[u8]) -> Result<(), Unwritten>;
}

/// The error of a batch that was not written completely.
#[derive(Debug)]
pub struct Unwritten {
    /// The bytes of the whole lines that were written.
    whole: usize,
    error: io::Error,
}

impl Unwritten {
    /// The error after this many bytes of `lines`.
    fn after(written: usize, lines: &[u8], error: io::Error) -> Self {
        let whole = memchr::memrchr(b'\n', &lines[..written]).map_or(0, |last| last + 1);
        Self { whole, error }
    }
}

impl From<io::Error> for Unwritten {
    /// The error if nothing was written.
    fn from(error: io::Error) -> Self {
        Self { whole: 0, error }
    }
}

impl Jsonl<LineFile> {
    /// Appends to the file at `path`, and creates it if it does not exist. A FIFO without a reader
    /// is not an error: its records are lost until it has one.
    ///
    /// # Errors
    /// Fails if the file cannot be opened for appending, or holds other data.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !holds_lines(path)? {
            return Err(io::Error::other(
                "is a file of another kind, and stays unchanged: name a file of JSON lines, or one that does not exist yet",
            ));
        }
        let file = LineFile::open(path)?;
        Ok(Self { name: path.display().to_string(), out: file, lines: Vec::new() })
    }
}

/// Returns true if records may be appended to the file at `path`: a ledger, a secret or a
/// configuration does not begin like JSON lines. Pipes and devices accept any data.
fn holds_lines(path: &Path) -> io::Result<bool> {
    if !fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0) {
        return Ok(true);
    }
    let mut first = [0];
    match File::open(path).and_then(|mut file| file.read_exact(&mut first)) {
        // A file may be writable but not readable.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        Err(error) => Err(error),
        Ok(()) => Ok(matches!(first, [b'{' | b'\n'])),
    }
}

impl<W: Write> Jsonl<LineStream<W>> {
    /// Writes to `out`; messages call it `name`.
    pub fn new(name: String, out: W) -> Self {
        Self { name, out: LineStream { out, is_torn: false }, lines: Vec::new() }
    }
}

impl<L: LineWriter + Send> Sink for Jsonl<L> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn label(&self) -> &'static str {
        "jsonl"
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        self.append(batch).map_err(|(_, error)| error)
    }

    fn write_batches(&mut self, batches: &[Batch], turn: &mut Turn<'_>) {
        for batch in batches {
            match self.append(batch) {
                Ok(()) => {
                    turn.record_written(batch.len());
                    turn.note_success(&self.name);
                }
                Err((written, error)) => {
                    turn.record_written(written);
                    turn.record_lost(batch.len() - written);
                    turn.note_failure(&self.name, &error);
                }
            }
        }
    }
}

impl<L: LineWriter> Jsonl<L> {
    /// Writes a batch. An error has the number of records that were written before it.
    fn append(&mut self, batch: &[UsageRecord]) -> Result<(), (usize, io::Error)> {
        self.lines.clear();
        for row in batch {
            serde_json::to_writer(&mut self.lines, row).map_err(|error| (0, error.into()))?;
            self.lines.push(b'\n');
        }
        self.out.append(&self.lines).map_err(|Unwritten { whole, error }| {
            (memchr::memchr_iter(b'\n', &self.lines[..whole]).count(), error)
        })
    }
}

/// Lines on any stream.
#[derive(Debug)]
pub struct LineStream<W> {
    out: W,
    /// The last write stopped inside a line.
    is_torn: bool,
}

impl<W: Write> LineWriter for LineStream<W> {
    fn append(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        if self.is_torn {
            self.out.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut written = 0;
        while written < lines.len() {
            let error = match self.out.write(&lines[written..]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(more) => {
                    written += more;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let mut unwritten = Unwritten::after(written, lines, error);
            self.is_torn = unwritten.whole < written;
            // A line that lacks only its line break is a complete record. The next write begins
            // with the line break.
            if self.is_torn && lines[written] == b'\n' {
                unwritten.whole = written + 1;
            }
            return Err(unwritten);
        }
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Entry, Journal, Outcome};

    fn rows(count: usize) -> Vec<UsageRecord> {
        let journal = Journal::new(16);
        for _ in 0..count {
            let mut entry = Entry::open(&journal, &"anonymous".into());
            entry.row().usage.output_tokens = Some(0);
            entry.close(Outcome::Complete);
        }
        journal.take()
    }

    #[test]
    fn a_record_is_one_line_with_nulls_for_what_is_not_known() {
        let mut sink = Jsonl::new("memory".to_owned(), Vec::new());
        sink.write(&rows(2)).unwrap();
        let text = String::from_utf8(sink.out.out).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["output_tokens"], 0);
        assert!(lines[0]["input_tokens"].is_null() && lines[0].get("input_tokens").is_some());
        assert!(lines[0]["started_at"].as_str().unwrap().ends_with('Z'), "{}", lines[0]["started_at"]);
        assert_eq!(lines[0]["usage_source"], "none");
    }

    /// A disk that takes `room` bytes, then is full once, then works again.
    #[derive(Default)]
    struct Disk {
        room: usize,
        kept: Vec<u8>,
        calls: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls {
                1 => {
                    self.kept.extend_from_slice(&bytes[..self.room]);
                    Ok(self.room)
                }
                2 => Err(io::ErrorKind::StorageFull.into()),
                _ => {
                    self.kept.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_torn_line_the_next_batch_is_whole() {
        let mut sink = Jsonl::new("disk".to_owned(), Disk { room: 10, ..Disk::default() });
        assert!(sink.write(&rows(1)).is_err());
        sink.write(&rows(1)).unwrap();
        let text = String::from_utf8(sink.out.out.kept).unwrap();
        assert_eq!(records_in(&text), 1, "{text}");
    }

    fn records_in(text: &str) -> usize {
        text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count()
    }

    #[test]
    fn torn_batch_loses_only_the_records_that_are_not_there() {
        let batch = rows(3);
        let mut whole = Jsonl::new("memory".to_owned(), Vec::new());
        whole.write(&batch).unwrap();
        let whole = whole.out.out;
        for room in 1..whole.len() {
            let mut sink = Jsonl::new("disk".to_owned(), Disk { room, ..Disk::default() });
            let (written, _) = sink.append(&batch).unwrap_err();
            sink.write(&batch[..1]).unwrap();
            let text = String::from_utf8(sink.out.out.kept).unwrap();
            assert_eq!(records_in(&text), written + 1, "{room} bytes: {text}");
        }
    }
}
