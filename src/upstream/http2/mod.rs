//! HTTP/2 to an upstream: several connections per origin, a stream of one of them per request.
//!
//! The protocol is the `h2` crate's, which is what hyper speaks HTTP/2 with. It is used without
//! hyper's client around it, for what that client cannot do: it hands a request's body to a task of
//! its own, which goes on while the stream's window is full, so that an exchange that was given up
//! would not be reset; it does not tell how many streams the peer allows; and it takes a stream
//! that was reset with `CANCEL` for one that ended.
//!
//! A connection has one task, which reads and writes its frames (`connection`). Everything else of
//! a request runs in the task that serves its client, as with HTTP/1.1: the body goes out when it
//! is polled, the answer's window opens when its bytes are taken, and dropping either resets the
//! stream at once.

mod body;
mod connection;
mod faults;
mod flight;
mod io;
mod request;
mod set;
mod upload;

use std::time::Duration;

pub(super) use body::Http2Body;
pub(super) use flight::{Lost, send};
pub(super) use request::request;
pub(super) use set::{Connections, Transport};

/// What one answer may have on its way to a client that does not read: its window, which is also
/// what bounds a stream's memory. At 50 ms to the upstream and back it lets 10 MiB per second
/// through.
const STREAM_WINDOW: u32 = 512 * 1024;

/// The most streams on one connection, also where the peer allows more; what peers usually allow.
const MAX_STREAMS: usize = 100;

/// The window of a connection: the streams' windows together, so that no number of slow clients
/// stops the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;

/// What small DATA frames that wait for slow clients may cost beyond their bytes, per connection,
/// before h2 gives the whole connection up. Its default would be reached by a few dozen event
/// streams whose clients have stopped.
const SMALL_FRAMES: usize = 2 * CONNECTION_WINDOW as usize;

/// Request bytes that may wait in a stream for the upstream's window.
const SEND_BUFFER: usize = 64 * 1024;

/// How many reset streams a connection remembers, to pass over what was on its way for them.
const REMEMBERED_RESETS: usize = 2 * MAX_STREAMS;

/// How often a connection with streams on it is asked whether the peer is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long the peer may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
