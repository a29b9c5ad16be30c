//! JSON as metering needs it: [`Grammar`] for texts in pieces of any size, and a reader of small
//! complete values.

mod grammar;
mod values;

pub(super) use grammar::{Grammar, Kind, Outline};
pub(super) use values::string;
