//! Which upstream gets the next attempt at a request, and in which variant.
//!
//! Decisions only: no upstream, no socket, no clock. A route leads to a [`Target`], whose members
//! are numbered. [`Attempts`] chooses a member for each attempt, within a [`RetryPolicy`].

mod attempts;
mod policy;
mod target;

pub use attempts::{Attempt, Attempts, Variant};
pub use policy::RetryPolicy;
pub use target::Target;
