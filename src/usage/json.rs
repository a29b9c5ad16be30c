//! JSON, as much of it as metering needs: [`Grammar`] for texts in any pieces, and a way to read
//! the small values that were found with it.

mod grammar;
mod values;

pub(super) use grammar::{Grammar, Kind, Outline};
pub(super) use values::string;
