//! The beginning of a stream, held until its first event shows whether the stream is an error.
//! After an error another member can be tried, since the client has received nothing.
//!
//! The held bytes are part of the body when it is read. With a content coding, the coded bytes are
//! held, and a decoded copy is examined.

use std::time::Duration;

use tokio::time::timeout;

use crate::balance::{FIRST_EVENT_LIMIT, FirstEvent, UpstreamError};
use crate::codec::coding::{Codings, ContentDecoder};
use crate::codec::sse::{Event, EventDecoder, EventHandler};
use crate::upstream::UpstreamResponse;

/// The beginning of a stream.
pub(super) enum StreamStart {
    /// A response, or undecided at the limit of time or bytes: it is relayed.
    Response,
    Error(UpstreamError),
    /// The stream ended without an event of a response.
    Nothing,
    /// The stream broke off before its first event.
    Broken,
}

/// Reads the beginning of a stream: up to the first conclusive event, for at most `limit` after the
/// first byte, and as many bytes as `may_hold` allows.
pub(super) async fn stream_start(
    response: &mut UpstreamResponse,
    limit: Duration,
    mut may_hold: impl FnMut(usize) -> bool,
) -> StreamStart {
    let mut look = match Codings::of(&response.head.headers) {
        Codings::Identity => Look::new(None),
        Codings::Known(codings) => Look::new(Some(ContentDecoder::new(&codings))),
        Codings::Unknown => return StreamStart::Response,
    };
    // Silence before the first byte is bounded by the upstream's own timeouts.
    response.body.read_while(FIRST_EVENT_LIMIT, |bytes, _| bytes.is_empty()).await;
    let undecided = |bytes: &[u8], _| may_hold(bytes.len()) && look.needs_more_than(bytes);
    let in_time = timeout(limit, response.body.read_while(FIRST_EVENT_LIMIT, undecided)).await.is_ok();
    let has_ended = in_time && response.body.is_read_ahead();
    if has_ended {
        // SDKs read an event without its blank line.
        look.events.finish(&mut look.seen);
    }
    match look.seen.decision {
        FirstEvent::Failed(error) => StreamStart::Error(error),
        FirstEvent::Undecided if has_ended && !look.is_broken && look.seen.events == 0 => {
            StreamStart::Nothing
        }
        FirstEvent::Undecided if response.body.failure().is_some() && look.seen.events == 0 => {
            StreamStart::Broken
        }
        FirstEvent::Undecided | FirstEvent::Begun => StreamStart::Response,
    }
}

struct Look {
    coding: Option<ContentDecoder>,
    events: EventDecoder,
    seen: Seen,
    /// The number of examined bytes.
    length: usize,
    /// The bytes are not valid in their coding.
    is_broken: bool,
}

/// The events so far.
#[derive(Default)]
struct Seen {
    decision: FirstEvent,
    /// Events apart from `[DONE]`, keep-alives and empty ones.
    events: usize,
}

impl Look {
    fn new(coding: Option<ContentDecoder>) -> Self {
        let events = EventDecoder::with_limit(FIRST_EVENT_LIMIT);
        Self { coding, events, seen: Seen::default(), length: 0, is_broken: false }
    }

    /// Examines the stream so far. Returns true if it does not decide yet.
    fn needs_more_than(&mut self, bytes: &[u8]) -> bool {
        let new = &bytes[self.length.min(bytes.len())..];
        self.length = bytes.len();
        let (events, seen) = (&mut self.events, &mut self.seen);
        match &mut self.coding {
            None => events.push(new, seen),
            Some(coding) => {
                self.is_broken |= coding.push(new, &mut |piece| events.push(piece, seen)).is_err();
            }
        }
        !self.is_broken && !self.seen.decision.is_decided()
    }
}

impl EventHandler for Seen {
    fn event(&mut self, event: Event<'_>) {
        self.events += usize::from(!FirstEvent::is_nothing(&event));
        self.decision.event(event);
    }

    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        self.decision.unknown_field(name, value);
    }

    fn oversize(&mut self, piece: &[u8]) {
        self.events += 1;
        self.decision.oversize(piece);
    }

    fn oversize_end(&mut self) {
        self.decision.oversize_end();
    }
}
