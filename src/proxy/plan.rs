//! What all workers know and none changes: who may come, where requests go, what is written on
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::BodyLimits;
use super::refusals::Refusals;
use crate::auth::Clients;
use crate::browser::Admission;
use crate::config::{DrainLimits, OnDisconnect};
use crate::provider::IncludeUsage;
use crate::provider::{Dialect, Inbound, Provider};
use crate::rewrite::headers::OutboundHeaders;
use crate::route::Table;
use crate::traceparent::Sampling;

/// Made once at start.
#[derive(Debug)]
pub struct Plan {
    /// For which hosts, and from which web pages, requests are taken.
    pub admission: Admission,
    /// Who may come.
    pub clients: Clients,
    /// The `client` of records where no clients are configured.
    pub anonymous: Arc<str>,
    /// Where requests go; its indices are those of `services`.
    pub routes: Table,
    /// The upstreams as requests are written for them.
    pub services: Vec<Service>,
    /// What request bodies may cost.
    pub bodies: BodyLimits,
    /// Whether event streams tell a proxy in front not to buffer them.
    pub accel_buffering_header: bool,
    /// Requests have lines in the access log.
    pub logs_requests: bool,
    /// Which of the traces that begin here are recorded; `None`: no traces are exported, and the
    /// clients' pass untouched.
    pub tracing: Option<Sampling>,
}

/// An upstream, as far as requests are written for it.
#[derive(Debug)]
pub struct Service {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its dialect's name.
    pub provider: Provider,
    /// How its targets are written.
    pub dialect: Dialect,
    /// What goes into each request's head.
    pub headers: OutboundHeaders,
    /// Put into requests that name no model.
    pub default_model: Option<String>,
    /// Alias to real name.
    pub models: BTreeMap<String, String>,
    /// How long a streamed answer may be silent before its client gets a comment.
    pub keep_alive_comments: Option<Duration>,
    /// Whether it is asked for usage where the client did not ask.
    pub include_usage: IncludeUsage,
    /// It is known to send usage unasked.
    pub sends_usage_unasked: bool,
    /// Which of its models refused to be asked, and what else was learnt by asking.
    pub refusals: Arc<Refusals>,
    /// What becomes of an answer whose client leaves, where the request does not say.
    pub on_disconnect: OnDisconnect,
    /// What draining may cost.
    pub drain_limits: DrainLimits,
}

impl Service {
    /// Whether the model must be known before a request is sent: for the target, or to be renamed.
    pub(super) fn needs_model(&self, inbound: &Inbound<'_>) -> bool {
        !self.models.is_empty() || self.dialect.needs_model(inbound) || self.dialect.renames_models(inbound)
    }

    /// The model to ask for when the client asked for `asked`.
    pub(super) fn model<'a>(&'a self, asked: Option<&'a str>) -> Option<&'a str> {
        match asked {
            Some(asked) => Some(self.models.get(asked).map_or(asked, String::as_str)),
            None => self.default_model.as_deref(),
        }
    }
}
