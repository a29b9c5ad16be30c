//! What the program runs with. Every value has passed the rules of its key, and those between keys:
//! whoever holds one of these structs need not look again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::tz::TimeZone;

use crate::browser::{Origins, OwnHosts};
use crate::egress::{Hosts, ProxyAddress};
use crate::price::Prices;
use crate::provider::{ApiVersion, BaseUrl, FixedQuery, IncludeUsage, Provider};
use crate::rewrite::names::HeaderNames;
use crate::secret::Secret;
use crate::tls::{ClientSettings, ServerSettings};
use crate::traceparent::Sampling;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The side of the clients.
    pub server: Server,
    /// The side of the operators.
    pub admin: Admin,
    /// Where usage records go.
    pub ledger: Ledger,
    /// The OpenTelemetry collector; `None`: none.
    pub otlp: Option<Otlp>,
    /// What is logged and how.
    pub log: Log,
    /// Who may come, in the order of the file; none: anybody who can connect. No two have the same
    /// key.
    pub clients: Vec<Client>,
    /// Where requests may go, in the order of the file. At least one.
    pub upstreams: Vec<Upstream>,
    /// Which request goes where; the first match wins. Empty only when there is one upstream, which
    /// gets everything.
    pub routes: Vec<Route>,
    /// What tokens cost, for those who read the ledger.
    pub prices: Prices,
    /// All that was said, for people to look at: the layers merged, without any secret.
    pub effective: serde_json::Value,
}

/// The side of the clients.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where to listen. Beyond loopback only with clients, or where the user allowed anonymous
    /// ones.
    pub listen: SocketAddr,
    /// Names under which clients reach it, besides addresses and localhost.
    pub hosts: OwnHosts,
    /// The web pages that may use it.
    pub origins: Origins,
    /// Threads that serve; at least 1.
    pub workers: usize,
    /// The largest request body that is held, in bytes; at least 1.
    pub max_request_bytes: usize,
    /// The largest request body that passes through, in bytes; `None`: any size.
    pub max_passing_bytes: Option<u64>,
    /// The client's headers that no upstream gets, unless it says otherwise.
    pub drop_headers: HeaderNames,
    /// Whether event streams tell a proxy in front not to buffer them.
    pub accel_buffering_header: bool,
    /// How long what runs may go on after the signal to stop.
    pub drain_timeout: Duration,
    /// Client connections at once in the whole process; 0: as many as open files allow.
    pub max_connections: usize,
    /// From a request's first byte to the end of its head; longer than zero.
    pub header_timeout: Duration,
    /// How long a client's connection may wait for a request; longer than zero.
    pub keep_alive_timeout: Duration,
    /// How long a client may take nothing of what is written to it; `None`: any time.
    pub write_timeout: Option<Duration>,
    /// Bytes of request bodies held at once by the whole process; at least 1.
    pub max_buffered_bytes: usize,
    /// Bytes per second that a request's body must bring; `None`: any rate.
    pub min_body_rate: Option<NonZeroU32>,
    /// The certificate for clients; `None`: plain HTTP. It could be read a moment ago.
    pub tls: Option<ServerSettings>,
}

/// The side of the operators.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where to listen, and not where the server does. Beyond loopback only with a token, or with
    /// authorities of client certificates. `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Further names under which browsers reach the pages.
    pub hosts: OwnHosts,
    /// What opens the pages.
    pub token: Option<Secret>,
    /// Whose usage records they show. PostgreSQL only where the ledger has one.
    pub ledger: Database,
    /// The certificate of the pages; `None`: plain HTTP. A verified client certificate opens them
    /// too.
    pub tls: Option<ServerSettings>,
}

/// Which of the two databases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Database {
    /// This instance's own.
    #[default]
    Sqlite,
    /// The fleet's.
    Postgres,
}

/// Where usage records go.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The database; `None`: none.
    pub path: Option<PathBuf>,
    /// How long the database keeps a record, at most a hundred years; `None`: for ever.
    pub retention: Option<Duration>,
    /// Also one JSON line per record.
    pub jsonl: Option<Jsonl>,
    /// The zone of the days by which records are added up and prices change.
    pub time_zone: TimeZone,
    /// Where the records of a fleet come together; there is a database at `path` then.
    pub postgres: Option<Postgres>,
}

/// A PostgreSQL database to which the records of the ledger are shipped.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// The server, with a user and at least one host; its `Debug` hides the password.
    pub server: tokio_postgres::Config,
    /// How TLS is spoken with it, where the server's `ssl_mode` says that it is.
    pub tls: ClientSettings,
    /// The name of this instance in the database; not empty.
    pub instance: String,
    /// Records of one round trip; at least 1.
    pub batch: usize,
    /// Records older than the ledger's `retention` that are kept while they are not shipped.
    pub max_waiting: u64,
    /// How long the database keeps a record; `None`: nothing is deleted there.
    pub retention: Option<Duration>,
    /// Whether reports are read from it where the user does not say otherwise.
    pub read: bool,
}

/// An OpenTelemetry collector, and what it gets; that is something.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// Where it is; `/v1/traces` and `/v1/metrics` come behind the path.
    pub url: BaseUrl,
    /// Put on every request to it, each name once; secret ones are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether it gets spans, and of which of the traces that begin here.
    pub traces: Option<Sampling>,
    /// Whether it gets metrics, and how often.
    pub metrics: Option<Duration>,
    /// How long one export may take.
    pub timeout: Duration,
    /// Whether exports are compressed with gzip.
    pub gzip: bool,
    /// What this service is called there; not empty.
    pub service_name: String,
    /// Further attributes of all that is sent; none is `service.name`.
    pub resource: Vec<(String, String)>,
    /// The proxy between here and there; `None`: straight.
    pub proxy: Option<ForwardProxy>,
    /// How TLS is spoken with it; the default where the URL is `http`.
    pub tls: ClientSettings,
}

/// Where JSON lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jsonl {
    /// To standard output.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

/// What is logged and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// A valid filter in the form of `RUST_LOG`.
    pub level: String,
    /// Which requests have a line.
    pub access: AccessLines,
}

/// Which requests have a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLines {
    /// All of them.
    All,
    /// Those that did not end as they should: neither `complete` nor left by their client.
    Failures,
    /// None.
    Off,
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Somebody who may send requests.
#[derive(Clone, Debug)]
pub struct Client {
    /// As usage records name it.
    pub name: String,
    /// What it must present. ASCII without spaces at its ends.
    pub key: Secret,
}

/// A service that requests may go to.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// As routes and usage records name it.
    pub name: String,
    /// Its dialect.
    pub provider: Provider,
    /// Where it is.
    pub url: BaseUrl,
    /// Which of Azure's URL forms it takes; `V1` for the other providers.
    pub api_version: ApiVersion,
    /// What it is paid with; always there for `openai` and `azure`, and for `other` unless the user
    /// said `none` or gave a client certificate. A valid header value.
    pub api_key: Option<Secret>,
    /// `OpenAI-Organization`; for `openai` only. A valid header value.
    pub organization: Option<String>,
    /// `OpenAI-Project`; for `openai` only. A valid header value.
    pub project: Option<String>,
    /// Whether a client's own headers of these two names pass where they are not configured.
    pub clients_choose_billing: bool,
    /// Put into requests that name no model; always there for `other`.
    pub default_model: Option<String>,
    /// Alias to real name; neither is empty.
    pub models: BTreeMap<String, String>,
    /// Model to deployment; for `azure` only. Neither is empty.
    pub deployments: BTreeMap<String, String>,
    /// Put on every request, each name once; secret ones are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The client's headers that it does not get; `None`: those of the server.
    pub drop_headers: Option<HeaderNames>,
    /// Put on the query of every request.
    pub query: FixedQuery,
    /// Whether it is asked for usage where the client did not ask.
    pub include_usage: IncludeUsage,
    /// How long a streamed answer may be silent before its client gets a comment; `None`: never
    /// one.
    pub keep_alive_comments: Option<Duration>,
    /// What becomes of an answer whose client leaves, where the request does not say.
    pub on_disconnect: OnDisconnect,
    /// What draining may cost.
    pub drain_limits: DrainLimits,
    /// Where its redirects may lead, besides itself.
    pub allowed_hosts: Hosts,
    /// The proxy between here and there, chosen by all that was said about proxies; `None`:
    /// straight.
    pub proxy: Option<ForwardProxy>,
    /// Who chose that proxy, or why there is none, in words.
    pub why_this_way: String,
    /// Which HTTP is spoken with it.
    pub http: HttpVersion,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// A connection of this age takes no further request; `None`: any age.
    pub max_connection_age: Option<Duration>,
    /// How many idle connections are kept.
    pub pool: PoolLimits,
    /// How TLS is spoken with it; the default where the URL is `http`. Its files could be read a
    /// moment ago.
    pub tls: ClientSettings,
}

impl Upstream {
    /// What is sent there and must not be shown.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.iter().filter(|(_, value)| value.is_sensitive());
        let headers = headers.filter_map(|(_, value)| value.to_str().ok());
        let password = self.proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref());
        let keys = self.api_key.iter().map(Secret::expose);
        keys.chain(headers).chain(self.query.secrets()).chain(password.map(|(_, password)| password.expose()))
    }
}

/// An outbound proxy.
#[derive(Clone, Debug)]
pub struct ForwardProxy {
    /// Where it is.
    pub address: ProxyAddress,
    /// Sent with CONNECT, each name once; none for SOCKS5. Secret ones are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A name, which is not empty, and a password. For SOCKS5 neither is empty or longer than 255
    /// bytes; else the name has no colon. There is no `Proxy-Authorization` among the headers
    /// beside it.
    pub credentials: Option<(String, Secret)>,
    /// What its own certificate is held to; for `https` only.
    pub tls: ClientSettings,
}

/// What becomes of an answer whose client leaves before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The upstream is stopped at once.
    Cancel,
    /// The rest is read, so that its tokens are known.
    Drain,
}

impl OnDisconnect {
    /// What it may be, in words.
    pub const VALUES: &str = "\"cancel\" or \"drain\"";

    /// Reads it as the configuration and requests have it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "cancel" => Some(Self::Cancel),
            "drain" => Some(Self::Drain),
            _ => None,
        }
    }
}

/// What reading the rest of answers may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainLimits {
    /// For how long the rest of one answer is read, from when its client left: longer than zero, at
    /// most a day.
    pub time: Duration,
    /// How many bytes of it; at least 1.
    pub bytes: u64,
    /// How many at once, on all workers; 0: none.
    pub concurrent: usize,
}

/// Which HTTP is spoken with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/2 where the upstream chooses it in the TLS handshake (ALPN), else HTTP/1.1.
    Auto,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone; on a plain connection without asking first (RFC 9113 section 3.3, prior
    /// knowledge).
    Http2,
}

/// How long an upstream may take. All are longer than zero.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To be connected: the name's lookup, TCP, the proxy and TLS together.
    pub connect: Duration,
    /// From the request sent to the head of a streamed response.
    pub first_byte: Duration,
    /// The same of any other response.
    pub first_byte_unstreamed: Duration,
    /// The longest silence inside the body of an answer.
    pub idle: Duration,
    /// For the whole exchange, from the request's arrival on; `None`: any time.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// From the request sent to the head of its response, and the key that says so. `is_streamed`:
    /// the request asked for a stream.
    pub fn first_byte_of(&self, is_streamed: bool) -> (Duration, &'static str) {
        if is_streamed || self.first_byte == self.first_byte_unstreamed {
            (self.first_byte, "timeouts.first_byte")
        } else {
            (self.first_byte_unstreamed, "timeouts.first_byte_unstreamed")
        }
    }
}

/// How many idle connections to an upstream are kept.
#[derive(Clone, Debug)]
pub struct PoolLimits {
    /// How long each is kept.
    pub idle_timeout: Duration,
    /// How many each worker keeps; 0: none.
    pub max_idle: usize,
}

/// What a request must match, and where it goes then. Each can be reached: no earlier one takes all
/// that it would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What the path begins with: a slash, and none at the end. `None`: any path.
    pub path: Option<String>,
    /// A glob for the request's model, not empty. `None`: any model, or none.
    pub model: Option<String>,
    /// The index of an upstream.
    pub upstream: usize,
}
