//! The stages of a request, one file each, in their order: [`Received`], [`Authenticated`],
//! [`Buffered`], [`Routed`], [`Prepared`].

mod authenticated;
mod buffered;
mod look;
mod prepared;
mod received;
mod routed;

pub(super) use authenticated::{Authenticated, Body};
pub(super) use buffered::Buffered;
pub(super) use prepared::Prepared;
pub(super) use received::Received;
pub(super) use routed::Routed;
