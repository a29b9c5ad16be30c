//! The plan of the workers, from the settings.

use std::sync::Arc;

use http::HeaderValue;

use crate::auth::Clients;
use crate::browser::Admission;
use crate::config::{self, ANONYMOUS, AccessLines, Settings};
use crate::flow::LimitCounts;
use crate::provider::{BILLING_HEADERS, Dialect, credentials, sends_usage_unasked};
use crate::proxy::{BodyLimits, Budget, Snapshot, StreamOptionsSupport, UpstreamSpec};
use crate::rewrite::headers::OutboundHeaders;
use crate::rewrite::names::HeaderNames;
use crate::route::{Glob, Rule, Table};

/// What all workers follow.
///
/// # Errors
/// A value that cannot stand in a header.
pub(super) fn snapshot(settings: &Settings, counts: &Arc<LimitCounts>) -> Result<Snapshot, String> {
    let rules = settings.routes.iter().map(|route| Rule {
        path: route.path.clone(),
        model: route.model.as_deref().map(Glob::new),
        upstream: route.upstream,
    });
    let rules: Vec<_> = if settings.routes.is_empty() {
        vec![Rule { path: None, model: None, upstream: 0 }]
    } else {
        rules.collect()
    };
    let server = &settings.server;
    Ok(Snapshot {
        admission: Admission::new(
            server.hosts.clone(),
            server.origins.clone(),
            !settings.clients.is_empty(),
            server.tls.is_some(),
        ),
        clients: Clients::new(
            settings.clients.iter().map(|client| (client.name.clone(), client.key.clone())),
        ),
        anonymous: ANONYMOUS.into(),
        routes: Table::new(rules),
        upstreams: settings
            .upstreams
            .iter()
            .map(|upstream| spec(upstream, &server.drop_headers))
            .collect::<Result<_, _>>()?,
        accel_buffering_header: server.accel_buffering_header,
        bodies: bodies(settings, counts),
        logs_requests: settings.log.access != AccessLines::Off,
        tracing: settings.otlp.as_ref().and_then(|otlp| otlp.traces),
    })
}

fn bodies(settings: &Settings, counts: &Arc<LimitCounts>) -> BodyLimits {
    let server = &settings.server;
    // Certificates name clients too, and their number is unknown.
    let has_certificates = server.tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty());
    let has_several_clients = settings.clients.len() > 1 || has_certificates;
    BodyLimits {
        max_bytes: server.max_request_bytes,
        max_passing_bytes: server.max_passing_bytes,
        min_rate: server.min_body_rate,
        budget: Budget::new(server.max_buffered_bytes, has_several_clients, Arc::clone(counts)),
    }
}

fn spec(upstream: &config::Upstream, dropped: &HeaderNames) -> Result<UpstreamSpec, String> {
    let name = &upstream.name;
    let credentials = credentials(
        upstream.provider,
        upstream.api_key.as_ref(),
        upstream.organization.as_deref(),
        upstream.project.as_deref(),
    )
    .map_err(|error| format!("upstreams.{name}: {error}"))?;
    let host = HeaderValue::from_str(upstream.url.authority())
        .map_err(|error| format!("upstreams.{name}.url: {error}"))?;
    let dropped = upstream.drop_headers.as_ref().unwrap_or(dropped).clone();
    let headers = OutboundHeaders::new(host, upstream.headers.clone(), credentials).dropping(dropped);
    Ok(UpstreamSpec {
        name: name.as_str().into(),
        provider: upstream.provider,
        dialect: Dialect::new(
            upstream.provider,
            upstream.url.clone(),
            upstream.api_version.clone(),
            upstream.deployments.clone(),
        )
        .with_query(upstream.query.clone()),
        headers: if upstream.clients_choose_billing { headers } else { headers.without(&BILLING_HEADERS) },
        default_model: upstream.default_model.clone(),
        models: upstream.models.clone(),
        keep_alive_comments: upstream.keep_alive_comments,
        include_usage: upstream.include_usage,
        sends_usage_unasked: sends_usage_unasked(upstream.url.host()),
        refusals: StreamOptionsSupport::default().into(),
        on_disconnect: upstream.on_disconnect,
        drain_limits: upstream.drain_limits,
    })
}
