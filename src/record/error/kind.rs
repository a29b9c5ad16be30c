//! The table of all errors. Codes and statuses are a contract with clients; texts are not.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;

use crate::codec::authority::HostFault;

/// The side that must act for the request to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The request must change.
    Client,
    /// The upstream, or the connection to it, must change.
    Upstream,
    /// streamgauge is full or stopping.
    Us,
}

/// The safety and use of an attempt at another upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Another attempt would fail likewise, or a response has begun.
    Never,
    /// The upstream cannot have worked on the request.
    NotSent,
    /// The upstream may have executed the request, and no response has begun: another attempt may
    /// be billed twice.
    BeforeResponse,
    /// streamgauge has refused the request before an attempt, and can accept it after a pause.
    AfterPause,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The machine-readable `code`. Several kinds may share one.
    pub code: &'static str,
    /// The HTTP status of a response that has not begun.
    pub status: StatusCode,
    /// The side at fault.
    pub blame: Blame,
    /// See [`Error::retry`](super::Error::retry) for the one exception.
    pub retry: Retry,
    /// One sentence of documentation, in Markdown.
    pub meaning: &'static str,
}

/// A limit without room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitReached {
    /// `client search`, `team engineering`.
    pub whose: String,
    /// The place in the configuration.
    pub key: String,
    /// `requests`, `tokens`, `running requests`, or a currency.
    pub unit: String,
    /// The used and the held amount.
    pub used: String,
    /// The amount that the request is expected to use. Of a running one: what it needs besides what
    /// it holds.
    pub want: String,
    pub most: String,
    /// The difference of `most` and `used`.
    pub remaining: String,
    /// The limit is one of use in a time.
    pub is_rate: bool,
    pub retry_after: Option<Duration>,
    /// The end of the period of the limit.
    pub until: Option<Timestamp>,
}

/// The reason why the tokens of a request are not counted in its own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMetered {
    /// No request to the endpoint has its tokens counted.
    Endpoint,
    /// The request works in the background, or may do so: its tokens are counted when its result is
    /// retrieved.
    Background,
}

/// `Name { fields } = status, code, blame, retry, meaning;`
macro_rules! kinds {
    ($($name:ident $({ $($field:ident: $type:ty),+ })? $(($inner:ty))? =
        $status:ident, $code:literal, $blame:ident, $retry:ident, $meaning:literal;)+) => {
        /// The kind of error, with the values that its message names.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $meaning] $name $({ $($field: $type),+ })? $(($inner))?,)+
        }

        /// All kinds, in the order of their declaration.
        pub const KINDS: &[Info] = &[$(Info {
            code: $code,
            status: StatusCode::$status,
            blame: Blame::$blame,
            retry: Retry::$retry,
            meaning: $meaning,
        },)+];

        /// Indices into [`KINDS`].
        #[derive(Clone, Copy)]
        enum Row { $($name,)+ }

        impl Kind {
            /// Its row of the table.
            pub fn info(&self) -> &'static Info {
                &KINDS[match self { $(Self::$name { .. } => Row::$name,)+ } as usize]
            }
        }
    };
}

kinds! {
    MalformedHead = BAD_REQUEST, "malformed_request", Client, Never,
        "The request is not valid HTTP/1.1.";
    UriTooLong = URI_TOO_LONG, "uri_too_long", Client, Never,
        "The path and query are too long.";
    HeadTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", Client, Never,
        "The headers are larger than 64 KiB, or there are more than 100.";
    HeadTimeout(Duration) = REQUEST_TIMEOUT, "header_timeout", Client, Never,
        "The headers did not arrive within `server.header_timeout`: the client is too slow, or does not speak HTTP.";
    BodyTimeout(Duration) = REQUEST_TIMEOUT, "body_timeout", Client, Never,
        "The body stopped arriving.";
    BodyTooSlow { rate: u32 } = REQUEST_TIMEOUT, "body_too_slow", Client, Never,
        "The body arrived more slowly than `server.min_body_rate`: send it faster, or lower the rate.";
    BodyEvicted = REQUEST_TIMEOUT, "body_evicted", Client, Never,
        "The body arrived slowly while other requests needed its memory.";
    BodyIncomplete = BAD_REQUEST, "body_incomplete", Client, Never,
        "The body ended before it was complete.";
    BodyTooLarge { limit: u64, key: &'static str } = PAYLOAD_TOO_LARGE, "request_too_large", Client, Never,
        "The body is larger than `server.max_request_bytes` or `server.max_passing_bytes`: send less, or raise the one that the message names.";
    HostInvalid(HostFault) = BAD_REQUEST, "invalid_host", Client, Never,
        "`Host` is missing, repeated or invalid, or differs from the request's target.";
    HostNotAllowed(String) = FORBIDDEN, "host_not_allowed", Client, Never,
        "`Host` is not one of `server.hosts`, an address or localhost: add the name, if it is the proxy's.";
    OriginNotAllowed(String) = FORBIDDEN, "origin_not_allowed", Client, Never,
        "A web page sent the request, and its origin is not one of `server.origins`: add it, if that page may use the proxy.";
    CrossSite(String) = FORBIDDEN, "cross_site", Client, Never,
        "A web page of another site sent the request without its origin.";
    MethodNotAllowed(String) = METHOD_NOT_ALLOWED, "method_not_allowed", Client, Never,
        "The method is not forwarded, as `CONNECT` and `TRACE`.";
    UnknownPath(String) = NOT_FOUND, "unknown_path", Client, Never,
        "The path begins with neither `/v1` nor `/openai`, nor as the paths of the upstream's own API.";
    UnsafePath = BAD_REQUEST, "unsafe_path", Client, Never,
        "The path has segments that could leave the upstream's own path.";
    NoRoute { path: String, model: Option<String> } = NOT_FOUND, "no_route", Client, Never,
        "No entry of `[[routes]]` matches.";
    StoredIdUnknown(String) = NOT_FOUND, "id_not_found", Client, Never,
        "The request names a response, file or other stored object that another client created.";
    KeyMissing = UNAUTHORIZED, "missing_api_key", Client, Never,
        "Clients are configured, and the request has no key.";
    KeyUnknown { is_slowed: bool } = UNAUTHORIZED, "invalid_api_key", Client, Never,
        "The request's key is not one of the configured and stored keys.";
    KeyMistyped { is_slowed: bool } = UNAUTHORIZED, "invalid_api_key", Client, Never,
        "The request's key has the form of `streamgauge keys`, and its checksum is wrong.";
    KeyExpired = UNAUTHORIZED, "invalid_api_key", Client, Never,
        "The request's key has expired.";
    KeyRevoked = UNAUTHORIZED, "key_revoked", Client, Never,
        "The request's key was revoked while the request ran: with `--now`, or before the next response of a WebSocket.";
    CertificateNotTrusted = UNAUTHORIZED, "certificate_not_trusted", Client, Never,
        "Clients need a certificate, and the present authorities do not trust that of this open connection.";
    ModelRequired = BAD_REQUEST, "model_required", Client, Never,
        "The upstream needs a model to choose a deployment, and the request names none.";
    ModelAmbiguous = BAD_REQUEST, "model_ambiguous", Client, Never,
        "The request names its model twice, and the model decides the route, or whether it is allowed.";
    ModelNotAllowed { model: String, models: String, client: String } =
        FORBIDDEN, "model_not_allowed", Client, Never,
        "The model is not one of the client's `models`.";
    ModelUnknown { models: Option<String>, client: String } = FORBIDDEN, "model_unknown", Client, Never,
        "The model cannot be read, and the client may use only its `models`, or has a limit that depends on the model.";
    EndpointNotAllowed { endpoint: &'static str, reason: NotMetered, client: String } =
        FORBIDDEN, "endpoint_not_allowed", Client, Never,
        "The tokens of such requests are not counted with them, and the client's `endpoints` are `\"metered\"`.";
    OutputTooLarge { field: &'static str, asked: String, most: u64, client: String } =
        BAD_REQUEST, "max_output_exceeded", Client, Never,
        "The request asks for more output tokens than the client's `max_output`: ask for less, or raise it.";
    ModelTooLate { limit: u64 } = PAYLOAD_TOO_LARGE, "model_too_late", Client, Never,
        "The form has its field `model` after more bytes than `server.max_request_bytes`: send it before the file.";
    CodingUnknown(String) = UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", Client, Never,
        "The `Content-Encoding` is unknown, and the body must be read: its model decides the route, or it may name a stored object.";
    BodyUndecodable = BAD_REQUEST, "body_undecodable", Client, Never,
        "The body is not in its `Content-Encoding`.";
    BodyExpandsTooFar = PAYLOAD_TOO_LARGE, "request_too_large", Client, Never,
        "The body expands more than is reasonable when its `Content-Encoding` is decoded.";
    BodyNotUtf8 = BAD_REQUEST, "body_not_utf8", Client, Never,
        "The JSON body is in UTF-16 or UTF-32.";
    BodyNotJson = BAD_REQUEST, "body_not_json", Client, Never,
        "The body is not valid JSON, and may name another client's stored object.";
    MessageUnreadable = BAD_REQUEST, "message_unreadable", Client, Never,
        "A message of a WebSocket is not a JSON object in plain frames, and limits apply to what it may ask for.";
    TurnsUnanswered { most: usize } = TOO_MANY_REQUESTS, "too_many_turns", Client, Never,
        "A WebSocket has as many responses that have not ended as it may have: ask for the next one after one has ended.";
    TierNotAllowed { tier: String } = FORBIDDEN, "service_tier_not_allowed", Client, Never,
        "A response of a WebSocket is asked for in another service tier than the standard one, and a limit counts cost.";
    SessionOutlived = FORBIDDEN, "session_too_old", Client, Never,
        "A period in which the WebSocket counts ended a whole period ago: open another one.";
    HeaderValue { name: &'static str, values: &'static str } = BAD_REQUEST, "invalid_header", Client, Never,
        "A header of streamgauge's own has an unknown value.";
    Unreachable = BAD_GATEWAY, "upstream_unreachable", Upstream, NotSent,
        "There is no connection to the upstream, or it closed before it could work on the request.";
    Tls = BAD_GATEWAY, "upstream_tls", Upstream, NotSent,
        "There is no TLS session with the upstream.";
    Redirect { host: String } = BAD_GATEWAY, "upstream_redirect", Upstream, Never,
        "The upstream redirects to a host that is not among `network.allowed_hosts`: set its `url` to where it is, or add the host.";
    IdentityUnavailable = SERVICE_UNAVAILABLE, "identity_unavailable", Upstream, NotSent,
        "There is no token for the upstream: its `entra`, `google` or `aws` could not get one. The log has the reason.";
    ProxyRefused { proxy: String, status: u16 } = BAD_GATEWAY, "proxy_refused", Upstream, NotSent,
        "The forward proxy refused the tunnel to the upstream.";
    ProxyFailed { proxy: String } = BAD_GATEWAY, "proxy_failed", Upstream, NotSent,
        "The forward proxy cannot be reached, or did not respond as a proxy.";
    ProxySilent { proxy: String, limit: Duration } = BAD_GATEWAY, "proxy_timeout", Upstream, NotSent,
        "The forward proxy opened no tunnel within `timeouts.connect`.";
    WrongProtocol = BAD_GATEWAY, "upstream_protocol", Upstream, NotSent,
        "The upstream does not speak the HTTP version that is needed.";
    Protocol = BAD_GATEWAY, "upstream_protocol", Upstream, Never,
        "The upstream's response breaks HTTP.";
    Unanswered = BAD_GATEWAY, "upstream_protocol", Upstream, BeforeResponse,
        "The upstream got the request and sent no valid response.";
    Truncated = BAD_GATEWAY, "upstream_truncated", Upstream, Never,
        "The upstream closed the connection inside its response.";
    Undecodable = BAD_GATEWAY, "upstream_undecodable", Upstream, Never,
        "The response is not in its `Content-Encoding`, which had to be decoded.";
    Refused { status: u16, body: String } = BAD_GATEWAY, "upstream_refused", Upstream, Never,
        "The upstream responded with an error after the client had been sent the head of a stream.";
    ConnectTimeout { limit: Duration } = GATEWAY_TIMEOUT, "connect_timeout", Upstream, NotSent,
        "Connecting took longer than `timeouts.connect`.";
    FirstByteTimeout { limit: Duration, key: &'static str, was_sent: bool } =
        GATEWAY_TIMEOUT, "first_byte_timeout", Upstream, BeforeResponse,
        "The response did not begin within `timeouts.first_byte` or `timeouts.first_byte_unstreamed`.";
    IdleTimeout { limit: Duration } = GATEWAY_TIMEOUT, "idle_timeout", Upstream, Never,
        "The upstream was silent inside its response for longer than `timeouts.idle`.";
    TotalTimeout { limit: Duration, was_sent: bool } =
        GATEWAY_TIMEOUT, "total_timeout", Upstream, BeforeResponse,
        "The exchange took longer than `timeouts.total`.";
    UpstreamsRateLimited { retry_after: Option<Duration>, holder: Option<Arc<str>> } =
        TOO_MANY_REQUESTS, "upstreams_rate_limited", Upstream, AfterPause,
        "All members of the group, or the one that stores what the request names, are left out until their rate limits end.";
    UpstreamsBusy { wait: Duration, holder: Option<Arc<str>> } =
        SERVICE_UNAVAILABLE, "upstreams_busy", Us, AfterPause,
        "Each member of the group that is not left out, or the one that stores what the request names, runs as many requests as `concurrent` allows, and the time to wait is over: raise `concurrent` or `wait`, or add a member.";
    UpstreamBusy = SERVICE_UNAVAILABLE, "upstreams_busy", Us, AfterPause,
        "The upstream runs as many requests as its `concurrent` allows: raise it, or route to a group with `wait`.";
    QueueFull = TOO_MANY_REQUESTS, "queue_full", Client, AfterPause,
        "As many requests wait as `queue` of the group allows, and no client has more of them than this one: send fewer at once, or raise it.";
    ModelsUnavailable = BAD_GATEWAY, "models_unavailable", Upstream, NotSent,
        "No upstream responded to `GET /v1/models` with its list in time.";
    NoPrice { model: String, currency: String, limit: String } = FORBIDDEN, "no_price", Client, Never,
        "A limit counts cost, and no entry of `[[prices]]` is for the model: add one, or write `unpriced = \"allow\"` in the limit.";
    LimitReached(Box<LimitReached>) = TOO_MANY_REQUESTS, "rate_limit_exceeded", Client, AfterPause,
        "A limit of the client, or of its team, has no room for the request: wait, or raise the one that the message names.";
    QuotaReached(Box<LimitReached>) = TOO_MANY_REQUESTS, "insufficient_quota", Client, Never,
        "A limit of the client, or of its team, has no room for the request before the next period: raise the one that the message names.";
    BudgetExhausted(Box<LimitReached>) = TOO_MANY_REQUESTS, "budget_exhausted", Client, Never,
        "A limit with `at_limit = \"cut\"` had no room for more of a response that was running: raise the one that the message names.";
    LimitsUnavailable = SERVICE_UNAVAILABLE, "limits_unavailable", Us, AfterPause,
        "The store of limits and ids that replicas share does not respond, and `redis.when_away` is `\"refuse\"`.";
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", Us, AfterPause,
        "The buffered request bodies use up `server.max_buffered_bytes`: raise it, if there is memory.";
    ClientOverloaded = SERVICE_UNAVAILABLE, "client_overloaded", Client, AfterPause,
        "This client's request bodies use up its share of `server.max_buffered_bytes`.";
    MemoryFull = SERVICE_UNAVAILABLE, "memory_full", Us, AfterPause,
        "Connections, requests and records use up `server.max_memory`, so new requests are refused while running ones go on: raise it, if there is memory.";
    NoPlace = SERVICE_UNAVAILABLE, "no_place", Us, AfterPause,
        "There are as many HTTP/2 streams as `server.max_connections` allows: raise it, and the limit on open files.";
    Stopped = SERVICE_UNAVAILABLE, "stopped", Us, Never,
        "streamgauge was stopped before the response ended.";
}

#[cfg(test)]
mod tests;
