//! Server-sent events, from bytes in any pieces.
//!
//! The rule is the WHATWG's: HTML Living Standard, 9.2.5 "Parsing an event stream" and 9.2.6
//! "Interpreting an event stream". It lives here in two steps, each of which can be read alone:
//! [`Lines`] finds the lines, [`EventDecoder`] makes events of them and shows them to an
//! [`EventHandler`].
//!
//! Promises, all of them tested at every split:
//! * pieces do not matter: the same bytes give the same events, however they were cut;
//! * a line that lies whole in the pushed slice is lent, not copied; only what is unfinished is
//!   kept;
//! * every byte is looked at once, so the cost is linear also when a long line comes byte by byte;
//! * nothing is held between events, and never more than about twice [`LIMIT`] inside one.
//!
//! Not here: the meaning of the data. Decoding UTF-8 is the reader's affair, since most
//! of the data is never looked at: an [`Event`] has bytes, and [`Event::data_str`] for those who
//! want text.

mod decoder;
mod event;
mod lines;

pub use decoder::{EventDecoder, Position};
pub use event::{Event, EventHandler};
pub use lines::{Line, Lines};

/// The longest line, and the most data of one event, that is held in one piece: ten times the
/// largest text event on record. What is larger goes to [`EventHandler::oversize`] in pieces and is
/// counted as skipped.
pub const LIMIT: usize = 1 << 20;
