//! The reading of a response.

use std::rc::Rc;
use std::time::Instant;

use crate::llm::usage::Progress;
use crate::proxy::meter::{IdWatch, ResponseMeter};
use crate::record::Entry;
use crate::record::error::Error;
use crate::support::flow::StreamTiming;

/// The reading of a response so far. Pieces of the response are shown to it.
pub(super) struct Reading {
    pub(super) kind: ResponseMeter,
    pub(super) entry: Entry,
    /// The meter's findings in the last frame.
    pub(super) progress: Progress,
    /// The times at which the first and the last event arrived.
    pub(super) events: Option<(Instant, Instant)>,
    /// `None` for a body that is not a stream.
    pub(super) timing: Option<Rc<StreamTiming>>,
    /// The number of events that ended in the last frame.
    pub(super) fresh: u32,
    /// The error with which the stream ends, unless the last event has passed.
    pub(super) cut: Option<Error>,
    /// Reads the ids of a response without a content coding.
    pub(super) ids: Option<Box<IdWatch>>,
}

impl Reading {
    /// Meters the bytes read at `read`.
    pub(super) fn saw(&mut self, data: &[u8], read: Instant) {
        // The record is open until the body has ended.
        self.entry.row().response_bytes += data.len() as u64;
        if let Some(ids) = &mut self.ids {
            ids.push(data);
        }
        if !self.kind.is_events() {
            self.kind.push(data);
            return;
        }
        let progress = self.kind.push(data);
        self.progress = progress;
        if progress.events == 0 {
            return;
        }
        if progress.first_token {
            self.entry.first_token(read);
        }
        self.events = Some((self.events.map_or(read, |(first, _)| first), read));
        self.fresh = progress.events;
        if let Some(timing) = &self.timing {
            timing.on_read(read, progress.events);
        }
        if let Some((events, output_tokens)) = self.kind.progress() {
            self.cut = self.entry.progressed(events, output_tokens);
        }
    }

    /// Counts the events of the last frame as passed on, except those withheld.
    pub(super) fn passes(&mut self, withheld: u32) {
        if let Some(timing) = &self.timing {
            timing.on_passed(std::mem::take(&mut self.fresh).saturating_sub(withheld));
        }
    }
}
