//! The body that a client is served: the upstream's frames, unchanged, each shown to the meter as it passes.
//!
//! It is also where an exchange ends, in one of the ways that [`Metered`] lists, and where its record is closed.

mod kind;
mod metered;

pub use kind::Kind;
pub use metered::Metered;
