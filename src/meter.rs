//! The body that a client is served: the upstream's frames, unchanged, each shown to the meter as
//! it passes.
//!
//! An `Exchange` is what is metered: the answer, its meter and its record, which is closed there.
//! [`Metered`] is what passes: it hands the frames to the client, and tells it how the answer ends.
//! It lists the ways. [`DecodedBody`] undoes the content coding of a stream from which an event may be
//! withheld. [`Drains`] read the rest of an answer whose client has left.

mod decoded_body;
mod drain;
mod encoded_tap;
mod exchange;
mod feedback;
mod metered;
mod response_meter;
#[cfg(test)]
mod scripted;
mod session;

pub use decoded_body::DecodedBody;
pub use drain::Drains;
pub use encoded_tap::EncodedTap;
pub use exchange::ResponseFrames;
pub use feedback::{UsageFeedback, UsageObserver};
pub use metered::{Metered, ResponsePolicy};
pub use response_meter::ResponseMeter;
pub use session::{Peer, Session, SessionEnd};
