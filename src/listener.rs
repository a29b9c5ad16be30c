//! The server side: accepts connections, bounds what they may cost, and speaks HTTP.
//!
//! Nothing here knows what a request is for: a [`Handler`] responds to it.

mod accept;
mod accept_errors;
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
mod request_body;
mod upgrade;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

use crate::flow::StreamTiming;

pub use accept::{Acceptor, Ended, Listener};
pub use accept_errors::{AcceptErrors, is_exhaustion};
pub use balance::Balance;
pub use bind::{bind, may_bind};
pub use disconnect::{MOST_WATCHED, watch_at_most};
pub use http1::Http1RequestBody;
pub use http2::Http2RequestBody;
pub use places::Room;
pub use request_body::RequestBody;
pub use upgrade::{ClientStream, Upgrade};

/// What answers requests.
pub trait Handler: 'static {
    /// The answer's body.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin + 'static;

    /// Answers one request. The future is dropped when the client goes away, also before it was
    /// polled.
    /// `from`: the client's address.
    fn handle(
        self: Rc<Self>,
        request: Request<RequestBody>,
        from: Option<SocketAddr>,
    ) -> impl Future<Output = Response<Self::Body>>;

    /// Where the times of an answer's events are counted, if it is a stream of events.
    fn timing(_body: &Self::Body) -> Option<&Rc<StreamTiming>> {
        None
    }

    /// The client is given up, for the reason that is told: the body is dropped next.
    fn abort(_body: &mut Self::Body, _reason: String) {}

    /// The end of the body is not the end of its response: [`Handler::sent`] is called when the
    /// client has been sent all of it. HTTP/2 has windows, behind which a response can wait for its
    /// client; a socket takes what HTTP/1.1 writes.
    fn defer(_body: &mut Self::Body) {}

    /// The client has been sent everything that was polled of a deferred body, to its end.
    fn sent(_body: &mut Self::Body) {}

    /// The answer is cut: the process is stopping. The next poll of the body says how the client
    /// learns of it.
    fn stop(_body: &mut Self::Body) {}

    /// Who takes the connection over after an answer with status 101 and this body.
    fn upgrade(_body: &mut Self::Body) -> Option<Upgrade> {
        None
    }

    /// Says goodbye to who has taken connections over: the drain's time is over. It is not waited
    /// for long.
    fn shutdown(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// Waits until nothing goes on that has outlived its connection. Cancel-safe.
    fn idle(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// What to send on a connection whose request head could not be read: whole HTTP/1.1 bytes. The
    /// connection is closed afterwards.
    fn refuse(&self, error: crate::error::Error, from: Option<SocketAddr>) -> Vec<u8>;

    /// Answers a request that is not handled, for a reason of the listener's.
    fn turn_away(
        &self,
        request: Request<RequestBody>,
        error: crate::error::Error,
        from: Option<SocketAddr>,
    ) -> Response<Self::Body>;
}

/// Whom a verified client certificate names; an extension of each request on such a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate(pub Arc<str>);

/// What a connection may cost. Times are the configuration's.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first byte of a head to its last; for the first head of a connection, from accept
    /// on.
    pub header_timeout: Duration,
    /// How long a connection may be open with nothing going on.
    pub keep_alive_timeout: Duration,
    /// How long a client may take nothing of what is written to it, on its connection or one HTTP/2
    /// stream; `None`: any time.
    pub write_timeout: Option<Duration>,
}

/// The largest header block that is read, in bytes.
pub const MAX_HEAD_BYTES: usize = crate::h1::MAX_HEAD;

/// The most streams that one HTTP/2 connection may have open.
pub const MAX_HTTP2_STREAMS: u32 = 256;
