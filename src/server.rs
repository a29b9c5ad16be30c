//! The server side: accepts connections, bounds their cost, and implements HTTP.
//!
//! The module does not know the purpose of a request: a [`Handler`] responds to it.
//!
//! # Order
//!
//! A module uses those of the lines below its own. `tests/layering.rs` reads this table.
//!
//! | line | modules | what they are |
//! |---|---|---|
//! | 1 | `accept` | the accept loop |
//! | 2 | `connection`, `handshake`, `http1`, `http2`, `proxy_header`, `request_body` | one connection; they use each other |
//! | 3 | `connections`, `in_flight` | those of a worker, running requests |
//! | 4 | `conn_state` | the state of a connection |
//! | 5 | `accept_errors`, `balance`, `bind`, `disconnect`, `places`, `rank`, `sockets`, `upgrade` | parts |
//! | 6 | `addresses` | limits of single addresses |

mod accept;
mod accept_errors;
mod addresses;
mod balance;
mod bind;
mod conn_state;
mod connection;
mod connections;
mod disconnect;
mod handshake;
mod http1;
mod http2;
mod in_flight;
mod places;
mod proxy_header;
mod rank;
mod request_body;
mod sockets;
mod upgrade;

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

use crate::codec::head::{RequestHead, ResponseHead};
use crate::record::error::Error;
use crate::support::flow::StreamTiming;
use crate::support::pieces::{PieceSink, Relayed, poll_frames};
use crate::tls::ClientCertificate;

#[cfg(test)]
pub(crate) use accept::connection_task_size;
pub use accept::{Acceptor, Ended, Listener};
pub use accept_errors::{AcceptErrors, is_exhaustion};
pub use addresses::AddressLimits;
pub use balance::Balance;
pub use bind::{bind, bind_unix, may_bind, set_socket_mode};
pub use disconnect::{MOST_WATCHED, watch_at_most};
pub use http1::Http1RequestBody;
pub use http2::Http2RequestBody;
pub use places::Capacity;
pub use rank::Rank;
pub use request_body::RequestBody;
pub use sockets::Sockets;
pub use upgrade::{ClientStream, Upgrade};

/// A request of a client.
#[derive(Debug)]
pub struct ClientRequest {
    pub head: RequestHead,
    pub body: RequestBody,
    /// The client's certificate, if it has shown one.
    pub certificate: Option<ClientCertificate>,
}

/// The response to a client.
#[derive(Debug)]
pub struct ClientResponse<B> {
    pub head: ResponseHead,
    pub body: B,
}

impl<B> ClientResponse<B> {
    /// Replaces the body.
    pub fn map<C>(self, f: impl FnOnce(B) -> C) -> ClientResponse<C> {
        ClientResponse { head: self.head, body: f(self.body) }
    }
}

/// Responds to requests.
pub trait Handler: 'static {
    /// The response's body.
    type Body: ResponseBody;

    /// Returns true if connections from this address begin with a header of the PROXY protocol. By
    /// default none does.
    fn expects_proxy_header(&self, _peer: SocketAddr) -> bool {
        false
    }

    /// Returns true if limits per address apply to connections from this address. By default they
    /// apply to all.
    fn limits_address(&self, _peer: SocketAddr) -> bool {
        true
    }

    /// Responds to one request of the client at `from`. The future is dropped when the client
    /// leaves, also before the first poll.
    fn handle(
        self: Rc<Self>,
        request: ClientRequest,
        from: Option<SocketAddr>,
    ) -> impl Future<Output = ClientResponse<Self::Body>>;

    /// Responds instead of [`Handler::handle`] to a request for which the listener has no room.
    fn reject(
        &self,
        request: ClientRequest,
        error: Error,
        from: Option<SocketAddr>,
    ) -> ClientResponse<Self::Body>;

    /// Responds to a request whose head could not be read, in HTTP/1.1 bytes. The connection is
    /// closed afterwards.
    fn reject_head(&self, error: Error, from: Option<SocketAddr>) -> Vec<u8>;

    /// Closes upgraded connections. Called when the drain timeout expires.
    fn shutdown(&self) -> impl Future<Output = ()>;

    /// Waits for work that has outlived its connection. Cancel-safe.
    fn drained(&self) -> impl Future<Output = ()>;
}

/// A response's body, which the listener informs about the fate of the response.
pub trait ResponseBody: Body<Data = Bytes, Error: Into<BoxError>> + Sized + Unpin + 'static {
    /// Measures the time that events wait for the client. `None`: the body has no events.
    fn timing(&self) -> Option<&Rc<StreamTiming>>;

    /// Called when the client did not read, for the given reason. The body is dropped next.
    fn abort(&mut self, reason: String);

    /// Makes the response end with [`ResponseBody::on_sent`] instead of with its body. In HTTP/2 a
    /// response can wait for the client's window; over HTTP/1.1 the socket accepts it.
    fn defer_end(&mut self);

    /// Called when the client has been sent all frames of a body whose end is deferred.
    fn on_sent(&mut self);

    /// Called when the process is stopping: the next poll ends the body with an error.
    fn stop(&mut self);

    /// Gives `sink` the data of all frames that there are. For HTTP/1.1.
    fn poll_pieces(&mut self, cx: &mut Context<'_>, sink: &mut dyn PieceSink) -> Poll<Relayed<Self::Error>> {
        poll_frames(self, cx, sink)
    }

    /// Takes the code that serves the connection after a response with status 101.
    fn take_upgrade(&mut self) -> Option<Upgrade>;
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The time limits of connections, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time from the first byte of a head to its last; for the first head, from the accept on.
    pub header_timeout: Duration,
    /// The longest wait of a connection between two requests.
    pub keep_alive_timeout: Duration,
    /// The longest time for which a client may accept no bytes, on its connection or one HTTP/2
    /// stream. `None`: no limit.
    pub write_timeout: Option<Duration>,
}

/// The largest head that is accepted, in bytes.
pub const MAX_HEAD_BYTES: usize = crate::codec::h1::MAX_HEAD;

/// The largest number of streams that one HTTP/2 connection may have open.
pub const MAX_HTTP2_STREAMS: u32 = 256;
