//! Removes the usage event that the proxy requested from streams whose client did not request it.
//!
//! The rule: **an event with a `usage` object is withheld, with its whole block, if nothing else in
//! it is part of the response: no choice with content, no error, and no member of a response.**
//!
//! The framing does not matter (`id`, `event` and unknown lines, comments between them, several
//! `data` lines, no blank line at the end), nor does the form of `choices`: empty, null, missing,
//! or with choices of nothing but an index, nulls and empty deltas. A role or an empty text counts
//! as content until the stream has had content or a finish reason, since it may begin a response. Members that
//! accompany the usage (`metrics`, `timings`, `cost`, those of every chunk) are withheld with it.
//! Members that are part of a response (`error`, `moderation`, `prompt_filter_results` and others,
//! listed in `usage_chunk_matcher::members`) let the event pass, because its client would miss
//! them. An event of the type `error` passes. All events of this kind are withheld, even if there
//! are several.
//!
//! Comments before the event's first field pass, and all other bytes pass unchanged.
//!
//! Delay: an event that is complete in one slice never waits. The bytes of an incomplete event wait
//! until one of them rules it out, which in a usual chunk is the first byte of its text; never more
//! than [`HOLD_LIMIT`] bytes, and never an event before it, except in streams of llama.cpp's server
//! ([`rejoin`]). At the end of the stream the waiting bytes pass, unless they are the event without
//! its end ([`Withhold::finish`]).

mod passing;
mod rejoin;
mod usage_chunk_matcher;

use std::ops::Range;

use bytes::Bytes;

use self::passing::Passing;
use self::rejoin::Rejoin;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::usage_chunk_matcher::RESPONSE_MEMBERS;
use self::usage_chunk_matcher::UsageChunkMatcher;
use super::Progress;
use crate::codec::sse::block_length;

/// The largest number of bytes of an event that wait, and the largest event that is withheld. Real
/// ones have 200 to 1,300 bytes.
pub const HOLD_LIMIT: usize = 16 << 10;

/// Filters one stream.
///
/// The filter runs beside a [`StreamMeter`](super::StreamMeter), whose [`Progress`] has the ends of
/// events, so that nothing is searched twice: a slice that ends with an event, as most do, passes
/// without a search.
///
/// ```
/// use bytes::Bytes;
/// use streamgauge::llm::usage::{StreamMeter, Withhold};
///
/// let (mut meter, mut withhold) = (StreamMeter::new(), Withhold::new());
/// let mut passed = Vec::new();
/// for slice in [
///     "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: {\"id\":\"x\",\"cho",
///     "ices\":[],\"usage\":{\"prompt_tokens\":3}}\n\ndata: [DONE]\n\n",
/// ] {
///     let progress = meter.push(slice.as_bytes());
///     passed.extend_from_slice(&withhold.pass(Bytes::from_static(slice.as_bytes()), progress));
/// }
/// passed.extend_from_slice(&withhold.finish());
/// assert_eq!(passed, b"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n");
/// ```
#[derive(Debug, Default)]
pub struct Withhold {
    /// The unfinished event at the end of the last slice.
    open: Open,
    /// The waiting bytes of that event; empty unless it is suspect.
    held: Vec<u8>,
    /// The last slice ended with the CR of a blank line, to which an LF now belongs.
    after_cr: bool,
    /// The blank line was withheld.
    took_cr: bool,
    /// The first event has begun.
    begun: bool,
    /// An event with content or a finish reason has passed.
    has_content: bool,
    withheld: u32,
    /// Only in streams of llama.cpp's server.
    rejoin: Option<Box<Rejoin>>,
}

/// An unfinished event.
#[derive(Debug, Default)]
enum Open {
    #[default]
    None,
    /// The event may be the usage event.
    Suspect(Box<UsageChunkMatcher>),
    /// The event is another one.
    Cleared,
}

impl Withhold {
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what may pass now: the waiting bytes and these, without the withheld ones.
    /// `progress` is the meter's result for the same bytes.
    #[inline]
    pub fn pass(&mut self, bytes: Bytes, progress: Progress) -> Bytes {
        if self.rejoin.is_some() || progress.is_llama_cpp {
            return self.pass_rejoined(bytes, progress);
        }
        if self.passes_whole(&bytes, progress) { bytes } else { self.look(bytes, progress) }
    }

    /// Passes a slice as it is if it ends with an event and nothing is withheld, and returns true.
    /// Otherwise it must go through [`Withhold::pass`].
    #[inline]
    pub fn passes_whole(&mut self, bytes: &[u8], progress: Progress) -> bool {
        if self.rejoin.is_some() || progress.is_llama_cpp {
            return false;
        }
        let ends_with_event = progress.last_end == bytes.len();
        if !ends_with_event || progress.usage || !self.held.is_empty() || self.took_cr {
            return false;
        }
        if let Some(&last) = bytes.last() {
            self.open = Open::None;
            self.after_cr = last == b'\r';
            self.begun = true;
            self.has_content |= progress.begins;
        }
        true
    }

    /// Treats the stream as one of llama.cpp's server, which moves `timings` into the event that is
    /// withheld.
    pub fn expect_llama_cpp(&mut self) {
        self.rejoin = Some(Box::default());
    }

    /// Ends the stream: returns the waiting bytes without the usage event.
    pub fn finish(&mut self) -> Bytes {
        let mut held = std::mem::take(&mut self.held);
        let is_match = match std::mem::replace(&mut self.open, Open::Cleared) {
            Open::Suspect(matcher) => matcher.is_match_at_end(self.has_content),
            Open::None | Open::Cleared => false,
        };
        let mut rest = Vec::new();
        if let Some(mut rejoin) = self.rejoin.take() {
            if is_match {
                rejoin.withheld(&held, &mut rest);
            }
            rejoin.release(&mut rest);
        }
        if is_match {
            self.withheld += 1;
            held.clear();
        }
        if rest.is_empty() { held.into() } else { [rest, held].concat().into() }
    }

    pub fn is_holding(&self) -> bool {
        !self.held.is_empty() || self.is_inside_event()
    }

    /// Returns true if the client has the beginning of an event whose rest waits.
    pub fn is_inside_event(&self) -> bool {
        self.rejoin.as_ref().is_some_and(|rejoin| rejoin.is_inside_event())
    }

    /// Events withheld so far.
    pub fn withheld(&self) -> u32 {
        self.withheld
    }

    /// The path of llama.cpp's streams: event by event, so that the one with the finish reason can
    /// wait for the next.
    fn pass_rejoined(&mut self, bytes: Bytes, progress: Progress) -> Bytes {
        let mut rejoin = self.rejoin.take().unwrap_or_default();
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let has_ended = at < progress.last_end;
            let length = match (at, has_ended) {
                (0, true) => progress.first_end,
                (_, true) => block_length(&bytes[at..progress.last_end]),
                (_, false) => bytes.len() - at,
            };
            let end = if has_ended { length } else { 0 };
            let block = bytes.slice(at..at + length);
            let own = Progress {
                usage: true,
                first_end: end,
                last_end: end,
                begins: progress.begins && (at..at + length).contains(&progress.begins_at),
                ..Progress::default()
            };
            let (held, withheld) = (self.held.clone(), self.withheld);
            let passed = self.look(block.clone(), own);
            rejoin.pass(&passed, has_ended, &mut out);
            if self.withheld > withheld {
                rejoin.withheld(&[&held, &block[..]].concat(), &mut out);
            }
            at += length;
        }
        self.rejoin = Some(rejoin);
        out.into()
    }

    fn look(&mut self, bytes: Bytes, progress: Progress) -> Bytes {
        let Progress { usage, usage_at, first_end, last_end, .. } = progress;
        let mut passing = Passing::default();
        let begin = usize::from(self.after_cr && bytes.first() == Some(&b'\n'));
        if !bytes.is_empty() {
            if begin == 1 && self.took_cr {
                passing.cut(0..1);
            }
            self.after_cr = false;
            self.took_cr = false;
        }

        if first_end > 0 {
            self.block(&bytes, begin..first_end, true, &mut passing);
            let mut at = first_end.max(usage_at);
            while usage && at < last_end {
                let end = at + block_length(&bytes[at..last_end]);
                self.has_content |= progress.begins && progress.begins_at < at;
                self.block(&bytes, at..end, true, &mut passing);
                at = end;
            }
            self.after_cr = last_end == bytes.len() && bytes.ends_with(b"\r");
            self.took_cr &= self.after_cr;
        }
        self.has_content |= progress.begins;
        let tail = last_end.max(begin)..bytes.len();
        if !tail.is_empty() {
            self.block(&bytes, tail, false, &mut passing);
        }
        passing.of(bytes)
    }

    /// Filters an event, or the part of it in this slice.
    fn block(&mut self, bytes: &Bytes, range: Range<usize>, ended: bool, passing: &mut Passing) {
        let at_start = !self.begun;
        self.begun |= ended;
        let mut matcher = match std::mem::take(&mut self.open) {
            Open::None => Box::new(UsageChunkMatcher::new(at_start)),
            Open::Suspect(matcher) => matcher,
            Open::Cleared => {
                self.open = if ended { Open::None } else { Open::Cleared };
                return;
            }
        };
        let own = range.start + matcher.push(&bytes[range.clone()])..range.end;
        if ended && matcher.is_match(self.has_content) {
            self.held = Vec::new();
            self.withheld += 1;
            self.took_cr = true;
            passing.cut(own);
        } else if ended || matcher.is_ruled_out() {
            passing.before(std::mem::take(&mut self.held));
            self.open = if ended { Open::None } else { Open::Cleared };
            self.took_cr &= !ended;
        } else {
            self.held.extend_from_slice(&bytes[own.clone()]);
            self.open = Open::Suspect(matcher);
            passing.cut(own);
        }
    }
}

#[cfg(test)]
mod tests;
