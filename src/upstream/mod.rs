//! The way to the services: connects, keeps connections, sends a request, and hands its answer on as a body.
//!
//! Everything here runs in the task that serves the client: dropping an answer closes its connection, and an
//! answer that is not polled is not read, which is how cancelling and slowing down reach the upstream.

mod answer;
mod connect;
mod flight;
mod origin;
mod pool;
mod scratch;
mod stream;
mod tunnel;
mod upload;
mod watchdog;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Method;

pub use answer::{Answer, AnswerBody};
pub use origin::{Origin, Timeouts};
pub use pool::PoolLimits;
pub use scratch::Scratch;
pub use tunnel::{Connect, Opening, Proxy, Socks5};
pub use upload::{ClientBody, Payload};

use crate::error::{Error, Result};
use flight::{Failure, Flight};
use pool::Pool;

/// One worker's way to one upstream.
#[derive(Debug)]
pub struct Upstream {
    origin: Arc<Origin>,
    pool: Rc<Pool>,
    scratch: Scratch,
}

/// A request that is ready to go.
pub struct Call {
    /// The method, which also says whether the answer has a body.
    pub method: Method,
    /// The whole head, from the request line to the blank line.
    pub head: Bytes,
    /// What follows it.
    pub payload: Payload,
    /// When the request arrived: `timeouts.total` counts from here.
    pub started: Instant,
}

impl Upstream {
    /// A way with no connection yet.
    pub fn new(origin: Arc<Origin>, limits: PoolLimits, scratch: Scratch) -> Self {
        Self { origin, pool: Pool::new(limits), scratch }
    }

    /// Where it leads.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A request on a kept connection that died before any byte of the answer is sent once more, on a new connection:
    /// the upstream closed it while it was idle. Nothing else is repeated. Dropping the future closes
    /// the connection.
    ///
    /// # Errors
    /// No connection, no TLS session, no answer in time, or an answer that is not HTTP.
    pub async fn send(&self, call: Call) -> Result<Answer> {
        let mut payload = call.payload;
        let total = self.origin.timeouts.total.map(|total| call.started + total);
        if let Some(stream) = self.pool.take(&self.scratch) {
            let again = payload.replay();
            match Flight::new(self, &call.method, call.head.clone(), payload, stream, total).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::ClosedBeforeAnswer(reason)) => {
                    let Some(again) = again else { return Err(self.origin.unreachable(reason)) };
                    tracing::debug!(upstream = %self.origin.name, %reason, "a kept connection had died; sending once more");
                    payload = again;
                }
                Err(Failure::Final(error)) => return Err(error),
            }
        }
        let stream = connect::connect(&self.origin, total).await?;
        Flight::new(self, &call.method, call.head, payload, stream, total).await.map_err(|failure| {
            match failure {
                Failure::ClosedBeforeAnswer(reason) => Error::Protocol {
                    upstream: self.origin.name.to_string(),
                    reason: format!("it closed the connection without an answer ({reason})"),
                },
                Failure::Final(error) => error,
            }
        })
    }
}
