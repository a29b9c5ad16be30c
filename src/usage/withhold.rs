//! The usage event that the proxy asked for, taken out of a stream whose client did not ask.
//!
//! Which event that is: one that would not be there without asking. It is one `data` line with a JSON object, whose
//! `choices` is an empty list, whose `usage` is an object, and beside which stands nothing but what every chunk has
//! ([`likeness`] has the list). Usage that rides with a choice, with moderation, with a filter's results or a service's own members
//! is not that event: it passes, since its client would miss something. Every event of this kind is taken out, be there several.
//!
//! What goes is the event and its blank line; comments before it stay. Every other byte passes as it came.
//!
//! How long a byte may wait: an event that is whole in one slice never does. Of one that is not, the bytes so far wait
//! until one of them rules it out, which in a usual chunk is the first one of `choices`; never longer than [`HOLD_LIMIT`]
//! bytes, and never with an event before it. At any end of the stream what waits is passed ([`Withhold::rest`]).

mod likeness;

use std::ops::Range;

use bytes::Bytes;

use self::likeness::Likeness;
use super::Progress;
use crate::sse::{Line, Lines};

/// The most of one event that waits, and the largest event that is taken out. Real ones have 200 to 1,300 bytes.
pub const HOLD_LIMIT: usize = 16 << 10;

/// A stream on its way to a client that did not ask for usage.
///
/// It goes beside a [`StreamMeter`](super::StreamMeter), whose [`Progress`] tells where events end, so that nothing is
/// searched for twice: a slice that ends with an event, as most do, passes without a look at it.
///
/// ```
/// use bytes::Bytes;
/// use streamgauge::usage::{StreamMeter, Withhold};
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
/// passed.extend_from_slice(&withhold.rest());
/// assert_eq!(passed, b"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n");
/// ```
#[derive(Debug, Default)]
pub struct Withhold {
    /// The event that the bytes so far have begun and not ended.
    open: Open,
    /// What waits of it; empty unless it is suspect.
    held: Vec<u8>,
    /// The last slice ended with the CR of a blank line: an LF now belongs to that.
    after_cr: bool,
    /// And that blank line was taken out.
    took_cr: bool,
    withheld: u32,
}

/// An unfinished event.
#[derive(Debug, Default)]
enum Open {
    /// There is none.
    #[default]
    None,
    /// It may be the one.
    Suspect(Box<Likeness>),
    /// It is not.
    Cleared,
}

impl Withhold {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// What may go to the client now that these bytes are here: nothing, or what waited and these without what is
    /// withheld. `progress` is what the meter said of the same bytes.
    #[inline]
    pub fn pass(&mut self, bytes: Bytes, progress: Progress) -> Bytes {
        let ends_with_event = progress.last_end == bytes.len();
        if ends_with_event && !progress.lone_usage && self.held.is_empty() && !self.took_cr {
            if let Some(&last) = bytes.last() {
                self.open = Open::None;
                self.after_cr = last == b'\r';
            }
            return bytes;
        }
        self.look(bytes, progress)
    }

    /// What waits, as at the end of a stream: it is not the event, or not all of it.
    pub fn rest(&mut self) -> Bytes {
        self.open = Open::Cleared;
        std::mem::take(&mut self.held).into()
    }

    /// Whether bytes of an event wait. The client has none of them.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// How many events were withheld.
    pub fn withheld(&self) -> u32 {
        self.withheld
    }

    fn look(&mut self, bytes: Bytes, progress: Progress) -> Bytes {
        let Progress { lone_usage, lone_usage_at, first_end, last_end, .. } = progress;
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
            let mut at = first_end.max(lone_usage_at);
            while lone_usage && at < last_end {
                let end = at + block_length(&bytes[at..last_end]);
                self.block(&bytes, at..end, true, &mut passing);
                at = end;
            }
            self.after_cr = last_end == bytes.len() && bytes.ends_with(b"\r");
            self.took_cr &= self.after_cr;
        }
        let tail = last_end.max(begin)..bytes.len();
        if !tail.is_empty() {
            self.block(&bytes, tail, false, &mut passing);
        }
        passing.of(bytes)
    }

    /// An event, or what there is of it in this slice.
    fn block(&mut self, bytes: &Bytes, range: Range<usize>, ended: bool, passing: &mut Passing) {
        let mut likeness = match std::mem::take(&mut self.open) {
            Open::None => Box::default(),
            Open::Suspect(likeness) => likeness,
            Open::Cleared => {
                self.open = if ended { Open::None } else { Open::Cleared };
                return;
            }
        };
        let own = range.start + likeness.push(&bytes[range.clone()])..range.end;
        if ended && likeness.is_asked_for() {
            self.held = Vec::new();
            self.withheld += 1;
            self.took_cr = true;
            passing.cut(own);
        } else if ended || likeness.is_ruled_out() {
            passing.before(std::mem::take(&mut self.held));
            self.open = if ended { Open::None } else { Open::Cleared };
            self.took_cr &= !ended;
        } else {
            self.held.extend_from_slice(&bytes[own.clone()]);
            self.open = Open::Suspect(likeness);
            passing.cut(own);
        }
    }
}

/// Which bytes of a slice pass, and what goes before them.
#[derive(Default)]
struct Passing {
    before: Vec<u8>,
    /// What of the slice does not pass, in order.
    cuts: Vec<Range<usize>>,
}

impl Passing {
    /// Bytes that had waited. Only the first event of a slice can have any, so they come first.
    fn before(&mut self, held: Vec<u8>) {
        if !held.is_empty() {
            self.before = held;
        }
    }

    fn cut(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.cuts.push(range);
        }
    }

    /// Copies only where what passes is not one piece of the slice.
    fn of(self, bytes: Bytes) -> Bytes {
        let mut kept = Vec::with_capacity(self.cuts.len() + 1);
        let mut from = 0;
        for cut in &self.cuts {
            kept.push(from..cut.start);
            from = cut.end;
        }
        kept.push(from..bytes.len());
        kept.retain(|range| !range.is_empty());
        if self.before.is_empty() && kept.len() < 2 {
            return kept.pop().map_or_else(Bytes::new, |range| bytes.slice(range));
        }
        let mut whole = self.before;
        for range in kept {
            whole.extend_from_slice(&bytes[range]);
        }
        whole.into()
    }
}

/// How long the first block of these is, its blank line included.
fn block_length(bytes: &[u8]) -> usize {
    let mut lines = Lines::new(usize::MAX);
    let mut at = 0;
    while let Some(line) = lines.next(bytes, &mut at) {
        if matches!(line, Line::Here { line: [], .. }) {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests;
