//! Reads WebSocket frames (RFC 6455 section 5) while they pass through a tunnel.
//!
//! Pure: bytes in, pieces of messages out. The reader holds nothing of a message, so that none is
//! too long. The module writes a single kind of frame, the close frame.

mod close;
mod frames;

pub use close::{Close, close_frame};
pub(crate) use close::{GOING_AWAY, INTERNAL_ERROR, POLICY_VIOLATION};
pub use frames::{FrameError, FrameHandler, Frames, Opcode};
