//! The life of a request: read [`Proxy::exchange`] first.
//!
//! Each station takes what the station before it made, and makes the next type, so that none can be left out:
//! [`Arrived`] → [`Known`](stations::Known) → [`Held`](stations::Held) → [`Routed`](stations::Routed) →
//! [`Ready`](stations::Ready) → [`Answer`]. The usage record goes along and notes what each station learns. The client is
//! authenticated before its body is read: what a stranger sends is never held.

mod budget;
mod client_body;
mod plan;
mod respond;
mod stations;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

pub use budget::Budget;
pub use plan::{Plan, Service};
pub use respond::ProxyBody;

use crate::error::{Error, Result};
use crate::listener::Handler;
use crate::record::{Entry, Journal};
use crate::upstream::{Answer, Upstream};
use stations::Arrived;

/// One worker's proxy.
#[derive(Debug)]
pub struct Proxy {
    plan: Arc<Plan>,
    /// This worker's way to each of the plan's services, in their order.
    upstreams: Vec<Upstream>,
    journal: Journal,
}

impl Proxy {
    /// A worker that follows `plan`; `upstreams` are in the order of its services.
    pub fn new(plan: Arc<Plan>, upstreams: Vec<Upstream>, journal: Journal) -> Self {
        Self { plan, upstreams, journal }
    }

    async fn exchange(&self, request: Request<Incoming>, entry: &mut Entry) -> Result<Answer> {
        let arrived = Arrived::new(request, entry)?;
        let known = arrived.authenticate(&self.plan.clients, entry)?;
        let (held, body) = known.hold(&self.plan, entry).await?;
        let ready = held.route(&self.plan, entry)?.rewrite(body, entry)?;
        ready.send(&self.upstreams).await
    }
}

impl Handler for Proxy {
    type Body = ProxyBody;

    async fn handle(&self, request: Request<Incoming>) -> Response<ProxyBody> {
        let mut entry = Entry::open(&self.journal, &self.plan.anonymous);
        match self.exchange(request, &mut entry).await {
            Ok(answer) => respond::relay(answer, entry),
            Err(error) => respond::refuse(&error, entry),
        }
    }

    fn refuse(&self, error: Error) -> Vec<u8> {
        let entry = Entry::open(&self.journal, &self.plan.anonymous);
        let bytes = error.to_http1(entry.id());
        respond::close(&error, entry);
        bytes
    }
}
