//! An observer of what a request uses, from its admission to its record.

use std::fmt::Debug;

use super::error::Error;
use super::{Note, UsageRecord};

/// Observes a request: it counts against limits, for example. Dropping the observer means that the
/// record was lost.
pub trait UseObserver: Debug + Send {
    /// Called while a stream passes, with the events so far, and the output tokens if any were
    /// reported. Returns the error with which the stream must end, unless this was its last event.
    fn on_progress(&mut self, events: u64, output_tokens: Option<u64>) -> Option<Error>;

    /// A note of the use so far, for the record.
    fn note(&self) -> Option<Note> {
        None
    }

    /// Called when the exchange has ended and its record waits for an estimate.
    fn on_end(&mut self);

    /// Called once, with the record as the sinks get it.
    fn on_close(self: Box<Self>, record: &UsageRecord);
}
