//! Records as JSON lines, in a file or on stdout.

mod file;

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::Path;

use file::LineFile;
pub use file::Reopener;

use super::{Sink, UsageRecord};

/// One JSON object per record and line.
#[derive(Debug)]
pub struct Jsonl<L> {
    name: String,
    out: L,
    /// The lines of one batch; its capacity is kept.
    lines: Vec<u8>,
}

/// Takes whole lines.
pub trait Lines {
    /// Appends the lines of a batch. After an error the next batch begins on a line of its own.
    ///
    /// # Errors
    /// Some of the lines were not written, or all.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;
}

impl Jsonl<LineFile> {
    /// Appends to the file at `path`, which is created if it is not there. A FIFO without a reader is no error: its records are
    /// lost until there is one.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or holds something else.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !holds_lines(path)? {
            return Err(io::Error::other(
                "is a file of another kind, and left as it is: name a file of JSON lines, or one that does not exist yet",
            ));
        }
        let file = LineFile::open(path)?;
        Ok(Self { name: path.display().to_string(), out: file, lines: Vec::new() })
    }

    /// What opens the file again on request.
    pub fn reopener(&self) -> Reopener {
        self.out.reopener()
    }
}

/// Whether records may be appended to what is at `path`: a ledger, a secret or the configuration does not begin as JSON
/// lines do. Pipes and devices take anything.
fn holds_lines(path: &Path) -> io::Result<bool> {
    if !fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0) {
        return Ok(true);
    }
    let mut first = [0];
    match File::open(path).and_then(|mut file| file.read_exact(&mut first)) {
        // A file may be writable and not readable.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        Err(error) => Err(error),
        Ok(()) => Ok(matches!(first, [b'{' | b'\n'])),
    }
}

impl<W: Write> Jsonl<LineStream<W>> {
    /// Writes to `out`; `name` stands in messages.
    pub fn new(name: String, out: W) -> Self {
        Self { name, out: LineStream { out, is_torn: false }, lines: Vec::new() }
    }
}

impl<L: Lines + Send> Sink for Jsonl<L> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn label(&self) -> &'static str {
        "jsonl"
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        self.lines.clear();
        for row in batch {
            serde_json::to_writer(&mut self.lines, row)?;
            self.lines.push(b'\n');
        }
        self.out.append(&self.lines)
    }
}

/// Lines on any stream.
#[derive(Debug)]
pub struct LineStream<W> {
    out: W,
    /// The last write stopped inside a line, as far as is known.
    is_torn: bool,
}

impl<W: Write> Lines for LineStream<W> {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let first: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let result = [first, lines].iter().try_for_each(|bytes| self.out.write_all(bytes));
        let result = result.and_then(|()| self.out.flush());
        self.is_torn = result.is_err();
        result
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

    /// Takes some bytes, then is full once, then works again.
    #[derive(Default)]
    struct Disk {
        kept: Vec<u8>,
        calls: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls {
                1 => {
                    self.kept.extend_from_slice(&bytes[..10]);
                    Ok(10)
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
        let mut sink = Jsonl::new("disk".to_owned(), Disk::default());
        assert!(sink.write(&rows(1)).is_err());
        sink.write(&rows(1)).unwrap();
        let text = String::from_utf8(sink.out.out.kept).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!(whole.count(), 1, "{text}");
    }
}
