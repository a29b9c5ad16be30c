//! Decodes server-sent events from bytes in pieces of any size.
//!
//! The rules are WHATWG's: HTML Living Standard, 9.2.5 "Parsing an event stream" and 9.2.6
//! "Interpreting an event stream". They are implemented in two independent steps: [`Lines`] finds
//! the lines, [`EventDecoder`] decodes them into events and passes these to an [`EventHandler`].
//!
//! Guarantees, all tested at every split:
//! * pieces do not matter: the same bytes give the same events at every split;
//! * a line within the pushed slice is borrowed, not copied; only unfinished lines are kept;
//! * every byte is read once, so the cost is linear even for a long line that arrives byte by byte;
//! * nothing is held between events, and never more than about twice [`LIMIT`] within one.
//!
//! The module does not interpret the data, nor decode its UTF-8, since most of the data is never
//! read: an [`Event`] has bytes, and [`Event::data_str`] decodes them.

mod decoder;
mod event;
mod lines;

pub use decoder::{EventDecoder, Position};
pub use event::{Event, EventHandler};
pub use lines::{Line, Lines, block_length};

/// The longest line, and the most data of one event, that is held in one piece: ten times the
/// largest text event on record. Larger data goes to [`EventHandler::oversize`] in pieces and is
/// counted as skipped.
pub const LIMIT: usize = 1 << 20;
