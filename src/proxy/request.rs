//! The stages of a request, one file each, in their order: [`Received`], [`Authenticated`],
//! [`Buffered`], [`Routed`], [`Prepared`].

mod admitted;
mod authenticated;
mod buffered;
mod clock;
mod expected;
mod granted;
mod holding;
mod limit_wait;
mod look;
mod member_limits;
mod permitted;
mod planned;
mod prepared;
mod reached;
mod received;
mod routed;
mod running;
mod turns;
mod used;

pub(super) use admitted::check_client;
pub(super) use authenticated::{Authenticated, Body};
pub(super) use buffered::Buffered;
pub use clock::limit_time;
pub(super) use granted::GrantTime;
pub(super) use member_limits::MemberLimits;
pub(super) use planned::{NextMember, NoMember};
pub(super) use prepared::{Outbound, Prepared};
pub(super) use received::Received;
pub(super) use routed::Routed;
pub use used::{requests as request_use, tokens as token_use};
