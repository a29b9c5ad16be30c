//! Lines from bytes in any pieces: CRLF, LF and CR end one, and nothing else does.

use std::borrow::Cow;

use memchr::memchr2;

/// The result of [`Lines::next`].
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line that lies whole in the pushed slice.
    Here {
        /// Its bytes, without what ended it.
        line: &'a [u8],
        /// Where in the slice they end.
        end: usize,
    },
    /// A line that began in an earlier slice.
    Pieced(Vec<u8>),
    /// The beginning of a line that is longer than the limit: all of it so far.
    Long(Cow<'a, [u8]>),
    /// More of a line that is longer than the limit.
    More(&'a [u8]),
    /// The end of the long line.
    LongEnd,
}

/// Finds the lines of a stream. It keeps the unfinished line, and nothing at all between lines.
#[derive(Debug)]
pub struct Lines {
    /// The unfinished line so far; empty while a long one passes.
    tail: Vec<u8>,
    /// The unfinished line is beyond the limit and passes in pieces.
    long: bool,
    /// The last line ended with a CR that was the slice's last byte: an LF now belongs to it.
    after_cr: bool,
    limit: usize,
}

impl Lines {
    /// Lines of up to `limit` bytes are given whole.
    pub fn new(limit: usize) -> Lines {
        Lines { tail: Vec::new(), long: false, after_cr: false, limit }
    }

    /// The next line that ends in `bytes` at or after `at`, which moves past it. `None` when there
    /// is no further one: then the rest of the slice has been kept, and the next slice may be
    /// given.
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
        if (self.long || self.tail.len() + end > self.limit)
            && let Some(piece) = self.outgrow(&rest[..end])
        {
            // The line's end stays where it is, for the next call.
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

    /// The held part of the incomplete line.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Ends the unfinished line, as the stream's end does. `None` where there is none, or a long
    /// one passes.
    pub(super) fn take_unfinished(&mut self) -> Option<Vec<u8>> {
        let is_whole = !std::mem::take(&mut self.long) && !self.tail.is_empty();
        is_whole.then(|| std::mem::take(&mut self.tail))
    }

    /// Returns true if a line has begun and not ended.
    pub fn in_line(&self) -> bool {
        self.long || !self.tail.is_empty()
    }

    /// Returns true if the last byte was a CR, to which an LF would belong.
    pub fn is_after_cr(&self) -> bool {
        self.after_cr
    }

    /// Takes the rest of a slice, which has no line end.
    fn keep<'a>(&mut self, rest: &'a [u8]) -> Option<Line<'a>> {
        if self.long || self.tail.len() + rest.len() > self.limit {
            return self.outgrow(rest);
        }
        self.tail.extend_from_slice(rest);
        None
    }

    /// A piece of a line that is known to be beyond the limit; `None` when it has no bytes.
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
