//! The settings of the program. Every value has passed the rules of its key and those between keys,
//! so that no other code checks it again.

mod alerts;
mod clients;
mod groups;
mod identity;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::tz::TimeZone;

pub use alerts::{Alert, WebhookUrl};
pub use clients::{Client, ClientKey, KeySettings, KeyStorage, StoredKey, Team};
pub use groups::{GroupSettings, MemberSettings};
pub use identity::{
    AwsIdentity, AwsSource, CloudIdentity, ContainerToken, EntraGrant, EntraIdentity, GoogleIdentity,
    ServiceAccount, TokenEndpoint,
};

use crate::codec::traceparent::Sampling;
use crate::config::forward_proxy::ProxyAddress;
use crate::gate::TagRule;
use crate::gate::browser::{Origins, OwnHosts};
use crate::gate::limit::{LimitSpec, WhenAway};
use crate::llm::price::Prices;
use crate::llm::provider::{ApiVersion, BaseUrl, FixedQuery, IncludeUsage, Provider};
use crate::llm::rewrite::names::HeaderNames;
use crate::support::secret::Secret;
use crate::support::telemetry::LogFormat;
use crate::support::{Hosts, ListenAddress, Networks};
use crate::tls::{ClientSettings, ServerSettings};

#[derive(Clone, Debug)]
pub struct Settings {
    pub server: Server,
    pub admin: AdminSettings,
    pub ledger: LedgerSettings,
    pub redis: Option<Redis>,
    pub otlp: Option<OtlpSettings>,
    pub log: Log,
    /// The clients in the order of the file. No two have the same key. Empty: no authentication.
    pub clients: Vec<Client>,
    /// The listed tags, each name once.
    pub tags: Vec<TagRule>,
    pub keys: KeySettings,
    /// The teams in the order of the file. None is in itself.
    pub teams: Vec<Team>,
    /// The limits of all clients together, and of requests without a client.
    pub limits: Vec<LimitSpec>,
    /// The upstreams in the order of the file; at least one.
    pub upstreams: Vec<Upstream>,
    /// The groups in the order of the file. No name is one of an upstream.
    pub groups: Vec<GroupSettings>,
    /// The first match wins. Empty only if there is one upstream, which gets all requests.
    pub routes: Vec<Route>,
    /// The webhooks in the order of the file.
    pub alerts: Vec<Alert>,
    pub prices: Prices,
    /// All layers merged, as shown to users; without secrets.
    pub effective: serde_json::Value,
}

impl Settings {
    /// The team of a client, the team that this one is in, and so on.
    pub fn teams_of(&self, client: &Client) -> impl Iterator<Item = &Team> {
        let team = |index: usize| &self.teams[index];
        std::iter::successors(client.team.map(team), move |above| above.team.map(team))
    }

    /// The team of each client that is in one.
    pub fn team_by_client(&self) -> BTreeMap<String, String> {
        let named =
            |client: &Client| Some((client.name.clone(), self.teams.get(client.team?)?.name.to_string()));
        self.clients.iter().filter_map(named).collect()
    }
}

#[derive(Clone, Debug)]
pub struct Server {
    /// An address beyond loopback requires clients, client certificates or allowed anonymous
    /// clients.
    pub listen: ListenAddress,
    /// The permissions of a Unix socket to listen on.
    pub socket_mode: u32,
    /// Names by which clients reach this server, besides addresses and localhost.
    pub hosts: OwnHosts,
    pub origins: Origins,
    /// The proxies in front of this server that are believed about their clients' addresses.
    pub trusted_proxies: Networks,
    /// Connections from `trusted_proxies`, which are some then, begin with a header of the PROXY
    /// protocol.
    pub proxy_protocol: bool,
    /// At least 1.
    pub workers: usize,
    /// The limit of buffered bodies; at least 1.
    pub max_request_bytes: usize,
    /// The limit of bodies that pass through; `None`: any size.
    pub max_passing_bytes: Option<u64>,
    pub drop_headers: HeaderNames,
    /// True if the configuration is read again when its files change.
    pub watch: bool,
    pub accel_buffering_header: bool,
    pub drain_timeout: Duration,
    /// The time between the signal to stop and the drain.
    pub stop_delay: Duration,
    /// The longest drain after an upgrade; `None`: until the last request has ended.
    pub upgrade_drain: Option<Duration>,
    /// The limit of the whole process; 0: as many as the limit of open files allows.
    pub max_connections: usize,
    /// The limit on open connections of one address; 0: none.
    pub max_connections_per_address: u32,
    /// The limit on new connections of one address in a second; 0: none.
    pub max_new_connections_per_address: u32,
    /// Longer than zero.
    pub header_timeout: Duration,
    /// Longer than zero.
    pub keep_alive_timeout: Duration,
    /// `None`: no limit.
    pub write_timeout: Option<Duration>,
    /// The limit of all memory that clients cause.
    pub max_memory: MemoryLimit,
    /// The limit of the whole process; at least 1.
    pub max_buffered_bytes: usize,
    /// The rate in bytes per second; `None`: any rate.
    pub min_body_rate: Option<NonZeroU32>,
    /// `None`: plain HTTP. Its files were read successfully.
    pub tls: Option<ServerSettings>,
}

/// A limit on the memory of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// From the limit of the process's control group, if there is one.
    OfSystem,
    None,
    /// At least 16 MiB.
    Bytes(usize),
}

impl Server {
    /// Returns true if certificates can name clients.
    pub fn has_client_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty())
    }
}

#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Another address than the server's. Beyond loopback only with a token, with authorities of
    /// client certificates, or with users. `None`: no admin server.
    pub listen: Option<ListenAddress>,
    /// The permissions of a Unix socket at `listen`.
    pub socket_mode: u32,
    pub hosts: OwnHosts,
    pub token: Option<Secret>,
    /// Another one than the token, without which there is none.
    pub read_token: Option<Secret>,
    pub users: Option<AdminUsers>,
    /// The database of the pages; PostgreSQL only if the ledger has one.
    pub ledger: Database,
    /// `None`: plain HTTP. A verified client certificate opens the pages like the token.
    pub tls: Option<ServerSettings>,
}

/// The users that an authenticating proxy before the pages names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUsers {
    pub header: HeaderName,
    /// The networks of that proxy; not empty.
    pub proxies: Networks,
    /// Users may do all that the token may; else they only read.
    pub may_change: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Database {
    #[default]
    Sqlite,
    Postgres,
}

#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// The SQLite database, if there is one.
    pub path: Option<PathBuf>,
    /// The time is at most a hundred years; `None`: for ever.
    pub retention: Option<Duration>,
    /// The time for which hourly sums are kept, not shorter than `retention`; `None`: for ever.
    pub rollup_retention: Option<Duration>,
    pub jsonl: Option<JsonlTarget>,
    /// The file of imported prices, which may be missing.
    pub prices_file: Option<PathBuf>,
    /// The zone of the days by which records are added up and prices change.
    pub time_zone: TimeZone,
    /// A fleet's database requires one at `path`.
    pub postgres: Option<Postgres>,
}

/// The PostgreSQL database to which the ledger ships its records.
#[derive(Clone, Debug, PartialEq)]
pub struct Postgres {
    /// The server, with a user and at least one host; its `Debug` hides the password.
    pub server: tokio_postgres::Config,
    /// Used unless the server's `ssl_mode` disables TLS.
    pub tls: ClientSettings,
    /// Not empty.
    pub instance: String,
    /// At least 1.
    pub batch: usize,
    pub max_waiting: u64,
    /// `None`: for ever.
    pub retention: Option<Duration>,
    pub read: bool,
}

/// The Redis or Valkey in which the replicas of a fleet share their limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// A server, nodes of a cluster, or sentinels; at least one.
    pub nodes: Vec<RedisAddress>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Not negative; 0 if there are several nodes without sentinels.
    pub database: i64,
    /// `None`: connections are plain.
    pub tls: Option<ClientSettings>,
    /// The nodes are sentinels.
    pub sentinel: Option<Sentinel>,
    /// Not empty; without braces and spaces.
    pub prefix: String,
    pub when_away: WhenAway,
}

/// The service of sentinels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentinel {
    pub service: String,
    /// The password of the sentinels themselves.
    pub password: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RedisAddress {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// An OpenTelemetry collector, which gets spans or metrics or both.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpSettings {
    /// The URL above `/v1/traces` and `/v1/metrics`.
    pub url: BaseUrl,
    /// Each name once; secrets are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `None`: no spans.
    pub traces: Option<Sampling>,
    /// The interval; `None`: no metrics.
    pub metrics: Option<Duration>,
    pub timeout: Duration,
    pub gzip: bool,
    /// Not empty.
    pub service_name: String,
    /// None of them is `service.name`.
    pub resource: Vec<(String, String)>,
    /// `None`: a direct connection.
    pub proxy: Option<ForwardProxy>,
    /// The default for an `http` URL.
    pub tls: ClientSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonlTarget {
    Stdout,
    File(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Log {
    pub format: LogFormat,
    /// A valid filter in the form of `RUST_LOG`.
    pub level: String,
    pub access: AccessLines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLines {
    All,
    /// Requests that are neither `complete` nor disconnected by their client.
    Failures,
    Off,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub name: String,
    pub provider: Provider,
    pub url: BaseUrl,
    /// `V1` for other providers than Azure.
    pub api_version: ApiVersion,
    /// A valid header value. `None` only with `identity`, and for `other` with `none` or a client
    /// certificate.
    pub api_key: Option<Secret>,
    /// The identity that gets tokens in place of `api_key`. `None`: there is none.
    pub identity: Option<CloudIdentity>,
    /// For `openai` only; a valid header value.
    pub organization: Option<String>,
    /// A valid header value, for `openai` only.
    pub project: Option<String>,
    /// True if a client's own headers for these two are forwarded, unless they are configured.
    pub clients_choose_billing: bool,
    /// Always set for `other`.
    pub default_model: Option<String>,
    /// Real names by alias; neither is empty.
    pub models: BTreeMap<String, String>,
    /// Deployments by model, for `azure` only; neither is empty.
    pub deployments: BTreeMap<String, String>,
    /// Each name once; secrets are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `None`: those of the server.
    pub drop_headers: Option<HeaderNames>,
    pub query: FixedQuery,
    pub include_usage: IncludeUsage,
    /// `None`: no comments.
    pub keep_alive_comments: Option<Duration>,
    pub on_disconnect: OnDisconnect,
    pub drain_limits: DrainLimits,
    /// The largest number of requests that run at the same time; 0: any number.
    pub concurrent: u32,
    /// The hosts to which its redirects may lead, besides its own.
    pub allowed_hosts: Hosts,
    /// `None`: a direct connection.
    pub proxy: Option<ForwardProxy>,
    /// The key or variable that chose the proxy, or the reason for none, which contains spaces.
    pub why_this_way: String,
    pub http: HttpVersion,
    pub timeouts: Timeouts,
    /// `None`: any age.
    pub max_connection_age: Option<Duration>,
    pub pool: PoolLimits,
    /// The default for an `http` URL. Its files were read successfully.
    pub tls: ClientSettings,
}

impl Upstream {
    /// All secrets that are sent to the upstream or to its proxy.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.iter().filter(|(_, value)| value.is_sensitive());
        let headers = headers.filter_map(|(_, value)| value.to_str().ok());
        let password = self.proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref());
        let keys = self.api_key.iter().map(Secret::expose);
        let identity = self.identity.iter().flat_map(CloudIdentity::secrets);
        let password = password.map(|(_, password)| password.expose());
        keys.chain(headers).chain(self.query.secrets()).chain(password).chain(identity)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ForwardProxy {
    pub address: ProxyAddress,
    /// Headers of CONNECT, each name once; none for SOCKS5. Secrets are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A user name, which is not empty, and a password. For SOCKS5, both have 1 to 255 bytes; for
    /// HTTP, the name has no colon. If they are set, `headers` has no `Proxy-Authorization`.
    pub credentials: Option<(String, Secret)>,
    /// The settings of TLS with an `https` proxy itself.
    pub tls: ClientSettings,
}

/// The treatment of a response whose client disconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The upstream request is aborted.
    Cancel,
    /// The rest is read, so that the usage is known.
    Drain,
}

impl OnDisconnect {
    /// The choices, for messages.
    pub const VALUES: &str = "\"cancel\" or \"drain\"";

    /// Parses the value of the request header.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "cancel" => Some(Self::Cancel),
            "drain" => Some(Self::Drain),
            _ => None,
        }
    }
}

/// The limits of [`OnDisconnect::Drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainLimits {
    /// The time for one response, from the disconnect on: longer than zero, at most a day.
    pub time: Duration,
    /// The bytes of one response; at least 1.
    pub bytes: u64,
    /// The number on all workers; 0: none.
    pub concurrent: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/2 if the upstream chooses it in the TLS handshake (ALPN), else HTTP/1.1.
    Auto,
    Http1,
    /// HTTP/2; on a plain connection with prior knowledge (RFC 9113 section 3.3).
    Http2,
}

/// The timeouts of an upstream. All durations are longer than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The time for name resolution, TCP, the proxy and TLS together.
    pub connect: Duration,
    /// The time from the sent request to the head of a streamed response.
    pub first_byte: Duration,
    /// The time from the sent request to the head of any other response.
    pub first_byte_unstreamed: Duration,
    /// The longest silence inside a response body.
    pub idle: Duration,
    /// The time for the whole exchange, from the arrival of the request; `None`: no limit.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// The limit from the request to the head of the response, and the key that sets it.
    /// `is_streamed` means that the request is for a stream.
    pub fn first_byte_of(&self, is_streamed: bool) -> (Duration, &'static str) {
        if is_streamed || self.first_byte == self.first_byte_unstreamed {
            (self.first_byte, "timeouts.first_byte")
        } else {
            (self.first_byte_unstreamed, "timeouts.first_byte_unstreamed")
        }
    }
}

/// Limits of the idle connections of one worker to one upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoolLimits {
    pub idle_timeout: Duration,
    /// 0: none is kept.
    pub max_idle: usize,
}

/// A match and its target. No earlier route matches everything that this one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Begins with a slash and does not end with one. `None`: any path.
    pub path: Option<String>,
    /// A glob, not empty. `None`: any model, or none.
    pub model: Option<String>,
    pub target: RouteTarget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// The index of an upstream.
    Upstream(usize),
    /// The index of a group.
    Group(usize),
}
