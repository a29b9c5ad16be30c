//! Builds the snapshot that the workers serve by.

use std::sync::Arc;

use http::HeaderValue;

use crate::auth::Clients;
use crate::browser::Admission;
use crate::config::{self, ANONYMOUS, AccessLines, Settings};
use crate::flow::LimitCounts;
use crate::ids::UpstreamId;
use crate::provider::{BILLING_HEADERS, Dialect, credentials, sends_usage_unasked};
use crate::proxy::{BodyLimits, Budget, Snapshot, UpstreamSpec};
use crate::rewrite::headers::OutboundHeaders;
use crate::rewrite::names::HeaderNames;
use crate::route::{Glob, Rule, Table};
use crate::upstream::{Origin, PoolLimits};

/// The snapshot of these settings. `origins` are in the order of the upstreams.
///
/// # Errors
/// A value that cannot stand in a header.
pub(super) fn snapshot(
    settings: &Settings,
    origins: Vec<Arc<Origin>>,
    budget: &Budget,
) -> Result<Snapshot, String> {
    let specs = settings.upstreams.iter().zip(origins);
    let specs =
        specs.map(|(upstream, origin)| spec(upstream, origin, &settings.server.drop_headers).map(Arc::new));
    let upstreams = specs.collect::<Result<Vec<_>, _>>()?;
    let rules = settings.routes.iter().map(|route| Rule {
        path: route.path.clone(),
        model: route.model.as_deref().map(Glob::new),
        upstream: upstreams[route.upstream].id.clone(),
    });
    let rules: Vec<_> = if settings.routes.is_empty() {
        vec![Rule { path: None, model: None, upstream: upstreams[0].id.clone() }]
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
        upstreams,
        accel_buffering_header: server.accel_buffering_header,
        bodies: bodies(settings, budget),
        logs_requests: settings.log.access != AccessLines::Off,
        tracing: settings.otlp.as_ref().and_then(|otlp| otlp.traces),
    })
}

/// The memory of request bodies in the whole process.
pub(super) fn budget(settings: &Settings, counts: &Arc<LimitCounts>) -> Budget {
    let server = &settings.server;
    Budget::new(server.max_buffered_bytes, has_several_clients(settings), Arc::clone(counts))
}

/// Whether one client can leave others without memory. Certificates name clients too, and their
/// number is unknown.
fn has_several_clients(settings: &Settings) -> bool {
    let has_certificates = settings.server.tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty());
    settings.clients.len() > 1 || has_certificates
}

fn bodies(settings: &Settings, budget: &Budget) -> BodyLimits {
    let server = &settings.server;
    BodyLimits {
        max_bytes: server.max_request_bytes,
        max_passing_bytes: server.max_passing_bytes,
        min_rate: server.min_body_rate,
        budget: budget.clone(),
    }
}

fn spec(
    upstream: &config::Upstream,
    origin: Arc<Origin>,
    dropped: &HeaderNames,
) -> Result<UpstreamSpec, String> {
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
        id: UpstreamId::from(name.as_str()),
        origin,
        pool: PoolLimits { idle_timeout: upstream.pool.idle_timeout, max_idle: upstream.pool.max_idle },
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
        on_disconnect: upstream.on_disconnect,
        drain_limits: upstream.drain_limits,
    })
}
