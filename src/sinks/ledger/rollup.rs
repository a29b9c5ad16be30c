//! Hourly sums of the ledger's rows, in the same file.
//!
//! Rows are added up in the order of writing, a few thousand at a time, and the place up to which
//! that was done is stored in the same transaction. So the sums of hours and the rows behind that
//! place are all rows, each once, at any moment: also after a crash, with several writers, and if a
//! program of an earlier version has written rows. Rows never change, and are deleted only after
//! they are added up.
//!
//! An hour is one blob of entries ([`Block`]), each with the sums of rows that agree in all fields
//! by which reports select, group and price them ([`Key`]). A query reads whole hours from their
//! sums, and rows for hours that it splits. Costs are computed when sums are read, so an entry has
//! the billable tokens of its rows, which are linear in every price. The length of the input, which
//! prices for long contexts depend on, is part of the key by class ([`lengths`]).
//!
//! | module | what it is |
//! |---|---|
//! | `key` | the fields in which the rows of an entry agree |
//! | `tally` | the sums of an entry |
//! | `times` | times to the first token by class |
//! | [`lengths`] | classes of the input's length |
//! | `block`, `varint` | the entries of an hour as bytes |
//! | `hour` | the entries of an hour while they are added up |
//! | `rows` | rows as keys and sums |
//! | `fold` | adds rows to their hours |
//! | `rebuild` | replaces the hours whose rows exist |

mod block;
mod fold;
mod hour;
mod key;
pub(super) mod lengths;
mod rebuild;
mod rows;
mod tally;
pub(super) mod times;
mod varint;

pub(super) use block::Block;
pub(super) use fold::{added_up_to, damaged, exists, fold, gone_before, keep_gone_before, sweep};
pub(super) use key::{Key, Number, Text};
pub use rebuild::{Rebuilt, rebuild};
pub(super) use tally::Tally;

/// The length of an hour in nanoseconds.
pub(super) const HOUR: i64 = 3_600_000_000_000;

/// The hours since 1970 at a time in nanoseconds.
pub(super) fn hour_of(at: i64) -> i64 {
    at.div_euclid(HOUR)
}

#[cfg(test)]
mod tests;
