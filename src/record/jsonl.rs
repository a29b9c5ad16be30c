//! Records as JSON lines, in a file or on stdout.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::{Sink, UsageRecord};

/// One JSON object per record and line.
#[derive(Debug)]
pub struct Jsonl<W> {
    name: String,
    out: W,
    /// The lines of one batch; its capacity is kept.
    lines: Vec<u8>,
    /// The last write stopped inside a line: the next one begins with a line break, so that only one is lost.
    torn: bool,
}

impl Jsonl<File> {
    /// Appends to the file at `path`, which is created if it is not there.
    ///
    /// # Errors
    /// What the system says when the file cannot be opened for appending.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self::new(path.display().to_string(), file))
    }
}

impl<W: Write> Jsonl<W> {
    /// Writes to `out`; `name` stands in messages.
    pub fn new(name: String, out: W) -> Self {
        Self { name, out, lines: Vec::new(), torn: false }
    }
}

impl<W: Write + Send> Sink for Jsonl<W> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        self.lines.clear();
        if self.torn {
            self.lines.push(b'\n');
        }
        for row in batch {
            serde_json::to_writer(&mut self.lines, row)?;
            self.lines.push(b'\n');
        }
        let result = self.out.write_all(&self.lines).and_then(|()| self.out.flush());
        self.torn = result.is_err();
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
        let text = String::from_utf8(sink.out).unwrap();
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
        let text = String::from_utf8(sink.out.kept).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!(whole.count(), 1, "{text}");
    }
}
