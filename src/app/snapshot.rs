//! Builds the snapshot that the workers use.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::upstreams::{self, origin};
use crate::balance::{GroupSpec, HealthRegistry, MemberSpec, Target, UpstreamGroup};
use crate::config::{self, ANONYMOUS, AccessLines, RouteTarget, Settings};
use crate::gate::browser::{Admission, Credential};
use crate::gate::limit::{AppliedLimit, LimitRegistry, NextLimits, Owner, WhenAway};
use crate::gate::{Clients, KnownClient, LiveKeys, Models, TagRules, TrustedProxies};
use crate::llm::price::Prices;
use crate::llm::provider::{
    ANTHROPIC_VERSION, BILLING_HEADERS, Dialect, Provider, credentials, native_credentials,
    sends_usage_unasked,
};
use crate::llm::rewrite::headers::OutboundHeaders;
use crate::llm::rewrite::names::HeaderNames;
use crate::llm::route::{Glob, Rule, Table};
use crate::proxy::{BodyLimits, Budget, IdBinding, NativeHeaders, Snapshot, UpstreamSpec, limit_time};
use crate::server::{AddressLimits, Limits};
use crate::support::flow::LimitCounts;
use crate::support::memory::Memory;
use crate::support::tags::Tags;
use crate::support::{Live, SharedGuard, UpstreamId};
use crate::tls::Watch;
use crate::upstream::{ConnectObserver, ConnectSpec, Identities, TokenSource, UpstreamTokens};

/// The input of a snapshot besides the settings.
pub(super) struct Parts<'a> {
    pub(super) watch: &'a mut Watch,
    pub(super) observer: Option<&'a Arc<ConnectObserver>>,
    pub(super) budget: &'a Budget,
    pub(super) health: &'a Arc<HealthRegistry>,
    pub(super) limits: &'a LimitRegistry,
    pub(super) keys: &'a Arc<LiveKeys>,
    pub(super) prices: &'a Arc<Live<Prices>>,
    pub(super) generation: SharedGuard,
    pub(super) identities: &'a mut Identities,
    /// The settings in use, and their snapshot. Equal parts are reused.
    pub(super) previous: Option<(&'a Settings, &'a Snapshot)>,
}

/// Builds the snapshot of these settings, and plans its limits.
///
/// # Errors
/// Fails for a value that a header cannot carry, or a certificate that cannot be read.
pub(super) fn snapshot(settings: &Settings, mut parts: Parts<'_>) -> Result<(Snapshot, NextLimits), String> {
    let specs = settings.upstreams.iter().map(|upstream| continued(upstream, settings, &mut parts));
    let upstreams = specs.collect::<Result<Vec<_>, _>>()?;
    let groups: Vec<_> =
        settings.groups.iter().map(|group| target(group, &upstreams, parts.health)).collect();
    let rules = settings.routes.iter().map(|route| Rule {
        path: route.path.clone(),
        model: route.model.as_deref().map(Glob::new),
        target: match route.target {
            RouteTarget::Upstream(index) => Target::One(upstreams[index].id.clone()),
            RouteTarget::Group(index) => groups[index].clone(),
        },
    });
    let rules: Vec<_> = if settings.routes.is_empty() {
        vec![Rule { path: None, model: None, target: Target::One(upstreams[0].id.clone()) }]
    } else {
        rules.collect()
    };
    let stored_ids = binding(settings, &rules);
    let server = &settings.server;
    let tags = TagRules::new(settings.tags.iter().copied());
    let (clients, limits) = clients(settings, tags.as_ref(), &parts);
    let snapshot = Snapshot {
        admission: Admission::new(
            server.hosts.clone(),
            server.origins.clone(),
            credential(settings),
            server.tls.is_some(),
        ),
        trusted_proxies: TrustedProxies::new(server.trusted_proxies.clone(), server.proxy_protocol),
        clients,
        tags,
        requires_certificates: server.tls.as_ref().is_some_and(|tls| tls.requires_certificates()),
        anonymous: ANONYMOUS.into(),
        routes: Table::new(rules),
        first_event: settings.groups.iter().filter_map(first_event).collect(),
        stored_ids,
        upstreams,
        limits: Limits {
            header_timeout: server.header_timeout,
            keep_alive_timeout: server.keep_alive_timeout,
            write_timeout: server.write_timeout,
        },
        accel_buffering_header: server.accel_buffering_header,
        bodies: bodies(settings, parts.budget),
        logs_requests: settings.log.access != AccessLines::Off,
        tracing: settings.otlp.as_ref().and_then(|otlp| otlp.traces),
        generation: parts.generation,
    };
    Ok((snapshot, limits))
}

/// Sets the limits of running and waiting requests, which hold for requests of earlier snapshots
/// too.
pub(super) fn put_limits_in_use(settings: &Settings, snapshot: &Snapshot, health: &HealthRegistry) {
    for (upstream, spec) in settings.upstreams.iter().zip(&snapshot.upstreams) {
        health.upstream(&spec.id).limit_concurrent(upstream.concurrent);
    }
    snapshot.groups().iter().for_each(|group| group.put_in_use());
    // A larger limit of an upstream is room for requests that wait at any group.
    health.notify();
}

fn clients(settings: &Settings, rules: Option<&TagRules>, parts: &Parts<'_>) -> (Clients, NextLimits) {
    let of_client = |client: &config::Client| Owner::Client(client.name.as_str().into());
    let of_team = |team: &config::Team| Owner::Team(team.name.as_str().into());
    let wanted = settings.clients.iter().map(|client| (of_client(client), &*client.limits));
    let wanted = wanted.chain(settings.teams.iter().map(|team| (of_team(team), &*team.limits)));
    let wanted = wanted.chain([(Owner::All, &*settings.limits)]);
    let (limits, next) = parts.limits.plan(wanted, limit_time());
    let limited = |client: KnownClient, limits: Vec<AppliedLimit>| {
        client.limited(limits, &parts.limits.input_ratios, parts.prices)
    };
    let mut clients = Clients::with_stored(Arc::clone(parts.keys));
    if !settings.limits.is_empty() {
        clients.limit_others(limited(KnownClient::new(ANONYMOUS), limits[&Owner::All].clone()));
    }
    for client in &settings.clients {
        let tags_of = |key: &[(String, String)]| fixed_tags(rules, &client.tags, key);
        let keys = client.keys.iter().map(|key| {
            let tags = Some(&*key.tags).filter(|tags| !tags.is_empty()).and_then(tags_of);
            (key.digest, key.until, tags)
        });
        let limits = [of_client(client)]
            .into_iter()
            .chain(settings.teams_of(client).map(of_team))
            .chain([Owner::All])
            .flat_map(|owner| limits[&owner].clone())
            .collect();
        let known = KnownClient {
            models: Models::new(client.models.iter().map(String::as_str)),
            endpoints: client.endpoints,
            priority: client.priority,
            share: client.share,
            tags: tags_of(&[]),
            max_output: client.max_output,
            limit_headers: client.limit_headers,
            response_cost: client.response_cost.then(|| Arc::clone(parts.prices)),
            ..KnownClient::new(client.name.as_str())
        };
        clients.add(limited(known, limits), keys);
    }
    (clients, next)
}

/// The fixed tags of a client and one of its keys, whose own tags have precedence.
fn fixed_tags(
    rules: Option<&TagRules>,
    client: &[(String, String)],
    key: &[(String, String)],
) -> Option<Arc<Tags>> {
    let pairs = client.iter().chain(key).map(|(name, value)| (name.as_str(), value.as_str()));
    let tags = rules?.fixed(pairs);
    (!tags.is_empty()).then(|| Arc::new(tags))
}

/// The spec of an upstream: the one in use if its settings are equal, so that the workers keep its
/// state. If it can be reached as before, its connections are reused.
fn continued(
    upstream: &config::Upstream,
    settings: &Settings,
    parts: &mut Parts<'_>,
) -> Result<Arc<UpstreamSpec>, String> {
    let dropped = &settings.server.drop_headers;
    let previous = parts.previous.and_then(|(settings, snapshot)| {
        let before = settings.upstreams.iter().find(|before| before.name == upstream.name)?;
        let spec = snapshot.upstreams.iter().find(|spec| *spec.id == *upstream.name)?;
        Some((before, spec, *dropped == settings.server.drop_headers))
    });
    if let Some((before, spec, true)) = previous
        && before == upstream
    {
        return Ok(Arc::clone(spec));
    }
    let origin = match previous {
        Some((before, spec, _)) if is_same_origin(before, upstream) => Arc::clone(&spec.origin),
        _ => Arc::new(origin(upstream, parts.watch, parts.observer)?),
    };
    let id =
        previous.map_or_else(|| UpstreamId::from(upstream.name.as_str()), |(_, spec, _)| spec.id.clone());
    let tokens = upstream.identity.as_ref().map(|identity| {
        let watch = &mut *parts.watch;
        let authority = || {
            identity
                .endpoint()
                .map(|endpoint| upstreams::authority(&upstream.name, endpoint, watch))
                .transpose()
        };
        parts.identities.source(identity, authority)
    });
    spec(id, upstream, origin, dropped, tokens.transpose()?).map(Arc::new)
}

/// Returns true if connections made for one can carry requests for the other.
fn is_same_origin(one: &config::Upstream, other: &config::Upstream) -> bool {
    let place = |upstream: &config::Upstream| {
        let url = &upstream.url;
        (url.socket().map(str::to_owned), url.host().to_owned(), url.port(), url.is_https())
    };
    place(one) == place(other)
        && one.tls == other.tls
        && one.proxy == other.proxy
        && one.http == other.http
        && one.allowed_hosts == other.allowed_hosts
        && one.timeouts == other.timeouts
        && one.max_connection_age == other.max_connection_age
        && one.pool == other.pool
}

fn credential(settings: &Settings) -> Credential {
    match settings.clients.is_empty() {
        true => Credential::Nothing,
        false if settings.server.has_client_certificates() => Credential::KeyOrCertificate,
        false => Credential::Key,
    }
}

/// The binding of ids: none if all routes lead to one upstream, which has all state, and clients are
/// not distinguished.
fn binding(settings: &Settings, rules: &[Rule<Target<UpstreamId>>]) -> Option<IdBinding> {
    let mut members =
        rules.iter().flat_map(|rule| (0..rule.target.len()).map(|number| rule.target.member(number)));
    let first = members.next()?;
    let to_client = !settings.clients.is_empty() || settings.server.has_client_certificates();
    let refuses = settings.redis.as_ref().is_some_and(|redis| redis.when_away == WhenAway::Refuse);
    let binding = IdBinding { to_client, refuses_unknown: to_client && refuses };
    (to_client || members.any(|member| member != first)).then_some(binding)
}

fn first_event(group: &config::GroupSettings) -> Option<(Arc<str>, Duration)> {
    Some((group.name.as_str().into(), group.first_event?))
}

/// The target of routes to a group.
fn target(
    group: &config::GroupSettings,
    upstreams: &[Arc<UpstreamSpec>],
    health: &Arc<HealthRegistry>,
) -> Target<UpstreamId> {
    let member = |member: &config::MemberSettings| MemberSpec {
        upstream: upstreams[member.upstream].id.clone(),
        model: member.model.as_deref().map(Into::into),
        weight: member.weight,
    };
    let tier = |tier: &Vec<_>| tier.iter().map(member).collect();
    let spec = GroupSpec {
        name: group.name.as_str().into(),
        tiers: group.tiers.iter().map(tier).collect(),
        choice: group.balance,
        sticky: group.sticky.clone(),
        retry: group.retry,
        breaker: group.breaker,
        probe: group.probe.as_deref().map(Into::into),
        concurrent: group.concurrent,
        wait: group.wait,
        queue: group.queue,
    };
    let members = group.members().map(|member| upstreams[member.upstream].id.clone()).collect();
    Target::group(UpstreamGroup::new(spec, health), members)
}

/// The memory of request bodies in the whole process.
pub(super) fn budget(settings: &Settings, counts: &Arc<LimitCounts>, memory: &Memory) -> Budget {
    let server = &settings.server;
    let has_shares = has_several_clients(settings);
    Budget::new(server.max_buffered_bytes, has_shares, Arc::clone(counts), memory.clone())
}

/// Limits of each client address.
pub(super) fn address_limits(settings: &Settings) -> Arc<AddressLimits> {
    let limits = Arc::<AddressLimits>::default();
    let server = &settings.server;
    limits.set(server.max_connections_per_address, server.max_new_connections_per_address);
    limits
}

/// Returns true if one client can use up the memory of others. Certificates name clients too, and
/// their number is unknown.
pub(super) fn has_several_clients(settings: &Settings) -> bool {
    settings.clients.len() > 1 || settings.server.has_client_certificates()
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
    id: UpstreamId,
    upstream: &config::Upstream,
    origin: Arc<ConnectSpec>,
    dropped: &HeaderNames,
    tokens: Option<Arc<TokenSource>>,
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
    let native = native_credentials(upstream.provider, upstream.api_key.as_ref())
        .map_err(|error| format!("upstreams.{name}: {error}"))?;
    let headers = |custom, credentials| {
        OutboundHeaders::new(host.clone(), custom, credentials).dropping(dropped.clone())
    };
    let custom = &upstream.headers;
    let has_version = custom.iter().any(|(name, _)| name == ANTHROPIC_VERSION.0);
    let is_versioned = upstream.provider == Provider::Anthropic && !has_version;
    let versioned = |credentials| {
        let (name, value) = ANTHROPIC_VERSION;
        let version = (HeaderName::from_static(name), HeaderValue::from_static(value));
        is_versioned.then(|| headers(custom.iter().cloned().chain([version]).collect(), credentials))
    };
    // A token of an identity is a Bearer token on these paths too.
    let native = native
        .map(|credential| vec![credential])
        .or_else(|| (is_versioned && tokens.is_some()).then(Vec::new));
    let native = native.map(|credentials| {
        let versioned = versioned(credentials.clone());
        Box::new(NativeHeaders { headers: headers(custom.clone(), credentials), versioned })
    });
    let token_version = versioned(Vec::new());
    let headers = headers(upstream.headers.clone(), credentials);
    let headers = if upstream.clients_choose_billing { headers } else { headers.without(&BILLING_HEADERS) };
    Ok(UpstreamSpec {
        id,
        origin,
        pool: upstream.pool,
        provider: upstream.provider,
        dialect: Dialect::new(
            upstream.provider,
            upstream.url.clone(),
            upstream.api_version.clone(),
            upstream.deployments.clone(),
        )
        .with_query(upstream.query.clone()),
        native,
        tokens: tokens.map(|source| Box::new(UpstreamTokens::new(source, headers.clone(), token_version))),
        headers,
        default_model: upstream.default_model.clone(),
        models: upstream.models.clone(),
        keep_alive_comments: upstream.keep_alive_comments,
        include_usage: upstream.include_usage,
        sends_usage_unasked: sends_usage_unasked(upstream.url.host()),
        on_disconnect: upstream.on_disconnect,
        drain_limits: upstream.drain_limits,
        is_limited: upstream.concurrent > 0,
    })
}
