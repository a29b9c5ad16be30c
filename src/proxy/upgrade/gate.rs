//! Holds each message of a client with limits until it is admitted.
//!
//! A service does nothing with an incomplete message, so that the wait for its end delays nothing.
//! Messages of both kinds are read, whole or in fragments. All bytes pass unchanged, except those
//! of a message that is refused. A control frame inside a message waits with it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;

use crate::codec::websocket::{FrameHandler, Frames, text_frame};
use crate::proxy::BodyLimits;
use crate::proxy::budget::Reserved;
use crate::proxy::meter::{Session, TurnRefusal};
use crate::record::error::{Error, Kind, Result};

/// The most refusals that wait for a place between the messages of the service.
const MOST_REPLIES: usize = 16;

/// The direction from the client, up to its last complete message.
pub(super) struct TurnGate {
    frames: Frames,
    /// The bytes of the current message.
    held: Vec<u8>,
    /// Its payload so far.
    payload: Vec<u8>,
    limits: BodyLimits,
    client: Arc<str>,
    /// The memory of a message of which a part has come.
    reserved: Option<Reserved>,
    replies: VecDeque<Vec<u8>>,
}

/// The bytes that may pass.
pub(super) struct Passed {
    pub(super) bytes: Bytes,
    /// A message asks for a response.
    pub(super) asks: bool,
}

impl TurnGate {
    /// A gate for messages up to the size of a body that is buffered.
    pub(super) fn new(limits: BodyLimits, client: Arc<str>) -> Self {
        Self {
            frames: Frames::new(),
            held: Vec::new(),
            payload: Vec::new(),
            limits,
            client,
            reserved: None,
            replies: VecDeque::new(),
        }
    }

    /// Reads bytes of the client, and returns those of the messages that end in them.
    ///
    /// # Errors
    /// Fails if the session must end.
    pub(super) fn push(&mut self, mut bytes: &[u8], session: &mut Session) -> Result<Passed> {
        let (mut pass, mut asks) = (Vec::new(), false);
        while !bytes.is_empty() {
            let mut message = Message { payload: &mut self.payload, has_ended: false };
            let read = self.frames.push_frame(bytes, &mut message);
            let read = read.map_err(|fault| Error::from(Kind::MessageUnreadable).because(fault))?;
            let has_ended = message.has_ended;
            self.held.extend_from_slice(&bytes[..read]);
            bytes = &bytes[read..];
            if !self.frames.is_between_messages() {
                continue;
            }
            if has_ended {
                asks |= memmem::find(&self.payload, b"response.create").is_some();
                match session.ask(&self.payload) {
                    Ok(()) => {}
                    Err(TurnRefusal::Session(error)) => return Err(error),
                    Err(TurnRefusal::Turn(reply)) => {
                        if self.replies.len() >= MOST_REPLIES {
                            return Err(Kind::TurnsUnanswered { most: MOST_REPLIES }.into());
                        }
                        self.replies.push_back(text_frame(&reply));
                        self.held.clear();
                    }
                }
                self.payload.clear();
            }
            pass.append(&mut self.held);
        }
        self.reserve()?;
        Ok(Passed { bytes: pass.into(), asks })
    }

    /// Takes the memory of an incomplete message from the budget of bodies.
    fn reserve(&mut self) -> Result<()> {
        let size = self.held.len() + self.payload.len();
        if size == 0 {
            // A long message leaves no long buffers behind.
            (self.reserved, self.held, self.payload) = (None, Vec::new(), Vec::new());
            return Ok(());
        }
        self.limits.check_held(self.payload.len())?;
        self.reserved.get_or_insert_with(|| self.limits.budget.reserve()).grow_to(size, &self.client)
    }

    /// The next refusal as a frame for the client.
    pub(super) fn take_reply(&mut self) -> Option<Bytes> {
        self.replies.pop_front().map(Bytes::from)
    }

    pub(super) fn has_reply(&self) -> bool {
        !self.replies.is_empty()
    }
}

/// Collects the payload of a message.
struct Message<'a> {
    payload: &'a mut Vec<u8>,
    has_ended: bool,
}

impl FrameHandler for Message<'_> {
    fn data(&mut self, _is_text: bool, piece: &[u8]) {
        self.payload.extend_from_slice(piece);
    }

    fn message_end(&mut self, _is_text: bool) {
        self.has_ended = true;
    }
}
