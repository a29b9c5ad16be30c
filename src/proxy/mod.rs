//! The life of a request: read [`Proxy::prepare`] first, then `handle`.
//!
//! Each station takes what the station before it made, and makes the next type, so that none can be left out:
//! [`Arrived`] → [`Known`](stations::Known) → [`Held`](stations::Held) → [`Routed`](stations::Routed) →
//! [`Ready`](stations::Ready) → [`Answer`]. The usage record goes along and notes what each station learns. The client is
//! authenticated before its body is read: what a stranger sends is never held.

mod budget;
mod client_body;
mod keep_alive;
mod plan;
mod respond;
mod stations;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;

pub use budget::Budget;
pub use plan::{Plan, Service};
pub use respond::ProxyBody;

use crate::error::{Error, Result};
use crate::listener::Handler;
use crate::record::{Entry, Journal};
use crate::upstream::{Answer, Upstream};
use stations::{Arrived, Held, Ready};

/// One worker's proxy.
#[derive(Debug)]
pub struct Proxy {
    plan: Arc<Plan>,
    /// This worker's way to each of the plan's services, in their order.
    upstreams: Rc<[Upstream]>,
    journal: Journal,
}

impl Proxy {
    /// A worker that follows `plan`; `upstreams` are in the order of its services.
    pub fn new(plan: Arc<Plan>, upstreams: Vec<Upstream>, journal: Journal) -> Self {
        Self { plan, upstreams: upstreams.into(), journal }
    }

    /// The way of a request up to the point where it is sent.
    async fn prepare(&self, request: Request<Incoming>, entry: &mut Entry) -> Result<(Ready, Held)> {
        let arrived = Arrived::new(request, entry)?;
        let known = arrived.authenticate(&self.plan.clients, entry)?;
        let (held, body) = known.hold(&self.plan, entry).await?;
        let ready = held.route(&self.plan, entry)?.rewrite(body, entry)?;
        Ok((ready, held))
    }
}

impl Handler for Proxy {
    type Body = ProxyBody;

    async fn handle(&self, request: Request<Incoming>) -> Response<ProxyBody> {
        let mut entry = Entry::open(&self.journal, &self.plan.anonymous);
        let (ready, held) = match self.prepare(request, &mut entry).await {
            Ok(prepared) => prepared,
            Err(error) => return respond::refuse(&error, entry),
        };
        let keep_alive = ready.keep_alive;
        let send = ready.send(Arc::clone(&self.plan), Rc::clone(&self.upstreams), held);
        let Some(interval) = keep_alive else {
            return match send.await {
                Ok(answer) => respond::relay(answer, entry),
                Err(error) => respond::refuse(&error, entry),
            };
        };
        let mut send: Pin<Box<dyn Future<Output = Result<Answer>>>> = Box::pin(send);
        match timeout(interval, &mut send).await {
            Ok(Ok(answer)) => respond::relay(answer, entry).map(|body| body.kept_alive(interval)),
            Ok(Err(error)) => respond::refuse(&error, entry),
            Err(_) => respond::begin_stream(send, entry, interval),
        }
    }

    fn refuse(&self, error: Error) -> Vec<u8> {
        let entry = Entry::open(&self.journal, &self.plan.anonymous);
        let bytes = error.to_http1(entry.id());
        respond::close(&error, entry);
        bytes
    }
}
