//! The origins of upstreams, of the OpenTelemetry collector and of webhooks, with their TLS and forward proxies.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::config::forward_proxy::{Scheme, basic};
use crate::config::{self, HttpVersion, Timeouts};
use crate::llm::provider::BaseUrl;
use crate::support::Hosts;
use crate::tls::{ClientSettings, Connector, HTTP_1_1, Watch};
use crate::upstream::{
    Connect, ConnectObserver, ConnectSpec, ForwardProxyConnector, ProxyProtocol, Socks5, Winner,
};

/// The origin of an upstream.
pub(super) fn origin(
    upstream: &config::Upstream,
    watch: &mut Watch,
    observer: Option<&Arc<ConnectObserver>>,
) -> Result<ConnectSpec, String> {
    let host = upstream.url.host();
    let table = format!("upstreams.{}", upstream.name);
    let tls = if upstream.url.is_https() {
        let seen = observer.map(|observer| &observer.target);
        let live = watch.client_before(&format!("{table}.tls"), &upstream.tls, &[HTTP_1_1], seen);
        let live = live.map_err(|fault| format!("{table}.tls.{fault}"))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{table}.url: {error}"))?;
        Some(Connector::new(live, name))
    } else {
        None
    };
    let proxy = upstream.proxy.as_ref();
    let proxy = proxy.map(|proxy| proxy_for(&table, &upstream.url, proxy, watch, observer)).transpose()?;
    Ok(ConnectSpec {
        name: upstream.name.as_str().into(),
        host: host.to_owned(),
        port: upstream.url.port(),
        socket: upstream.url.socket().map(PathBuf::from),
        tls,
        http: upstream.http,
        proxy,
        allowed_hosts: upstream.allowed_hosts.clone(),
        timeouts: upstream.timeouts,
        max_connection_age: upstream.max_connection_age,
        winner: Winner::default(),
        observer: observer.cloned(),
    })
}

/// The origin of the OpenTelemetry collector.
pub(super) fn collector(otlp: &config::OtlpSettings, watch: &mut Watch) -> Result<ConnectSpec, String> {
    receiver("otlp", &otlp.url, &otlp.tls, otlp.proxy.as_ref(), otlp.timeout, watch)
}

/// The origin of a place that issues tokens for the upstream of this name.
pub(super) fn authority(
    name: &str,
    endpoint: &config::TokenEndpoint,
    watch: &mut Watch,
) -> Result<ConnectSpec, String> {
    /// The limit of connecting to the metadata address of the machine, and of its response.
    const NEAR: Duration = Duration::from_secs(1);
    /// The limits elsewhere.
    const CONNECT: Duration = Duration::from_secs(5);
    const RESPONSE: Duration = Duration::from_secs(10);
    let table = format!("upstreams.{name}");
    let spec = receiver(&table, &endpoint.url, &endpoint.tls, endpoint.proxy.as_ref(), RESPONSE, watch)?;
    let connect = if endpoint.is_machine { NEAR } else { CONNECT };
    Ok(ConnectSpec { timeouts: Timeouts { connect, ..spec.timeouts }, ..spec })
}

/// The origin of a webhook.
pub(super) fn webhook(alert: &config::Alert, watch: &mut Watch) -> Result<ConnectSpec, String> {
    /// The limit of connecting, and of the response.
    const LIMIT: Duration = Duration::from_secs(5);
    receiver("alerts", &alert.url.base, &ClientSettings::default(), alert.proxy.as_ref(), LIMIT, watch)
}

/// The origin of a server that gets what `table` configures.
fn receiver(
    table: &str,
    url: &BaseUrl,
    tls: &ClientSettings,
    proxy: Option<&config::ForwardProxy>,
    limit: Duration,
    watch: &mut Watch,
) -> Result<ConnectSpec, String> {
    let host = url.host();
    let tls = if url.is_https() {
        let live = watch.client(&format!("{table}.tls"), tls, &[HTTP_1_1]);
        let live = live.map_err(|fault| format!("{table}.tls.{fault}"))?;
        let name = ServerName::try_from(host.to_owned());
        Some(Connector::new(live, name.map_err(|error| format!("the host of {table}: {error}"))?))
    } else {
        None
    };
    let proxy = proxy.map(|proxy| proxy_for(table, url, proxy, watch, None)).transpose()?;
    Ok(ConnectSpec {
        name: table.into(),
        host: host.to_owned(),
        port: url.port(),
        socket: url.socket().map(PathBuf::from),
        tls,
        http: HttpVersion::Auto,
        proxy,
        allowed_hosts: Hosts::default(),
        timeouts: Timeouts {
            connect: limit,
            first_byte: limit,
            first_byte_unstreamed: limit,
            idle: limit,
            total: Some(limit),
        },
        max_connection_age: Some(config::MAX_CONNECTION_AGE),
        winner: Winner::default(),
        observer: None,
    })
}

/// The proxy to `url`, which `table` configures.
fn proxy_for(
    table: &str,
    url: &BaseUrl,
    proxy: &config::ForwardProxy,
    watch: &mut Watch,
    observer: Option<&Arc<ConnectObserver>>,
) -> Result<ForwardProxyConnector, String> {
    let config::ForwardProxy { address, headers, credentials, tls } = proxy;
    let tls = if address.scheme == Scheme::Https {
        let place = format!("{table}: proxy");
        let seen = observer.map(|observer| &observer.proxy);
        let live = watch.client_before(&place, tls, &[HTTP_1_1], seen);
        let live = live.map_err(|fault| format!("{place}: {fault}"))?;
        let name = ServerName::try_from(address.host.clone()).map_err(|error| format!("{place}: {error}"))?;
        Some(Connector::new(live, name))
    } else {
        None
    };
    let protocol = match address.scheme {
        Scheme::Http | Scheme::Https => {
            let credentials = credentials.as_ref().map(|(name, password)| basic(name, password));
            let (host, port) = (url.host(), url.port());
            ProxyProtocol::Connect(Connect::new(host, port, headers, credentials.as_ref()))
        }
        Scheme::Socks5 | Scheme::Socks5h => ProxyProtocol::Socks5(Socks5 {
            resolve_here: address.scheme == Scheme::Socks5,
            credentials: credentials.clone(),
        }),
    };
    Ok(ForwardProxyConnector {
        url: address.to_string().into(),
        host: address.host.clone(),
        port: address.port,
        tls,
        protocol,
    })
}
