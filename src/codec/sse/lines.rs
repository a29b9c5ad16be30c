//! Splits bytes in pieces of any size into lines, at CRLF, LF and CR.

use std::borrow::Cow;

use memchr::memchr2;

/// The result of [`Lines::next`].
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line within the pushed slice.
    Here {
        /// The line without its end.
        line: &'a [u8],
        /// The offset in the slice after the line's end.
        end: usize,
    },
    /// A line that began in an earlier slice.
    Pieced(Vec<u8>),
    /// The beginning of a line that exceeds the limit: all of it so far.
    Long(Cow<'a, [u8]>),
    /// A further part of a line that exceeds the limit.
    More(&'a [u8]),
    /// The end of the long line.
    LongEnd,
}

/// Finds the lines of a stream. It keeps the unfinished line, and nothing between lines.
#[derive(Debug)]
pub struct Lines {
    /// The unfinished line so far; empty for a line beyond the limit.
    tail: Vec<u8>,
    /// The unfinished line exceeds the limit and is passed on in pieces.
    long: bool,
    /// The slice ended with the CR of a line end, to which an LF now belongs.
    after_cr: bool,
    limit: u32,
}

impl Lines {
    /// Lines of up to `limit` bytes are returned whole.
    pub fn new(limit: usize) -> Lines {
        Lines { tail: Vec::new(), long: false, after_cr: false, limit: limit.try_into().unwrap_or(u32::MAX) }
    }

    /// The next line that ends in `bytes` at or after `at`, which is advanced past it. `None` if
    /// there is none: then the rest of the slice is kept, and the next slice may follow.
    #[inline]
    pub fn next<'a>(&mut self, bytes: &'a [u8], at: &mut usize) -> Option<Line<'a>> {
        if self.after_cr && *at < bytes.len() {
            self.after_cr = false;
            *at += usize::from(bytes[*at] == b'\n');
        }
        let rest = &bytes[*at..];
        let end = match rest.first()? {
            // The blank line after an event, without the cost of setting up a search.
            b'\n' => 0,
            _ => match memchr2(b'\n', b'\r', rest) {
                Some(end) => end,
                None => {
                    *at = bytes.len();
                    return self.keep(rest);
                }
            },
        };
        if (self.long || self.tail.len() + end > self.limit())
            && let Some(piece) = self.outgrow(&rest[..end])
        {
            // The line's end stays for the next call.
            *at += end;
            return Some(piece);
        }
        let line_end = *at + end;
        *at = line_end + 1;
        if rest[end] == b'\r' {
            match bytes.get(*at) {
                Some(b'\n') => *at += 1,
                Some(_) => {}
                None => self.after_cr = true,
            }
        }
        Some(if self.long {
            self.long = false;
            Line::LongEnd
        } else if self.tail.is_empty() {
            Line::Here { line: &rest[..end], end: line_end }
        } else {
            let mut line = std::mem::take(&mut self.tail);
            line.extend_from_slice(&rest[..end]);
            Line::Pieced(line)
        })
    }

    /// The length of the longest line that is given whole.
    #[inline]
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// The held part of the incomplete line.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Takes the unfinished line at the end of the stream. `None` if there is none, or if it
    /// exceeds the limit.
    pub(super) fn take_unfinished(&mut self) -> Option<Vec<u8>> {
        let is_whole = !std::mem::take(&mut self.long) && !self.tail.is_empty();
        is_whole.then(|| std::mem::take(&mut self.tail))
    }

    /// Returns true inside a line.
    pub fn in_line(&self) -> bool {
        self.long || !self.tail.is_empty()
    }

    /// Returns true if the last byte was a CR, to which an LF would belong.
    pub fn is_after_cr(&self) -> bool {
        self.after_cr
    }

    /// Keeps the rest of a slice, which has no line end.
    fn keep<'a>(&mut self, rest: &'a [u8]) -> Option<Line<'a>> {
        if self.long || self.tail.len() + rest.len() > self.limit() {
            return self.outgrow(rest);
        }
        self.tail.extend_from_slice(rest);
        None
    }

    /// A piece of a line beyond the limit. `None` if it is empty.
    #[cold]
    fn outgrow<'a>(&mut self, piece: &'a [u8]) -> Option<Line<'a>> {
        if self.long {
            return (!piece.is_empty()).then_some(Line::More(piece));
        }
        self.long = true;
        if self.tail.is_empty() {
            return Some(Line::Long(Cow::Borrowed(piece)));
        }
        let mut line = std::mem::take(&mut self.tail);
        line.extend_from_slice(piece);
        Some(Line::Long(Cow::Owned(line)))
    }
}

/// The length of the first block, including its blank line.
pub fn block_length(bytes: &[u8]) -> usize {
    let mut lines = Lines::new(usize::MAX);
    let mut at = 0;
    while let Some(line) = lines.next(bytes, &mut at) {
        if matches!(line, Line::Here { line: [], .. }) {
            break;
        }
    }
    at
}
