//! WebSocket frames (RFC 6455 section 5), read beside their way through a tunnel.
//!
//! Pure: bytes in, pieces of messages out. Nothing of a message is held, so that none is too long;
//! the one frame that is written here is the close frame.

mod close;
mod frames;

pub use close::{Close, close_frame};
pub(crate) use close::{GOING_AWAY, INTERNAL_ERROR};
pub use frames::{FrameError, FrameHandler, Frames, Opcode};
