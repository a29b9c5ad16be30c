//! HTTP/2 to an upstream: several connections per upstream, one stream per request.
//!
//! Uses the `h2` crate without hyper's client, which has three limits: it sends a request's body
//! from a task of its own, which goes on while the stream's window is full, so that an aborted
//! exchange would not be reset; it does not report how many streams the peer allows; and it reports
//! a stream that was reset with `CANCEL` as one that ended.
//!
//! Each connection has one task that reads and writes its frames (`connection`). All else runs in
//! the task that serves the client, as with HTTP/1.1: polling sends the request's body, taking
//! bytes of the response opens its window, and dropping either resets the stream at once.

mod body;
mod connection;
mod connections;
mod error;
mod io;
mod request;
mod send;
mod upload;

use std::time::Duration;

pub(super) use body::Http2ResponseBody;
pub(super) use connection::Connection;
pub(super) use connections::{Connections, Transport};
pub use error::{Ending, Http2Error};
pub(super) use request::request;
pub(super) use send::send;

/// The window of a stream, which bounds its memory while the client does not read. It allows 10 MiB
/// per second at a round trip of 50 ms.
const STREAM_WINDOW: u32 = 512 * 1024;

/// The window of a stream if memory is limited, where each counts in full.
const SMALL_STREAM_WINDOW: u32 = 64 * 1024;

/// The largest number of streams of one connection, also if the peer allows more; the usual limit
/// of peers.
const MAX_STREAMS: usize = 100;

/// The window of a connection: the sum of its streams' windows, so that slow clients never stop
/// others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;

/// The overhead of small DATA frames that wait for slow clients, per connection, beyond which h2
/// closes the connection. A few dozen stopped event streams would reach its default.
const SMALL_FRAMES: usize = 2 * CONNECTION_WINDOW as usize;

/// The largest number of request bytes of a stream that wait for the upstream's window.
const SEND_BUFFER: usize = 64 * 1024;

/// The number of reset streams that a connection remembers, to ignore their late frames.
const REMEMBERED_RESETS: usize = 2 * MAX_STREAMS;

/// The interval of pings on a connection with streams.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// The limit on a ping's response.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
