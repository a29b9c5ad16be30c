//! W3C Trace Context (Level 1, and the random flag of Level 2): the span and the trace of a
//! request.
//!
//! A valid `traceparent` makes the request's span a child of the client's, and `tracestate` is
//! passed on. Without a valid one, a trace begins here (sections 3.2 and 4.3). The header that is
//! sent upstream names this span, so that the upstream's span is its child.

use crate::codec::head::{Headers, KnownName, visible};
use crate::support::hex;

/// The span is recorded.
const SAMPLED: u8 = 1;

/// The last seven bytes of the trace's id are random (Level 2).
const RANDOM: u8 = 2;

/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;

/// The longest `tracestate` that is recorded with the span; a longer one is passed on nevertheless
/// (section 3.3.1.5 requires 512).
const MAX_STATE: usize = 512;

/// A request's span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace; not all zeros.
    pub trace_id: [u8; 16],
    /// The span; not all zeros.
    pub span_id: [u8; 8],
    /// The client's span. `None` if the trace begins here.
    pub parent_id: Option<[u8; 8]>,
    /// The trace flags that are sent upstream.
    pub flags: u8,
    /// The client's `tracestate`; empty if there is none.
    pub state: Box<str>,
}

impl SpanContext {
    /// The span `span_id` of a request with these headers. If the client began no trace, this is
    /// the first span of `trace_id`, whose last seven bytes are random, and `sampling` decides
    /// whether it is recorded. Otherwise the client has decided.
    pub fn of(headers: &Headers, trace_id: [u8; 16], span_id: [u8; 8], sampling: Sampling) -> Self {
        match Parent::of(headers) {
            Some(Parent { trace_id, span_id: parent, flags }) => {
                Self { trace_id, span_id, parent_id: Some(parent), flags, state: state(headers) }
            }
            None => {
                let flags = RANDOM | if sampling.takes(&trace_id) { SAMPLED } else { 0 };
                Self { trace_id, span_id, parent_id: None, flags, state: "".into() }
            }
        }
    }

    /// Decides by `sampling` and this request's own `id`, whose last seven bytes are random,
    /// whether the span is recorded. The client's flag is ignored: a client could choose a trace
    /// that is sampled.
    pub fn sample(&mut self, id: &[u8; 16], sampling: Sampling) {
        let sampled = if sampling.takes(id) { SAMPLED } else { 0 };
        self.flags = self.flags & !SAMPLED | sampled;
    }

    /// Returns true if the span must be recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace's id in digits.
    pub fn trace(&self) -> String {
        let mut text = String::with_capacity(2 * self.trace_id.len());
        hex::push(&mut text, &self.trace_id);
        text
    }

    /// The value of `traceparent` for requests within this span.
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(LENGTH);
        text.push_str("00-");
        hex::push(&mut text, &self.trace_id);
        text.push('-');
        hex::push(&mut text, &self.span_id);
        text.push('-');
        hex::push(&mut text, &[self.flags]);
        text
    }

    /// Sets the header on a request: replaces the client's `traceparent`, or follows the other
    /// headers, which stay in their order. A `tracestate` without a valid trace is removed.
    pub fn put_on(&self, headers: &mut Headers) {
        if self.parent_id.is_none() {
            headers.remove(KnownName::Tracestate);
        }
        headers.set(KnownName::Traceparent, self.traceparent().as_bytes());
    }
}

/// The share of recorded traces among those begun here, decided by the trace's id alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Ids whose last 56 bits are less than this are not recorded.
    threshold: u64,
}

impl Sampling {
    /// `share` is between 0 (none) and 1 (all).
    pub fn new(share: f64) -> Self {
        let threshold = (1.0 - share.clamp(0.0, 1.0)) * (1_u64 << 56) as f64;
        Self { threshold: threshold as u64 }
    }

    fn takes(self, trace_id: &[u8; 16]) -> bool {
        let random = trace_id[9..].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        random >= self.threshold
    }
}

/// The content of a valid `traceparent`.
struct Parent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl Parent {
    /// Two headers count as none.
    fn of(headers: &Headers) -> Option<Self> {
        let mut values = headers.values(KnownName::Traceparent);
        let value = values.next().filter(|_| values.next().is_none())?;
        Self::parse(value)
    }

    /// Parses by section 3.2.2, and by section 4.3 for later versions, which may have more after a
    /// further hyphen.
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let [version] = hex::decode(&known[..2])?;
        let may_end_here = more.is_empty() || (version != 0 && more[0] == b'-');
        let has_hyphens = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
        let has_capitals = known.iter().any(u8::is_ascii_uppercase);
        if version == 0xff || !may_end_here || !has_hyphens || has_capitals {
            return None;
        }
        let trace_id = hex::decode(&known[3..35]).filter(|id| *id != [0; 16])?;
        let span_id = hex::decode(&known[36..52]).filter(|id| *id != [0; 8])?;
        let [flags] = hex::decode(&known[53..])?;
        Some(Self { trace_id, span_id, flags: flags & (SAMPLED | RANDOM) })
    }
}

/// All values as one list.
fn state(headers: &Headers) -> Box<str> {
    let values: Option<Vec<_>> = headers.values(KnownName::Tracestate).map(visible).collect();
    let state = values.unwrap_or_default().join(",");
    if state.len() > MAX_STATE { "".into() } else { state.into() }
}

#[cfg(test)]
mod tests;
