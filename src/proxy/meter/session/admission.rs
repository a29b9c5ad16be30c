//! The admission of a client's message: of the ids that it names, and of the turn for which it asks.

use std::task::{Context, Poll};

use super::Session;
use super::wait::IdCheck;
use crate::record::MessageRefusal;
use crate::record::error::{Error, Kind};

/// The reason why a message of the client does not pass.
#[derive(Debug)]
pub enum TurnRefusal {
    /// The message waits until [`Session::poll_grant`] is ready, and is shown again then.
    Grant,
    /// The client is sent this message, and the session goes on.
    Turn(String),
    /// The session ends.
    Session(Error),
}

impl Session {
    /// Returns true if each message of the client is shown to [`Self::admit`] before it passes: limits
    /// apply to its turn, or the fleet knows whose the ids in it are.
    pub fn admits_messages(&mut self) -> bool {
        let asks_fleet = self.reading.as_ref().and_then(|reading| reading.heard.ids.as_ref());
        asks_fleet.is_some_and(|ids| ids.asks_fleet()) || self.entry.turns().is_some()
    }

    /// Admits a message of the client. A refusal has the message for the client.
    ///
    /// # Errors
    /// Fails if the message must not pass, or not yet.
    pub fn admit(&mut self, text: &[u8]) -> Result<(), TurnRefusal> {
        let may_wait = self.wait.is_possible();
        let admitted = match self.admit_ids(text, may_wait) {
            Ok(()) => self.admit_turn(text, may_wait),
            refused => refused,
        };
        let before = std::mem::take(&mut self.wait);
        match admitted {
            Ok(()) => Ok(()),
            Err(MessageRefusal::Grant) => {
                self.wait = before;
                self.wait.begin();
                Err(TurnRefusal::Grant)
            }
            Err(MessageRefusal::Session(error)) => Err(TurnRefusal::Session(error)),
            Err(MessageRefusal::Turn(error, event_id)) => {
                let id = self.entry.uuid().to_string();
                let message =
                    error.to_message(self.entry.row().endpoint.as_deref(), &id, event_id.as_deref());
                self.refused.get_or_insert_with(|| format!("a turn was refused: {}: {error}", error.code()));
                Err(TurnRefusal::Turn(message))
            }
        }
    }

    /// Waits for the reply that the latest message lacks. `Ready` when it is to be shown again.
    pub fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { wait, entry, .. } = self;
        wait.poll(cx, |cx| entry.turns().map_or(Poll::Ready(()), |turns| turns.poll_grant(cx)))
    }

    /// Refuses a message with an id of another client. One with an id that is unknown here waits for
    /// what the fleet knows of it.
    fn admit_ids(&mut self, text: &[u8], may_wait: bool) -> Result<(), MessageRefusal> {
        let ids = self.reading.as_ref().and_then(|reading| reading.heard.ids.as_deref());
        let Some(ids) = ids.filter(|ids| ids.asks_fleet()) else { return Ok(()) };
        let asked = match std::mem::replace(self.wait.ids(), IdCheck::Done) {
            IdCheck::Done => return Ok(()),
            IdCheck::Asked(ask) => Some(ask),
            IdCheck::Due => None,
        };
        let unknown = ids.unknown_in(text).map_err(|kind| MessageRefusal::Session(kind.into()))?;
        match asked {
            _ if unknown.is_empty() => Ok(()),
            None if may_wait && let Some(ask) = ids.ask(&unknown) => {
                *self.wait.ids() = IdCheck::Asked(ask);
                Err(MessageRefusal::Grant)
            }
            Some(ask) if ask.has_replied() => Ok(()),
            _ if ids.refuses_unknown() => Err(MessageRefusal::Turn(Kind::LimitsUnavailable.into(), None)),
            _ => Ok(()),
        }
    }

    /// Admits the turn for which a message asks, if it does.
    fn admit_turn(&mut self, text: &[u8], may_wait: bool) -> Result<(), MessageRefusal> {
        let Some(turns) = self.entry.turns() else { return Ok(()) };
        turns.on_message(text, may_wait)?;
        if let Some(admitted) = &mut self.admitted {
            admitted.data(text);
            admitted.message_end();
        }
        Ok(())
    }
}
