//! The body that a client is served: the upstream's frames, unchanged, each shown to the meter as
//! it passes.
//!
//! An `Exchange` is what is metered: the answer, its meter and its record, which is closed there.
//! [`Metered`] is what passes: it hands the frames to the client, and tells it how the answer ends.
//! It lists the ways. [`Decoded`] undoes the content coding of a stream from which an event may be
//! withheld. [`Drains`] read the rest of an answer whose client has left.

mod coded;
mod decoded;
mod drain;
mod exchange;
mod kind;
mod lesson;
mod metered;
mod session;

pub use coded::Coded;
pub use decoded::Decoded;
pub use drain::{Drains, Underway};
pub use exchange::AnswerFrames;
pub use kind::Kind;
pub use lesson::{Learns, Lesson};
pub use metered::{Metered, Terms};
pub use session::{Peer, Session, SessionEnd};
