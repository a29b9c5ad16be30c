//! The meter of event streams.

use std::ops::Range;

use super::anchor::Anchor;
use super::extracted::{EventKind, Extracted};
use super::output::Part;
use super::prefilter::{Prefilter, Wants};
use super::repeat::{Pattern, Template};
use super::scan::Scan;
use super::{Output, Progress, Room, Tally};
use crate::codec::sse::{Event, EventDecoder, EventHandler, Position};

/// Reads one event stream in pieces of any size, beside the path of the bytes to the client.
///
/// Most payloads are only searched for a few words ([`Prefilter`]); the others are parsed. An event
/// that is too large to be held is parsed as it passes.
///
/// ```
/// use streamgauge::llm::usage::StreamMeter;
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

/// The meter's state beside the decoder.
#[derive(Debug, Default)]
struct Reading {
    tally: Tally,
    /// The first token has passed.
    first_token: bool,
    /// The first token or a finish reason has passed.
    has_begun: bool,
    /// The stream is that of a legacy completion, whether its events say so or not.
    is_completion: bool,
    /// The stream is llama.cpp's, whose `timings` may take the place of usage.
    is_llama_cpp: bool,
    /// The stream's events have their type in `event_type` (Cohere's version 1, Gemini's
    /// interactions).
    has_event_types: bool,
    /// The place of the last output text, while the text is kept.
    anchor: Option<Anchor>,
    /// The last event, if it was the last of a slice, only its text was wanted, and the text is kept.
    template: Template,
    /// The result's id is wanted.
    keeps_id: bool,
    /// The scan of an oversize event.
    oversize: Option<Box<Scan>>,
}

impl StreamMeter {
    pub fn new() -> StreamMeter {
        StreamMeter::default()
    }

    /// Keeps the output text until usage is reported.
    pub fn keep_output(&mut self, room: &Room) {
        self.reading.tally.output = Some(Box::new(Output::new(room)));
    }

    /// Keeps the id of the result, and whether it is made in the background.
    pub fn keep_id(&mut self) {
        self.reading.keeps_id = true;
    }

    /// Reads llama.cpp's `timings` from the first event on.
    pub fn expect_timings(&mut self) {
        self.reading.is_llama_cpp = true;
        self.reading.template.forget();
    }

    /// Reads the stream as a legacy completion.
    pub fn expect_completion(&mut self) {
        self.reading.is_completion = true;
    }

    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        let is_between = self.decoder.is_between_events();
        let progress = if is_between { self.reading.repeats(bytes) } else { Progress::default() };
        let from = progress.last_end;
        if from == bytes.len() {
            return progress;
        }
        self.reading.template.forget();
        let mut pushed = Pushed {
            bytes,
            prefilter: Prefilter::new(bytes),
            progress,
            is_between,
            last_text: None,
            reading: &mut self.reading,
        };
        self.decoder.push_from(from, bytes, &mut pushed);
        pushed.progress
    }

    /// Ends the stream. The unfinished rest of the last event counts as an event: the SDKs read it,
    /// although the standard discards it (WHATWG, section 9.2.6). `is_cut`: the stream broke off,
    /// so that only complete JSON counts.
    pub fn finish(&mut self, is_cut: bool) {
        let pushed = Pushed {
            bytes: b"",
            prefilter: Prefilter::new(b""),
            progress: Progress::default(),
            is_between: false,
            last_text: None,
            reading: &mut self.reading,
        };
        self.decoder.finish(&mut Last { pushed, is_cut });
    }

    pub fn tally(&self) -> &Tally {
        &self.reading.tally
    }

    pub fn into_tally(self) -> Tally {
        self.reading.tally
    }

    /// The decoder's position behind the pushed bytes.
    pub fn position(&self) -> Position {
        self.decoder.position()
    }

    /// The bytes that end an unfinished line and event, so that another event may follow.
    pub fn separator(&self) -> &'static [u8] {
        self.decoder.separator()
    }
}

impl Reading {
    /// Consumes the events at the beginning of a slice that repeat the last one of the slice before
    /// with other texts.
    #[inline]
    fn repeats(&mut self, bytes: &[u8]) -> Progress {
        let mut progress = Progress::default();
        let (Some((pattern, part)), Some(output)) = (self.template.pattern(), &mut self.tally.output) else {
            return progress;
        };
        while let Some((text, end)) = pattern.matches(bytes, progress.last_end) {
            output.begin(part, text.len());
            output.extend(&bytes[text]);
            progress.events += 1;
            progress.last_end = end;
            if progress.events == 1 {
                progress.first_end = end;
            }
        }
        self.tally.events += u64::from(progress.events);
        progress
    }
}

/// One push, as the decoder's sink.
struct Pushed<'a> {
    bytes: &'a [u8],
    prefilter: Prefilter<'a>,
    progress: Progress,
    /// The slice begins between two events.
    is_between: bool,
    /// The last event, if only its text was wanted.
    last_text: Option<LastText>,
    reading: &'a mut Reading,
}

/// Offsets of an event's only text and of its data in the slice.
struct LastText {
    part: Part,
    text: Range<usize>,
    data: Range<usize>,
}

impl Pushed<'_> {
    /// Returns true if the event may contain a wanted value.
    #[inline]
    fn worth_reading(&mut self, event: &Event<'_>) -> bool {
        let wants = Wants {
            model: self.reading.tally.model.is_none(),
            timings: self.reading.is_llama_cpp,
            event_type: self.reading.has_event_types,
        };
        match event.at {
            _ if !self.reading.first_token => true,
            Some(at) => self.prefilter.worth_reading(at, at + event.data.len(), wants),
            None => Prefilter::new(event.data).worth_reading(0, event.data.len(), wants),
        }
    }

    /// Keeps the text of an event in which nothing else is wanted. Returns false if the event must
    /// be parsed for it.
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

    /// Consumes the following events that repeat the one in `block` with other texts. Returns the
    /// end of the last one.
    #[inline]
    fn repeats(&mut self, block: Range<usize>) -> usize {
        let mut at = block.end;
        let (Some(last), Some(output)) = (self.last_text.take(), &mut self.reading.tally.output) else {
            return at;
        };
        let within = |range: Range<usize>| range.start - block.start..range.end - block.start;
        let (data, text) = (within(last.data), within(last.text));
        let Some(pattern) = Pattern::of(&self.bytes[block], data, text) else { return at };
        let mut events = 0;
        while let Some((text, end)) = pattern.matches(self.bytes, at) {
            output.begin(last.part, text.len());
            output.extend(&self.bytes[text]);
            events += 1;
            at = end;
        }
        self.progress.events += events;
        self.reading.tally.events += u64::from(events);
        if at == self.bytes.len() {
            self.reading.template.keep(pattern, last.part);
        }
        at
    }

    /// Parses an event and merges its values.
    fn read(&mut self, event: &Event<'_>, named: EventKind) {
        let mut output = self.reading.tally.output.take();
        let extracted = Scan::whole(event.data, output.as_deref_mut(), self.reading.keeps_id);
        self.reading.tally.output = output;
        let Some(extracted) = extracted else { return self.unread(event) };
        if self.reading.tally.output.is_some() && extracted.has_text() {
            self.reading.anchor = Anchor::learn(&extracted, event.data);
        }
        let is_nothing = extracted.is_nothing();
        self.take(extracted, named);
        if !self.reading.tally.is_response && !is_nothing {
            self.judge(event);
        }
    }

    /// An event is not JSON. One that begins like an object was meant as JSON.
    #[cold]
    fn unread(&mut self, event: &Event<'_>) {
        self.reading.tally.skipped += u64::from(event.data.trim_ascii_start().starts_with(b"{"));
        self.judge(event);
    }

    /// An event of an unknown form is part of a response, unless it only keeps the connection alive.
    #[cold]
    fn judge(&mut self, event: &Event<'_>) {
        self.reading.tally.is_response |= match event.name {
            b"ping" | b"keepalive" | b"error" => false,
            b"message" => !matches!(event.data.trim_ascii(), b"" | b"{}"),
            _ => true,
        };
    }

    /// Merges a payload. `named`: the meaning of its event's name.
    fn take(&mut self, mut extracted: Extracted, named: EventKind) {
        let first_token = extracted.content && !self.reading.first_token;
        self.reading.first_token |= first_token;
        self.progress.first_token |= first_token;
        self.progress.terminal |= extracted.kind.is_terminal();
        if (extracted.content || extracted.has_finished) && !self.reading.has_begun {
            self.reading.has_begun = true;
            self.progress.begins = true;
            self.progress.begins_at = self.progress.last_end;
        }
        extracted.is_completion |= self.reading.is_completion;
        if extracted.usage_object && !self.progress.usage {
            self.progress.usage = true;
            self.progress.usage_at = self.progress.last_end;
        }
        self.reading.has_event_types |= extracted.has_event_type;
        self.reading.is_llama_cpp |= extracted.is_llama_cpp || extracted.timings.is_some();
        self.progress.is_llama_cpp |= self.reading.is_llama_cpp;
        self.reading.tally.take(&mut extracted, named);
    }

    fn count(&mut self) {
        self.progress.events += 1;
        self.reading.tally.events += 1;
    }

    /// The event declares the end of the stream.
    fn terminal(&mut self) {
        self.progress.terminal = true;
        self.reading.tally.terminal = true;
    }
}

impl EventHandler for Pushed<'_> {
    #[inline]
    fn event(&mut self, event: Event<'_>) {
        self.count();
        // Most payloads are objects and need no trimming.
        if event.data.first() != Some(&b'{') && event.data.trim_ascii() == b"[DONE]" {
            return self.terminal();
        }
        let named = match event.name {
            b"message" => EventKind::Other,
            name => EventKind::from_type(name),
        };
        if named.is_terminal() {
            self.terminal();
        }
        let error = named == EventKind::Error;
        if error || self.worth_reading(&event) || !self.keep_text(&event) {
            self.read(&event, named);
        }
        if named.is_terminal() {
            // Each such event is reported.
            self.last_text = None;
        }
        if error {
            self.reading.tally.take_error_text(event.data);
        }
    }

    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        // llama.cpp's server reports a failure in the middle of a stream like this. The field is
        // not an event, so only the error counts.
        if name == b"error" {
            let tally = &mut self.reading.tally;
            if let Some(mut extracted) = Scan::whole(value, None, false) {
                tally.take_error(&mut extracted, true);
            }
            tally.take_error_text(value);
        }
    }

    #[inline]
    fn block_end(&mut self, end: usize) -> usize {
        let begin = self.progress.last_end;
        if self.progress.first_end == 0 {
            self.progress.first_end = end;
            // The block may have begun in an earlier slice.
            self.last_text = self.last_text.take().filter(|_| self.is_between);
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
            Some(extracted) => {
                self.take(extracted, EventKind::Other);
                self.reading.tally.is_response = true;
            }
            None => self.reading.tally.skipped += 1,
        }
    }
}

/// The last event, ended by the end of the stream.
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
