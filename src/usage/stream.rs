//! The meter of event streams.

use std::ops::Range;

use super::anchor::Anchor;
use super::found::{Announces, Found};
use super::output::Part;
use super::repeat::Pattern;
use super::scan::Scan;
use super::watch::{Wants, Watch};
use super::{Output, Room, Tally};
use crate::sse::{Event, EventDecoder, EventHandler, Position};

/// What one push brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes at its start stand before the stream's first significant one, and were not
    /// shown to the meter: all other places are told from there.
    pub skipped: usize,
    /// How many events ended in it.
    pub events: u32,
    /// The stream's first event with text, reasoning or a tool call's output was among them.
    pub first_token: bool,
    /// Where in the pushed slice that event begins, as of [`Progress::usage_at`].
    pub first_token_at: usize,
    /// An event that ends the stream was among them.
    pub terminal: bool,
    /// An event with a top-level `usage` object was among them.
    pub usage: bool,
    /// Where in the pushed slice the first such event begins, with what stands in its block before
    /// it; 0 also where it began before.
    pub usage_at: usize,
    /// Where in the pushed slice the first of its blank lines is over; 0 if it has none.
    pub first_end: usize,
    /// The same of the last of them: behind it an event is unfinished, or nothing is.
    pub last_end: usize,
    /// The body turned out to be no event stream.
    pub is_other: bool,
    /// An event among them was one of llama.cpp's server.
    pub is_llama_cpp: bool,
}

impl Progress {
    /// Adds what the next push brought.
    pub fn add(&mut self, next: Self) {
        self.events += next.events;
        self.first_token |= next.first_token;
        self.terminal |= next.terminal;
    }
}

/// Reads one event stream in pieces of any size, beside the bytes' way to the client.
///
/// Nearly every payload is only searched for a few words; those that may have something are read.
/// An event that is too large to be held is read as it passes.
///
/// ```
/// use streamgauge::usage::StreamMeter;
///
/// let mut meter = StreamMeter::new();
/// let progress = meter.push(b"data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n");
/// assert!(progress.first_token);
/// meter.push(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n");
/// meter.push(b"data: [DONE]\n\n");
/// assert_eq!(meter.tally().usage.and_then(|usage| usage.output_tokens), Some(1));
/// assert!(meter.tally().terminal);
/// ```
#[derive(Debug, Default)]
pub struct StreamMeter {
    decoder: EventDecoder,
    reading: Reading,
}

/// What the meter keeps beside the decoder.
#[derive(Debug, Default)]
struct Reading {
    tally: Tally,
    /// Content has been seen.
    first_token: bool,
    /// It is a stream of llama.cpp's server, whose counts may stand where others have none.
    is_llama_cpp: bool,
    /// Where the output's text was last, while it is kept.
    anchor: Option<Anchor>,
    /// The id of the result that the stream is of is wanted.
    keeps_id: bool,
    /// The scan of an event that passes in pieces.
    oversize: Option<Box<Scan>>,
}

impl StreamMeter {
    /// A meter at the start of a stream.
    pub fn new() -> StreamMeter {
        StreamMeter::default()
    }

    /// Keeps the text of the output, until usage is reported.
    pub fn keep_output(&mut self, room: &Room) {
        self.reading.tally.output = Some(Box::new(Output::new(room)));
    }

    /// Keeps the id of the result that the stream is of, and whether that is made in the
    /// background.
    pub fn keep_id(&mut self) {
        self.reading.keeps_id = true;
    }

    /// The stream is one of llama.cpp's server: its counts are looked for.
    pub fn expect_timings(&mut self) {
        self.reading.is_llama_cpp = true;
    }

    /// Reads on.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        let (watch, progress) = (Watch::new(bytes), Progress::default());
        let mut pushed = Pushed { bytes, watch, progress, last_text: None, reading: &mut self.reading };
        self.decoder.push(bytes, &mut pushed);
        pushed.progress
    }

    /// The stream has ended. What is unfinished of its last event counts as an event: the SDKs read
    /// it too, though the standard discards it (WHATWG, section 9.2.6). `is_cut`: the stream broke
    /// off, so that only whole JSON counts.
    pub fn finish(&mut self, is_cut: bool) {
        let pushed = Pushed {
            bytes: b"",
            watch: Watch::new(b""),
            progress: Progress::default(),
            last_text: None,
            reading: &mut self.reading,
        };
        self.decoder.finish(&mut Last { pushed, is_cut });
    }

    /// What is known so far.
    pub fn tally(&self) -> &Tally {
        &self.reading.tally
    }

    /// What is known at the end.
    pub fn into_tally(self) -> Tally {
        self.reading.tally
    }

    /// Where in the stream the pushed bytes end.
    pub fn position(&self) -> Position {
        self.decoder.position()
    }

    /// The bytes behind which another event may follow.
    pub fn separator(&self) -> &'static [u8] {
        self.decoder.separator()
    }
}

/// One push, as the decoder sees it.
struct Pushed<'a> {
    bytes: &'a [u8],
    watch: Watch<'a>,
    progress: Progress,
    /// The last event, if nothing but its text was wanted.
    last_text: Option<LastText>,
    reading: &'a mut Reading,
}

/// Where in a slice an event's only text is, and the data that it is in.
struct LastText {
    part: Part,
    text: Range<usize>,
    data: Range<usize>,
}

impl Pushed<'_> {
    /// Whether there may be anything in the event that is still wanted.
    #[inline]
    fn worth_reading(&mut self, event: &Event<'_>) -> bool {
        let wants = Wants { model: self.reading.tally.model.is_none(), timings: self.reading.is_llama_cpp };
        match event.at {
            _ if !self.reading.first_token => true,
            Some(at) => self.watch.worth_reading(at, at + event.data.len(), wants),
            None => Watch::new(event.data).worth_reading(0, event.data.len(), wants),
        }
    }

    /// Keeps the text of an event in which nothing else is wanted. False if it has to be read for
    /// that.
    #[inline]
    fn keep_text(&mut self, event: &Event<'_>) -> bool {
        let Some(output) = &mut self.reading.tally.output else { return true };
        let Some((part, text)) = self.reading.anchor.as_mut().and_then(|anchor| anchor.find(event.data))
        else {
            return false;
        };
        output.begin(part, text.len());
        output.extend(&event.data[text.clone()]);
        self.last_text = event.at.map(|at| LastText {
            part,
            text: at + text.start..at + text.end,
            data: at..at + event.data.len(),
        });
        true
    }

    /// Takes in the events at `at` that repeat the one in `block` with other texts, of which
    /// nothing else is wanted either. Returns where they are over.
    #[inline]
    fn repeats(&mut self, block: Range<usize>) -> usize {
        let mut at = block.end;
        let (Some(last), Some(output)) = (self.last_text.take(), &mut self.reading.tally.output) else {
            return at;
        };
        let Some(pattern) = Pattern::of(self.bytes, block, last.data, last.text) else { return at };
        let mut events = 0;
        while let Some((text, end)) = pattern.matches(self.bytes, at) {
            output.begin(last.part, text.len());
            output.extend(&self.bytes[text]);
            events += 1;
            at = end;
        }
        self.progress.events += events;
        self.reading.tally.events += u64::from(events);
        at
    }

    /// Reads an event, and takes over what it had.
    fn read(&mut self, event: &Event<'_>, called: Announces) {
        let mut output = self.reading.tally.output.take();
        let found = Scan::whole(event.data, output.as_deref_mut(), self.reading.keeps_id);
        self.reading.tally.output = output;
        let Some(found) = found else { return };
        if self.reading.tally.output.is_some() && found.has_text() {
            self.reading.anchor = Anchor::learn(&found, event.data);
        }
        self.take(found, called);
    }

    /// Takes over what a payload had. `called`: what its event's name announces.
    fn take(&mut self, mut found: Found, called: Announces) {
        let first_token = found.content && !self.reading.first_token;
        self.reading.first_token |= first_token;
        self.progress.first_token |= first_token;
        self.progress.terminal |= found.announces.is_terminal();
        if first_token {
            self.progress.first_token_at = self.progress.last_end;
        }
        if found.usage_object && !self.progress.usage {
            self.progress.usage = true;
            self.progress.usage_at = self.progress.last_end;
        }
        self.reading.is_llama_cpp |= found.is_llama_cpp || found.timings.is_some();
        self.progress.is_llama_cpp |= self.reading.is_llama_cpp;
        self.reading.tally.take(&mut found, called);
    }

    fn count(&mut self) {
        self.progress.events += 1;
        self.reading.tally.events += 1;
    }

    /// The event says that the stream is whole.
    fn terminal(&mut self) {
        self.progress.terminal = true;
        self.reading.tally.terminal = true;
    }
}

impl EventHandler for Pushed<'_> {
    #[inline]
    fn event(&mut self, event: Event<'_>) {
        self.count();
        // Nearly every payload is an object.
        if event.data.first() != Some(&b'{') && event.data.trim_ascii() == b"[DONE]" {
            return self.terminal();
        }
        let called = match event.name {
            b"message" => Announces::Other,
            name => Announces::from_type(name),
        };
        if called.is_terminal() {
            self.terminal();
        }
        let error = called == Announces::Error;
        if error || self.worth_reading(&event) || !self.keep_text(&event) {
            self.read(&event, called);
        }
        if error {
            self.reading.tally.take_error_text(event.data);
        }
    }

    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        // What llama.cpp's server sends when it fails in the middle of a stream. It is no event, so
        // nothing but the error counts.
        if name == b"error" {
            let tally = &mut self.reading.tally;
            if let Some(mut found) = Scan::whole(value, None, false) {
                tally.take_error(&mut found, true);
            }
            tally.take_error_text(value);
        }
    }

    #[inline]
    fn block_end(&mut self, end: usize) -> usize {
        let begin = self.progress.last_end;
        // Of the slice's first block it is not known where it began.
        let is_first = self.progress.first_end == 0;
        if is_first {
            self.progress.first_end = end;
            self.last_text = None;
        }
        self.progress.last_end = self.repeats(begin..end);
        self.progress.last_end
    }

    fn oversize(&mut self, piece: &[u8]) {
        let reading = &mut *self.reading;
        let keeps_id = reading.keeps_id;
        let scan = reading.oversize.get_or_insert_with(|| {
            let mut scan = Scan::new();
            scan.keep_id(keeps_id);
            Box::new(scan)
        });
        scan.push(piece, reading.tally.output.as_deref_mut());
    }

    fn oversize_end(&mut self) {
        self.count();
        match self.reading.oversize.take().and_then(|scan| scan.into_whole()) {
            Some(found) => self.take(found, Announces::Other),
            None => self.reading.tally.skipped += 1,
        }
    }
}

/// The event that the stream's end ended.
struct Last<'a> {
    pushed: Pushed<'a>,
    is_cut: bool,
}

impl EventHandler for Last<'_> {
    fn event(&mut self, event: Event<'_>) {
        let is_whole = || event.data == b"[DONE]" || Scan::whole(event.data, None, false).is_some();
        if !self.is_cut || is_whole() {
            self.pushed.event(event);
        }
    }

    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        self.pushed.unknown_field(name, value);
    }

    fn oversize(&mut self, piece: &[u8]) {
        self.pushed.oversize(piece);
    }

    fn oversize_end(&mut self) {
        let is_whole = |scan: &Scan| scan.complete();
        if !self.is_cut || self.pushed.reading.oversize.as_deref().is_some_and(is_whole) {
            self.pushed.oversize_end();
        }
    }
}

#[cfg(test)]
mod tests;
