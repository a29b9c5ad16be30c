//! Reads WebSocket frames (RFC 6455 section 5) while they pass through a tunnel.
//!
//! Pure: bytes in, pieces of messages out. The reader holds nothing of a message, so that none is
//! too long. The module writes close frames, and short text messages of a server.

mod close;
mod frames;
mod text;

pub use close::{Close, close_frame};
pub(crate) use close::{GOING_AWAY, INTERNAL_ERROR, POLICY_VIOLATION};
pub use frames::{FrameError, FrameHandler, Frames, Opcode};
pub use text::text_frame;
