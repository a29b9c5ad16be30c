//! The immutable part of a configuration that requests use: admission, clients, routes and
//! upstreams. All workers share it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::BodyLimits;
use crate::balance::{Target, UpstreamGroup};
use crate::codec::head::Headers;
use crate::codec::traceparent::Sampling;
use crate::config::{DrainLimits, OnDisconnect, PoolLimits};
use crate::gate::browser::Admission;
use crate::gate::{Clients, TagRules, TrustedProxies};
use crate::llm::provider::{ANTHROPIC_VERSION, Dialect, Inbound, IncludeUsage, Provider};
use crate::llm::rewrite::headers::OutboundHeaders;
use crate::llm::route::Table;
use crate::server::Limits;
use crate::support::{SharedGuard, UpstreamId};
use crate::upstream::{ConnectSpec, UpstreamTokens};

/// Built from one `Settings`.
#[derive(Debug)]
pub struct Snapshot {
    /// The accepted hosts and web origins.
    pub admission: Admission,
    /// The proxies in front of this server. `None`: a client's address is that of its connection.
    pub trusted_proxies: Option<Box<TrustedProxies>>,
    pub clients: Clients,
    /// The listed tags. `None`: no request is looked at for tags.
    pub tags: Option<TagRules>,
    /// Requests are served only with a certificate that the authorities in use trust.
    pub requires_certificates: bool,
    /// The `client` of records if no clients are configured.
    pub anonymous: Arc<str>,
    pub routes: Table<Target<UpstreamId>>,
    /// The longest time for which the beginning of a stream is held, by the name of its group.
    pub first_event: BTreeMap<Arc<str>, Duration>,
    /// The upstreams in the order of the configuration.
    pub upstreams: Vec<Arc<UpstreamSpec>>,
    pub bodies: BodyLimits,
    /// Binds ids of stored state to upstreams and clients. `None`: all routes lead to one upstream,
    /// and clients are not distinguished.
    pub stored_ids: Option<IdBinding>,
    /// The limits of a client's connection.
    pub limits: Limits,
    /// Event streams get `X-Accel-Buffering: no`.
    pub accel_buffering_header: bool,
    /// Requests are written to the access log.
    pub logs_requests: bool,
    /// Sampling of the traces that begin here; `None`: no traces are exported, and `traceparent`
    /// headers pass untouched.
    pub tracing: Option<Sampling>,
    /// Counts the generation as long as a request uses it.
    pub generation: SharedGuard,
}

impl Snapshot {
    /// The groups that routes lead to, each once.
    pub fn groups(&self) -> Vec<Arc<UpstreamGroup>> {
        let mut groups: Vec<Arc<UpstreamGroup>> = Vec::new();
        for group in self.routes.targets().filter_map(Target::as_group) {
            if !groups.iter().any(|other| Arc::ptr_eq(other, group)) {
                groups.push(Arc::clone(group));
            }
        }
        groups
    }
}

/// The binding of ids of stored state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBinding {
    /// Clients are distinguished, so that an id is bound to the client that created its object too.
    pub to_client: bool,
    /// A request is refused while the fleet's store cannot say whose an id in it is.
    pub refuses_unknown: bool,
}

/// The rules for requests to one upstream, and for its responses.
#[derive(Debug)]
pub struct UpstreamSpec {
    pub id: UpstreamId,
    /// The address, and the way to reach it.
    pub origin: Arc<ConnectSpec>,
    /// The number of idle connections that a worker keeps.
    pub pool: PoolLimits,
    pub provider: Provider,
    pub dialect: Dialect,
    pub headers: OutboundHeaders,
    /// The headers on the paths of the service's own API. `None`: they are the same.
    pub native: Option<Box<NativeHeaders>>,
    /// The tokens that requests get in place of a key. `None`: there is a key, or none is needed.
    pub tokens: Option<Box<UpstreamTokens>>,
    /// The model of requests that name none.
    pub default_model: Option<String>,
    /// Real names by alias.
    pub models: BTreeMap<String, String>,
    /// The silence of a streamed response after which its client gets a comment.
    pub keep_alive_comments: Option<Duration>,
    pub include_usage: IncludeUsage,
    /// The upstream is known to send usage without `stream_options`.
    pub sends_usage_unasked: bool,
    /// The default for requests without `x-streamgauge-on-disconnect`.
    pub on_disconnect: OnDisconnect,
    pub drain_limits: DrainLimits,
    /// The number of requests that run at the same time is limited.
    pub is_limited: bool,
}

/// The headers of requests to a service's own API.
#[derive(Debug)]
pub struct NativeHeaders {
    pub headers: OutboundHeaders,
    /// Those with the version of Anthropic's API, for requests that name none.
    pub versioned: Option<OutboundHeaders>,
}

impl UpstreamSpec {
    /// The headers for a request of `client` to this target.
    #[inline]
    pub(super) fn headers_for(&self, target: &str, client: &Headers) -> &OutboundHeaders {
        match &self.native {
            None => &self.headers,
            Some(native) => self.headers_at(native, target, client),
        }
    }

    #[cold]
    fn headers_at<'a>(
        &'a self,
        native: &'a NativeHeaders,
        target: &str,
        client: &Headers,
    ) -> &'a OutboundHeaders {
        let version = ANTHROPIC_VERSION.0.as_bytes();
        let names_version = client.iter().any(|field| field.name().eq_ignore_ascii_case(version));
        match &native.versioned {
            _ if !self.dialect.is_native(target) => &self.headers,
            Some(versioned) if !names_version => versioned,
            _ => &native.headers,
        }
    }

    /// Returns true if the model must be known before a request is sent: for the target, or to be
    /// renamed.
    pub(super) fn needs_model(&self, inbound: &Inbound<'_>) -> bool {
        !self.models.is_empty() || self.dialect.needs_model(inbound) || self.dialect.renames_models(inbound)
    }

    /// The upstream's name of the model, if the client asked for `asked`.
    pub(super) fn model<'a>(&'a self, asked: Option<&'a str>) -> Option<&'a str> {
        match asked {
            Some(asked) => Some(self.models.get(asked).map_or(asked, String::as_str)),
            None => self.default_model.as_deref(),
        }
    }
}
