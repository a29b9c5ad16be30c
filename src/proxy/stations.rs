//! The stations on a request's way, one file each, in their order: [`Arrived`], [`Known`],
//! [`Held`], [`Routed`], [`Ready`].

mod arrived;
mod held;
mod known;
mod look;
mod ready;
mod routed;

pub(super) use arrived::Arrived;
pub(super) use held::Held;
pub(super) use known::{Body, Known};
pub(super) use ready::{Answered, Ready};
pub(super) use routed::Routed;
