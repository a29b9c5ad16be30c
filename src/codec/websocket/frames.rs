//! Reads the frames of one direction.

use std::fmt;

/// Receives the messages and control frames of one direction.
pub trait FrameHandler {
    /// A piece of a message's payload, unmasked; `is_text` is the message's kind. The pieces of a
    /// message come in order, without pieces of another message between them.
    fn data(&mut self, is_text: bool, piece: &[u8]) {
        let _ = (is_text, piece);
    }

    /// The message has ended.
    fn message_end(&mut self, is_text: bool) {
        let _ = is_text;
    }

    /// A control frame, complete and unmasked. It may come inside a message.
    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        let _ = (opcode, payload);
    }
}

/// A control frame's kind (RFC 6455 section 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// The last frame of its direction.
    Close,
    /// Requires a pong.
    Ping,
    /// The response to a ping.
    Pong,
}

/// A violation of the framing. The rest of the direction cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A reserved bit is set, although the proxy offered no extension.
    Reserved,
    /// The opcode is not one of RFC 6455.
    Opcode,
    /// A control frame is longer than 125 bytes, or not final.
    Control,
    /// A continuation outside of a message, or a beginning inside one.
    Order,
    /// A length of 2^63 and more.
    Length,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reserved => "a reserved bit is set",
            Self::Opcode => "an unknown opcode",
            Self::Control => "a control frame in pieces or too long",
            Self::Order => "a message inside another, or a continuation of none",
            Self::Length => "a length above the limit",
        })
    }
}

impl std::error::Error for FrameError {}

/// The longest head: two bytes, the length, the mask.
const MAX_HEAD: usize = 14;

/// The longest payload of a control frame.
const MAX_CONTROL: usize = 125;

/// The largest number of bytes that are unmasked in one step.
const PIECE: usize = 1024;

/// Reads frames in pieces of any size. It holds an incomplete frame head and an incomplete control
/// frame, but nothing of a message.
///
/// ```
/// use streamgauge::codec::websocket::{Frames, FrameHandler};
///
/// #[derive(Default)]
/// struct Text(Vec<u8>);
/// impl FrameHandler for Text {
///     fn data(&mut self, _is_text: bool, piece: &[u8]) {
///         self.0.extend_from_slice(piece);
///     }
/// }
///
/// let (mut frames, mut text) = (Frames::new(), Text::default());
/// frames.push(b"\x01\x03Hel\x80", &mut text)?;
/// frames.push(b"\x02lo", &mut text)?;
/// assert_eq!(text.0, b"Hello");
/// # Ok::<(), streamgauge::codec::websocket::FrameError>(())
/// ```
#[derive(Debug, Default)]
pub struct Frames {
    at: At,
    /// The kind of the current message.
    message: Option<bool>,
    failed: Option<FrameError>,
}

#[derive(Debug)]
enum At {
    Head { bytes: [u8; MAX_HEAD], have: usize },
    Payload(Payload),
}

impl Default for At {
    fn default() -> Self {
        Self::Head { bytes: [0; MAX_HEAD], have: 0 }
    }
}

/// The rest of a frame's payload.
#[derive(Debug)]
struct Payload {
    kind: Kind,
    is_final: bool,
    left: u64,
    /// Rotated so that the next byte's mask comes first.
    mask: [u8; 4],
}

#[derive(Debug)]
enum Kind {
    Data { is_text: bool },
    Control { opcode: Opcode, held: Vec<u8> },
}

impl Frames {
    /// A reader at the beginning of a direction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// Fails if the bytes are not a frame. All later calls return the same error.
    pub fn push(&mut self, mut bytes: &[u8], sink: &mut impl FrameHandler) -> Result<(), FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while !bytes.is_empty() {
            let (read, _) = self.step(bytes, sink)?;
            bytes = &bytes[read..];
        }
        Ok(())
    }

    /// Reads a piece up to the end of the current frame, and returns the number of bytes read.
    ///
    /// # Errors
    /// Fails like [`Frames::push`].
    pub fn push_frame(&mut self, bytes: &[u8], sink: &mut impl FrameHandler) -> Result<usize, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut at = 0;
        while at < bytes.len() {
            let (read, has_ended) = self.step(&bytes[at..], sink)?;
            at += read;
            if has_ended {
                break;
            }
        }
        Ok(at)
    }

    /// Reads a part of `bytes`, which are not empty. Returns its length, and whether a frame ended.
    fn step(&mut self, bytes: &[u8], sink: &mut impl FrameHandler) -> Result<(usize, bool), FrameError> {
        let read = match &mut self.at {
            At::Head { bytes: head, have } => {
                // Each byte may change the head's length, so it is read byte by byte.
                head[*have] = bytes[0];
                *have += 1;
                let (head, have) = (*head, *have);
                self.head(&head[..have]).inspect_err(|error| self.failed = Some(*error))?;
                1
            }
            At::Payload(payload) => payload.read(bytes, sink),
        };
        Ok((read, self.end_frame(sink)))
    }

    /// Returns true if a frame may be inserted here.
    pub fn is_between_frames(&self) -> bool {
        self.failed.is_none() && matches!(self.at, At::Head { have: 0, .. })
    }

    /// The bytes of the current frame's payload that are still to come, once its head is read.
    pub fn left(&self) -> u64 {
        match &self.at {
            At::Head { .. } => 0,
            At::Payload(payload) => payload.left,
        }
    }

    /// Returns true if a message may be inserted here.
    pub fn is_between_messages(&self) -> bool {
        self.is_between_frames() && self.message.is_none()
    }

    /// Returns true after an error.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Parses an incomplete or complete head; begins the payload when it is complete.
    fn head(&mut self, head: &[u8]) -> Result<(), FrameError> {
        let [first, second, rest @ ..] = head else { return Ok(()) };
        let length = usize::from(second & 0x7f);
        let (length_size, mask_size) = (
            match length {
                126 => 2,
                127 => 8,
                _ => 0,
            },
            if second & 0x80 == 0 { 0 } else { 4 },
        );
        if rest.len() < length_size + mask_size {
            return Ok(());
        }
        let (extended, mask) = rest.split_at(length_size);
        let left = match length_size {
            0 => length as u64,
            _ => extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if left >> 63 != 0 {
            return Err(FrameError::Length);
        }
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        let is_final = first & 0x80 != 0;
        let kind = match (first & 0x0f, self.message) {
            (0, Some(is_text)) => Kind::Data { is_text },
            (opcode @ (1 | 2), None) => Kind::Data { is_text: opcode == 1 },
            (0..=2, _) => return Err(FrameError::Order),
            (8..=10, _) if !is_final || left > MAX_CONTROL as u64 => return Err(FrameError::Control),
            (8, _) => Kind::Control { opcode: Opcode::Close, held: Vec::new() },
            (9, _) => Kind::Control { opcode: Opcode::Ping, held: Vec::new() },
            (10, _) => Kind::Control { opcode: Opcode::Pong, held: Vec::new() },
            _ => return Err(FrameError::Opcode),
        };
        let mask = mask.try_into().unwrap_or_default();
        self.at = At::Payload(Payload { kind, is_final, left, mask });
        Ok(())
    }

    /// Ends the frame if it is complete, and returns true then.
    fn end_frame(&mut self, sink: &mut impl FrameHandler) -> bool {
        let At::Payload(Payload { kind, is_final, left: 0, .. }) = &self.at else { return false };
        match kind {
            Kind::Data { is_text } => {
                self.message = Some(*is_text).filter(|_| !is_final);
                if *is_final {
                    sink.message_end(*is_text);
                }
            }
            Kind::Control { opcode, held } => sink.control(*opcode, held),
        }
        self.at = At::default();
        true
    }
}

impl Payload {
    /// Reads the frame's part of the bytes, and returns its length.
    fn read(&mut self, bytes: &[u8], sink: &mut impl FrameHandler) -> usize {
        let size = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= size as u64;
        if self.mask == [0; 4] {
            self.give(&bytes[..size], sink);
            return size;
        }
        let mut piece = [0; PIECE];
        for masked in bytes[..size].chunks(PIECE) {
            let key = self.mask;
            let clear = &mut piece[..masked.len()];
            for (at, (clear, masked)) in clear.iter_mut().zip(masked).enumerate() {
                *clear = masked ^ key[at & 3];
            }
            self.mask.rotate_left(masked.len() & 3);
            self.give(&piece[..masked.len()], sink);
        }
        size
    }

    fn give(&mut self, piece: &[u8], sink: &mut impl FrameHandler) {
        match &mut self.kind {
            Kind::Data { is_text } => sink.data(*is_text, piece),
            Kind::Control { held, .. } => held.extend_from_slice(piece),
        }
    }
}

#[cfg(test)]
mod tests;
