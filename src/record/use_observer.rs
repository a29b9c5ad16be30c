//! An observer of what a request uses, from its admission to its record.

use std::fmt::Debug;
use std::task::{Context, Poll};

use super::error::{Error, Result};
use super::{Note, UsageRecord};
use crate::llm::usage::TurnStep;

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

    /// The observer of the turns of a WebSocket session. `None`: turns are not observed.
    fn turns(&mut self) -> Option<&mut dyn TurnObserver> {
        None
    }

    /// Called when the exchange has ended and its record waits for an estimate.
    fn on_end(&mut self);

    /// Called once, with the record as the sinks get it.
    fn on_close(self: Box<Self>, record: &UsageRecord);
}

/// Observes the turns of a session, each of which is a response.
pub trait TurnObserver {
    /// Called with each message of the client, and again after each wait for a grant. `may_wait`: the
    /// longest wait is not over.
    ///
    /// # Errors
    /// Fails if the message must not pass. The session ends unless it is [`MessageRefusal::Turn`] or
    /// [`MessageRefusal::Grant`].
    fn on_message(&mut self, text: &[u8], may_wait: bool) -> std::result::Result<(), MessageRefusal>;

    /// Waits for a reply about the grant that the latest message lacks. `Ready` when its turn is to be
    /// decided.
    fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Called with each step of a turn.
    ///
    /// # Errors
    /// Fails if the session must end.
    fn on_step(&mut self, step: &TurnStep) -> Result<()>;
}

/// The reason why a message of a client must not pass.
#[derive(Clone, Debug)]
pub enum MessageRefusal {
    /// A limit lacks a grant, for which it has asked. The message is held until
    /// [`TurnObserver::poll_grant`] is ready, and shown again.
    Grant,
    /// The client gets the error, and the session goes on. With the client's own id of the message.
    Turn(Error, Option<String>),
    /// The session ends.
    Session(Error),
}
