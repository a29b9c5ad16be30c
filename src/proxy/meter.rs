//! The response body for the client: the upstream's frames, unchanged, each of which the meter
//! reads as it passes.
//!
//! An `Exchange` joins a response body, its meter and its record, and closes the record.
//! [`Metered`] passes the frames on and ends the client's response; it lists the endings.
//! [`DecodedBody`] decodes a stream from which an event may be withheld. [`Drains`] read the rest
//! of a response whose client has left. [`Session`] is the equivalent of an exchange for a
//! WebSocket.

mod cost_comment;
mod decoded_body;
mod drain;
mod encoded_tap;
mod exchange;
mod feedback;
mod id_watch;
mod member_permit;
mod metered;
mod policy;
mod response_meter;
#[cfg(test)]
mod scripted;
mod session;
mod told;

pub use cost_comment::CostComment;
pub use decoded_body::DecodedBody;
pub use drain::Drains;
pub use encoded_tap::EncodedTap;
pub use exchange::ResponseFrames;
pub use feedback::{UsageFeedback, UsageObserver};
pub use id_watch::IdWatch;
pub use member_permit::MemberPermit;
pub use metered::Metered;
pub use policy::ResponsePolicy;
pub use response_meter::ResponseMeter;
pub use session::{LONGEST_WAIT, Peer, Session, SessionEnd, TurnRefusal};
pub use told::Told;
