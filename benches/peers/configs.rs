//! The configuration of each proxy for the same job.

use std::fmt::Write as _;
use std::path::Path;

use super::process::free_port;
use super::workloads::Service;

/// The task of every proxy: to pass requests from `port` to `upstream`.
pub(crate) struct Job<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) port: u16,
    pub(crate) upstream: u16,
    pub(crate) service: Service,
    /// The authority of the service's certificate.
    pub(crate) ca: &'a Path,
}

impl Job<'_> {
    fn scheme(&self) -> &'static str {
        if self.service == Service::Plain { "http" } else { "https" }
    }
}

/// With `has_group`, a group that no request of the load is routed to.
pub(crate) fn streamgauge(job: &Job<'_>, has_ledger: bool, has_group: bool) -> String {
    let (folder, scheme, upstream) = (job.folder.display(), job.scheme(), job.upstream);
    let ledger = if has_ledger { format!("{folder}/usage.db") } else { String::new() };
    let mut config = format!(
        r#"
[server]
listen = "127.0.0.1:{}"
workers = 1
[admin]
listen = "127.0.0.1:{}"
[ledger]
path = "{ledger}"
[upstreams.up]
provider = "other"
url = "{scheme}://localhost:{upstream}/v1"
api_key = {{ value = "sk-bench" }}
default_model = "m"
http = "{}"
[upstreams.up.pool]
max_idle = 4096
"#,
        job.port,
        free_port(),
        if job.service == Service::Http2 { "2" } else { "1" },
    );
    if has_group {
        write!(
            config,
            r#"
[upstreams.spare]
provider = "other"
url = "{scheme}://localhost:{upstream}/v1"
api_key = {{ value = "sk-bench" }}
default_model = "m"
[groups.both]
tiers = [["up"], ["spare"]]
[[routes]]
path = "/group"
upstream = "both"
[[routes]]
upstream = "up"
"#
        )
        .unwrap();
    }
    if job.service != Service::Plain {
        write!(config, "[upstreams.up.tls]\nca = {{ file = \"{}\" }}\n", job.ca.display()).unwrap();
    }
    config
}

/// With `has_log`, a line for each request in nginx's own format, written at once as by default.
pub(crate) fn nginx(job: &Job<'_>, has_log: bool) -> String {
    let &Job { port, upstream, .. } = job;
    let (folder, ca, scheme) = (job.folder.display(), job.ca.display(), job.scheme());
    let log = if has_log { format!("{folder}/access.log") } else { "off".to_owned() };
    let tls = match job.service {
        Service::Plain => String::new(),
        _ => format!(
            "proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca}; proxy_ssl_name localhost; proxy_ssl_server_name on;
                 proxy_ssl_protocols TLSv1.2 TLSv1.3;"
        ),
    };
    format!(
        r#"
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 10000; }}
http {{
  access_log {log};
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 100000000;
  client_max_body_size 32m;
  client_body_buffer_size 1m;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass {scheme}://up;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host "localhost:{upstream}";
      proxy_set_header Authorization "Bearer sk-bench";
      proxy_buffering off;
      proxy_read_timeout 600s;
      {tls}
    }}
  }}
}}
"#
    )
}

pub(crate) fn haproxy(job: &Job<'_>) -> String {
    let &Job { port, upstream, .. } = job;
    let verify =
        format!("ssl verify required ca-file {} sni str(localhost) verifyhost localhost", job.ca.display());
    let tls = match job.service {
        Service::Plain => String::new(),
        Service::Tls => format!("{verify} alpn http/1.1"),
        Service::Http2 => format!("{verify} alpn h2"),
    };
    format!(
        r#"
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option http-no-delay
  http-reuse always
frontend front
  bind 127.0.0.1:{port} backlog 4096
  default_backend up
backend up
  http-request set-header Host localhost:{upstream}
  http-request set-header Authorization "Bearer sk-bench"
  server up 127.0.0.1:{upstream} pool-max-conn 4096 {tls}
"#
    )
}

/// Envoy's circuit breakers end a run at 1,024 connections by default, so they are out of reach.
pub(crate) fn envoy(job: &Job<'_>) -> String {
    let &Job { port, upstream, .. } = job;
    let tls = format!(
        r#"
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context:
          validation_context:
            trusted_ca: {{ filename: "{}" }}
            match_typed_subject_alt_names: [ {{ san_type: DNS, matcher: {{ exact: localhost }} }} ]
"#,
        job.ca.display()
    );
    let http2 = r#"
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
"#;
    let more = match job.service {
        Service::Plain => String::new(),
        Service::Tls => tls,
        Service::Http2 => {
            tls.replace("common_tls_context:", "common_tls_context:\n          alpn_protocols: [h2]") + http2
        }
    };
    format!(
        r#"
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              request_headers_to_add:
              - header: {{ key: authorization, value: "Bearer sk-bench" }}
                append_action: OVERWRITE_IF_EXISTS_OR_ADD
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: up, timeout: 0s, host_rewrite_literal: "localhost:{upstream}" }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: up
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [ {{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }} ]
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }}
{more}"#
    )
}

pub(crate) fn caddy(job: &Job<'_>) -> String {
    let &Job { port, upstream, .. } = job;
    let (ca, scheme) = (job.ca.display(), job.scheme());
    let trust = format!("tls_trust_pool file {ca}\n      tls_server_name localhost");
    let tls = match job.service {
        Service::Plain => String::new(),
        Service::Tls => format!("{trust}\n      versions 1.1"),
        Service::Http2 => format!("{trust}\n      versions 2"),
    };
    format!(
        r#"
{{
  admin off
  auto_https off
  persist_config off
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy {scheme}://127.0.0.1:{upstream} {{
    header_up Host localhost:{upstream}
    header_up Authorization "Bearer sk-bench"
    flush_interval -1
    transport http {{
      keepalive_idle_conns_per_host 4096
      compression off
      {tls}
    }}
  }}
}}
"#
    )
}

/// LiteLLM passes on the header with which the load directs the service, as it starts with `x-`.
pub(crate) fn litellm(job: &Job<'_>) -> String {
    format!(
        r#"
model_list:
- model_name: "*"
  litellm_params: {{ model: "openai/*", api_base: "http://127.0.0.1:{}/v1", api_key: sk-bench }}
general_settings: {{ forward_client_headers_to_llm_api: true }}
"#,
        job.upstream
    )
}
