//! Decodes lines into events.

use super::{Event, EventHandler, LIMIT, Line, Lines};

/// The longest event type and ID, which are words. A longer one discards its event, so that little
/// is kept.
const NAME_LIMIT: usize = 4096;

/// The lowest limit. With a smaller one, a line could exceed it before its field is known.
const LEAST_LIMIT: usize = 16;

/// The byte order mark that may begin a stream.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The position within an event at the end of the pushed bytes: decides whether an event can be
/// inserted, and whether the end of the stream would cut an event off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// No event has begun.
    BetweenEvents,
    /// The position is at the start of a line within an event.
    InEvent,
    /// Inside a line.
    InLine,
}

/// A push parser for one event stream. The [module](super) lists its guarantees.
///
/// At the end of the stream no call is needed: an unfinished event is discarded, and
/// [`EventDecoder::position`] tells whether there is one. [`EventDecoder::finish`] is for callers
/// that read it nevertheless.
///
/// ```
/// use streamgauge::codec::sse::{EventDecoder, Event, EventHandler};
///
/// struct Names(Vec<String>);
/// impl EventHandler for Names {
///     fn event(&mut self, event: Event<'_>) {
///         self.0.push(format!("{}={}", String::from_utf8_lossy(event.name), event.data_str()));
///     }
/// }
///
/// let mut names = Names(Vec::new());
/// let mut decoder = EventDecoder::new();
/// decoder.push(b"event: ping\ndata: 1\r", &mut names);
/// decoder.push(b"\n\r\ndata: 2\n\n", &mut names);
/// assert_eq!(names.0, ["ping=1", "message=2"]);
/// ```
#[derive(Debug)]
pub struct EventDecoder {
    lines: Lines,
    /// The first line has not ended, so a byte order mark may begin it.
    at_start: bool,
    /// The event's type, if the line was in an earlier push.
    name: Vec<u8>,
    /// The event's data, unless it is one line of this push.
    data: Vec<u8>,
    /// The event has had a `data` line, possibly empty.
    has_data: bool,
    /// The event has had an `id` line.
    has_id: bool,
    /// The event is too large: its data goes to the handler in pieces.
    oversize: bool,
    /// The line that is passed on in pieces is a `data` line.
    long_data: bool,
    id: Vec<u8>,
    retry: Option<u64>,
    skipped: u64,
}

/// The part of the unfinished event in the pushed slice, borrowed until the end of the push.
#[derive(Default)]
struct Open<'a> {
    name: Option<&'a [u8]>,
    data: Option<(&'a [u8], usize)>,
    /// The offset in the slice after the current line and its end; after a blank line, the offset
    /// at which to continue.
    behind: usize,
}

impl Default for EventDecoder {
    fn default() -> EventDecoder {
        EventDecoder::new()
    }
}

impl EventDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> EventDecoder {
        EventDecoder::with_limit(LIMIT)
    }

    /// A decoder that holds lines and data of up to `limit` bytes (no fewer than 16).
    pub fn with_limit(limit: usize) -> EventDecoder {
        EventDecoder {
            lines: Lines::new(limit.max(LEAST_LIMIT)),
            at_start: true,
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            has_id: false,
            oversize: false,
            long_data: false,
            id: Vec::new(),
            retry: None,
            skipped: 0,
        }
    }

    /// Reads a piece of the stream and calls the sink for everything that ended in it, in stream
    /// order.
    #[inline]
    pub fn push<S: EventHandler>(&mut self, bytes: &[u8], sink: &mut S) {
        self.push_from(0, bytes, sink);
    }

    /// Reads a piece from `at` on. The events before `at` are those that the sink has consumed itself
    /// under the conditions of [`EventHandler::block_end`], after
    /// [`EventDecoder::is_between_events`] was true.
    #[inline]
    pub fn push_from<S: EventHandler>(&mut self, mut at: usize, bytes: &[u8], sink: &mut S) {
        let mut open = Open::default();
        while let Some(line) = self.lines.next(bytes, &mut at) {
            open.behind = at;
            match line {
                Line::Here { line, end } => self.line(line, end, &mut open, sink),
                Line::Pieced(line) => self.pieced(line, &mut open, sink),
                Line::Long(start) => self.long(&start, &mut open, sink),
                Line::More(more) if self.long_data => sink.oversize(more),
                Line::More(_) => {}
                Line::LongEnd => self.long_data = false,
            }
            at = open.behind;
        }
        self.hold(open);
    }

    /// Ends the stream: passes the unfinished event to the sink, if it has data. The standard
    /// discards it, the SDKs do not.
    pub fn finish<S: EventHandler>(&mut self, sink: &mut S) {
        let mut open = Open::default();
        match self.lines.take_unfinished() {
            Some(line) => self.pieced(line, &mut open, sink),
            None => self.long_data = false,
        }
        self.dispatch(&mut open, sink);
    }

    /// The number of events that were too large to be held.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The latest reconnection time of the stream, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// Returns true if the next byte begins an event and cannot be the LF of a CRLF.
    #[inline]
    pub fn is_between_events(&self) -> bool {
        self.position() == Position::BetweenEvents && !self.lines.is_after_cr()
    }

    /// The position at the end of the pushed bytes.
    #[inline]
    pub fn position(&self) -> Position {
        if self.lines.in_line() {
            Position::InLine
        } else if self.has_data || self.has_id || self.oversize || !self.name.is_empty() {
            Position::InEvent
        } else {
            Position::BetweenEvents
        }
    }

    /// The bytes after which another event may follow: they end the unfinished line and event. The
    /// client then dispatches the beginning of that event, which cannot be undone.
    pub fn separator(&self) -> &'static [u8] {
        match (self.position(), self.lines.is_after_cr()) {
            (Position::BetweenEvents, false) => b"",
            // After a CR, a first LF completes its line end.
            (Position::BetweenEvents, true) | (Position::InEvent, false) => b"\n",
            (Position::InEvent, true) | (Position::InLine, _) => b"\n\n",
        }
    }

    /// Reads a line within the pushed slice that ends at `end`.
    #[inline]
    fn line<'a, S: EventHandler>(&mut self, line: &'a [u8], end: usize, open: &mut Open<'a>, sink: &mut S) {
        let line = self.without_bom(line);
        if line.is_empty() {
            return self.dispatch(open, sink);
        }
        let (name, value) = field(line);
        match name {
            b"data" if !self.has_data && !self.oversize => {
                self.has_data = true;
                open.data = Some((value, end - value.len()));
            }
            b"data" => self.more_data(value, open, sink),
            b"event" if value.len() <= NAME_LIMIT => open.name = Some(value),
            _ => self.other_field(line, name, value, open, sink),
        }
    }

    /// Reads a line that came in pieces.
    fn pieced<S: EventHandler>(&mut self, mut line: Vec<u8>, open: &mut Open<'_>, sink: &mut S) {
        if self.at_start && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        self.at_start = false;
        if line.is_empty() {
            return self.dispatch(open, sink);
        }
        let (name, value) = field(&line);
        match name {
            b"data" if !self.has_data && !self.oversize => {
                self.has_data = true;
                line.drain(..line.len() - value.len());
                self.data = line;
            }
            b"data" => self.more_data(value, open, sink),
            b"event" if value.len() <= NAME_LIMIT => {
                open.name = None;
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ => self.other_field(&line, name, value, open, sink),
        }
    }

    /// Reads the beginning of a line that is too long. Only data is passed on; the rest is ignored,
    /// as an unknown field would be.
    #[cold]
    fn long<S: EventHandler>(&mut self, line: &[u8], open: &mut Open<'_>, sink: &mut S) {
        let line = self.without_bom(line);
        let (name, value) = field(line);
        match name {
            b"data" => {
                self.give_up(open, sink);
                self.oversize_data(value, sink);
                self.long_data = true;
            }
            b"event" | b"id" => self.give_up(open, sink),
            _ => {}
        }
    }

    /// Reads a further `data` line of the event, or the first one of an oversize event.
    fn more_data<S: EventHandler>(&mut self, value: &[u8], open: &mut Open<'_>, sink: &mut S) {
        if !self.oversize {
            if let Some((first, _)) = open.data.take() {
                self.data.clear();
                self.data.extend_from_slice(first);
            }
            if self.data.len() + 1 + value.len() <= self.lines.limit() {
                self.data.push(b'\n');
                self.data.extend_from_slice(value);
                return;
            }
            self.give_up(open, sink);
        }
        self.oversize_data(value, sink);
    }

    /// Reads a line that is neither data nor a type: a comment, an ID, a retry time, or an unknown
    /// field.
    fn other_field<S: EventHandler>(
        &mut self,
        line: &[u8],
        name: &[u8],
        value: &[u8],
        open: &mut Open<'_>,
        sink: &mut S,
    ) {
        match name {
            b"" => sink.comment(&line[1..]),
            b"event" => self.give_up(open, sink),
            b"id" if value.len() > NAME_LIMIT => self.give_up(open, sink),
            b"id" if value.contains(&0) => {}
            b"id" => {
                self.has_id = true;
                self.id.clear();
                self.id.extend_from_slice(value);
            }
            b"retry" => {
                if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
                    // Only digits, so a failure means a time of many million years.
                    self.retry = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).or(self.retry);
                }
            }
            _ => sink.unknown_field(name, value),
        }
    }

    /// Reads a blank line.
    #[inline]
    fn dispatch<S: EventHandler>(&mut self, open: &mut Open<'_>, sink: &mut S) {
        if self.oversize {
            self.skipped += 1;
            sink.oversize_end();
        } else if self.has_data {
            let (data, at) = match open.data {
                Some((data, at)) => (data, Some(at)),
                None => (&self.data[..], None),
            };
            let name = match open.name.unwrap_or(&self.name) {
                b"" => b"message",
                name => name,
            };
            sink.event(Event { name, data, id: &self.id, at });
        }
        *open = Open { behind: sink.block_end(open.behind), ..Open::default() };
        self.has_data = false;
        self.has_id = false;
        self.oversize = false;
        // Freed, since most streams never need them, and many wait at this point.
        self.name = Vec::new();
        self.data = Vec::new();
    }

    /// Marks the event as too large to be held, and passes its data so far to the sink.
    #[cold]
    fn give_up<S: EventHandler>(&mut self, open: &mut Open<'_>, sink: &mut S) {
        if self.oversize {
            return;
        }
        self.oversize = true;
        let held = std::mem::take(&mut self.data);
        if self.has_data {
            sink.oversize(open.data.take().map_or(&held[..], |(data, _)| data));
        }
    }

    fn oversize_data<S: EventHandler>(&mut self, value: &[u8], sink: &mut S) {
        if self.has_data {
            sink.oversize(b"\n");
        }
        self.has_data = true;
        sink.oversize(value);
    }

    /// Copies the borrowed parts at the end of a push.
    #[inline]
    fn hold(&mut self, open: Open<'_>) {
        if let Some(name) = open.name {
            self.name.clear();
            self.name.extend_from_slice(name);
        }
        if let Some((data, _)) = open.data {
            self.data.clear();
            self.data.extend_from_slice(data);
        }
    }

    #[inline]
    fn without_bom<'a>(&mut self, line: &'a [u8]) -> &'a [u8] {
        if std::mem::replace(&mut self.at_start, false) {
            line.strip_prefix(BOM).unwrap_or(line)
        } else {
            line
        }
    }
}

/// Splits a line at the first colon into its field and value, without one leading space. A comment
/// is a field without a name.
#[inline]
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    // The form of nearly every line of these streams.
    if let Some(value) = line.strip_prefix(b"data:") {
        return (b"data", value.strip_prefix(b" ").unwrap_or(value));
    }
    match line.iter().position(|&b| b == b':') {
        Some(colon) => {
            let value = &line[colon + 1..];
            (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests;
