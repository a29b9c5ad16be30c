//! Holds each message of a client with limits until it is admitted.
//!
//! A service does nothing with an incomplete message, so that the wait for its end delays nothing.
//! Messages of both kinds are read, whole or in fragments. All bytes pass unchanged, except those
//! of a message that is refused. Control frames pass at once, also inside a message (RFC 6455
//! section 5.4).
//!
//! An incomplete message has the limits of a request body: its size, its share of the memory, and
//! its pace. While a refusal waits for its place in the other direction, or a message for a grant
//! of a limit, nothing more is read.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use memchr::memmem;

use crate::codec::websocket::{FrameHandler, Frames, Opcode, text_frame};
use crate::proxy::BodyLimits;
use crate::proxy::budget::Reserved;
use crate::proxy::meter::TurnRefusal;
use crate::proxy::pace::Pace;
use crate::record::error::{Error, Kind, Result};

/// The direction from the client, up to its last complete message.
pub(super) struct TurnGate {
    frames: Frames,
    /// The frames of the current message.
    held: Vec<u8>,
    /// The beginning of the current frame in `held`.
    frame_at: usize,
    limits: BodyLimits,
    client: Arc<str>,
    /// `None`: no part of a message is held.
    incomplete: Option<Incomplete>,
    /// A refusal that waits for a place between the messages of the service.
    reply: Option<Bytes>,
    /// The message in `held` is complete, and waits for a grant.
    is_waiting: bool,
    /// The last bytes were not read to their end, and the rest comes again.
    has_unread: bool,
    /// A close frame has passed.
    has_closed: bool,
}

/// The limits of a message of which a part has come.
struct Incomplete {
    reserved: Reserved,
    pace: Pace,
}

/// The bytes that may pass.
pub(super) struct Passed {
    pub(super) bytes: Bytes,
    /// A message asks for a response.
    pub(super) asks: bool,
    /// The memory of `bytes`, if they were held.
    pub(super) reserved: Option<Reserved>,
    /// The number of bytes that were not read: a refusal has to be written first.
    pub(super) unread: usize,
}

impl TurnGate {
    /// A gate for messages up to the size of a body that is buffered.
    pub(super) fn new(limits: BodyLimits, client: Arc<str>) -> Self {
        Self {
            frames: Frames::new(),
            held: Vec::new(),
            frame_at: 0,
            limits,
            client,
            incomplete: None,
            reply: None,
            is_waiting: false,
            has_unread: false,
            has_closed: false,
        }
    }

    /// Reads bytes of the client up to a message that is refused, and returns those of the messages
    /// that end in them. `admit` decides about the payload of a message.
    ///
    /// # Errors
    /// Fails if the session must end.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        mut admit: impl FnMut(&[u8]) -> std::result::Result<(), TurnRefusal>,
    ) -> Result<Passed> {
        let (mut pass, mut asks, mut reserved) = (Vec::new(), false, None);
        let mut before = self.held.len();
        while !bytes.is_empty() && !self.is_blocked() {
            let mut end = FrameEnd::None;
            let read = self.frames.push_frame(bytes, &mut end);
            let read = read.map_err(|fault| Error::from(Kind::MessageUnreadable).because(fault))?;
            self.held.extend_from_slice(&bytes[..read]);
            bytes = &bytes[read..];
            match end {
                FrameEnd::None => {}
                FrameEnd::Control(opcode) => {
                    self.has_closed |= opcode == Opcode::Close;
                    pass.extend(self.held.drain(self.frame_at..));
                }
                FrameEnd::Message => {
                    let payload = payload_of(&self.held);
                    asks |= memmem::find(&payload, b"response.create").is_some();
                    let whole = self.held.len();
                    reserved = reserved.or(self.decide(admit(&payload), &mut pass)?);
                    before = if self.is_waiting { whole } else { 0 };
                }
            }
            if self.frames.is_between_frames() {
                self.frame_at = self.held.len();
            }
        }
        self.has_unread = !bytes.is_empty();
        self.hold(before)?;
        Ok(Passed { bytes: pass.into(), asks, reserved, unread: bytes.len() })
    }

    /// Decides again about the message that waits for a grant. Returns it if it passes.
    ///
    /// # Errors
    /// Fails if the session must end.
    pub(super) fn retry(
        &mut self,
        admit: impl FnOnce(&[u8]) -> std::result::Result<(), TurnRefusal>,
    ) -> Result<Passed> {
        self.is_waiting = false;
        let payload = payload_of(&self.held);
        let asks = memmem::find(&payload, b"response.create").is_some();
        let mut pass = Vec::new();
        let reserved = self.decide(admit(&payload), &mut pass)?;
        self.frame_at = self.held.len();
        Ok(Passed { bytes: pass.into(), asks, reserved, unread: 0 })
    }

    /// Adds the message in `held` to those that pass, if it is `admitted`. Returns its memory.
    fn decide(
        &mut self,
        admitted: std::result::Result<(), TurnRefusal>,
        pass: &mut Vec<u8>,
    ) -> Result<Option<Reserved>> {
        match admitted {
            Ok(()) => {
                pass.append(&mut self.held);
                return self.complete();
            }
            Err(TurnRefusal::Grant) => self.is_waiting = true,
            Err(TurnRefusal::Session(error)) => return Err(error),
            Err(TurnRefusal::Turn(reply)) => {
                self.reply = Some(text_frame(&reply).into());
                (self.held, self.incomplete) = (Vec::new(), None);
            }
        }
        Ok(None)
    }

    /// Takes the memory of a message that is complete.
    fn complete(&mut self) -> Result<Option<Reserved>> {
        let Some(Incomplete { mut reserved, .. }) = self.incomplete.take() else { return Ok(None) };
        reserved.settle()?;
        Ok(Some(reserved))
    }

    /// Checks the limits of an incomplete message that grew from `before` bytes.
    fn hold(&mut self, before: usize) -> Result<()> {
        if self.held.is_empty() {
            // A long message leaves no long buffer behind.
            (self.incomplete, self.held) = (None, Vec::new());
            return Ok(());
        }
        let left = usize::try_from(self.frames.left()).unwrap_or(usize::MAX);
        self.limits.check_held(self.held.len().saturating_add(left))?;
        let incomplete = self.incomplete.get_or_insert_with(|| Incomplete {
            reserved: self.limits.budget.reserve(),
            pace: Pace::new(self.limits.min_rate),
        });
        incomplete.pace.heard(self.held.len().saturating_sub(before));
        incomplete.reserved.grow_to(self.held.len(), &self.client)
    }

    /// `Ready` if the rest of a message comes too slowly. Must be called while it is waited for.
    pub(super) fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match &mut self.incomplete {
            Some(Incomplete { reserved, pace }) => self.limits.poll_pace(pace, reserved, cx),
            None => Poll::Pending,
        }
    }

    /// The refusal as a frame for the client.
    pub(super) fn take_reply(&mut self) -> Option<Bytes> {
        self.reply.take()
    }

    pub(super) fn has_reply(&self) -> bool {
        self.reply.is_some()
    }

    /// Returns true if a message waits for a grant.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Returns true if nothing more is read for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_waiting || self.has_reply()
    }

    /// Returns true if the next bytes are the unread ones.
    pub(super) fn has_unread(&self) -> bool {
        self.has_unread
    }

    /// Returns true if a close frame has passed. All that passes are whole frames.
    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }
}

/// The payload of a message in these frames.
fn payload_of(frames: &[u8]) -> Vec<u8> {
    let mut payload = Payload(Vec::with_capacity(frames.len()));
    // The frames were read before.
    let _ = Frames::new().push(frames, &mut payload);
    payload.0
}

struct Payload(Vec<u8>);

impl FrameHandler for Payload {
    fn data(&mut self, _is_text: bool, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }
}

/// The end that bytes of a frame have brought.
enum FrameEnd {
    /// None, or that of a fragment.
    None,
    Message,
    Control(Opcode),
}

impl FrameHandler for FrameEnd {
    fn message_end(&mut self, _is_text: bool) {
        *self = Self::Message;
    }

    fn control(&mut self, opcode: Opcode, _payload: &[u8]) {
        *self = Self::Control(opcode);
    }
}

#[cfg(test)]
mod tests;
