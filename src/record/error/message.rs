//! The messages of errors for clients: what happened and what to do.

mod host;

use std::fmt;

use host::{host_fault, hosts_to_write};

use super::{Error, Kind, LimitReached, NotMetered};

/// Describes the only upstream that can serve a request for stored state.
const STORES: &str = "which stores what the request names";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_message(f)?;
        match &self.0.attempts {
            Some(attempts) => write!(f, " {}", attempts.text),
            None => Ok(()),
        }
    }
}

impl Error {
    fn write_message(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let upstream = self.upstream().unwrap_or_default();
        let reason: &dyn fmt::Display = match &self.0.source {
            Some(source) => source,
            None => &"",
        };
        match self.kind() {
            Kind::MalformedHead => {
                f.write_str("The request is not valid HTTP/1.1. Check that the client speaks HTTP to this port.")
            }
            Kind::UriTooLong => f.write_str("The request's path and query are too long. Shorten them."),
            Kind::HeadTooLarge => {
                f.write_str("The request's headers are larger than this proxy accepts (64 KiB, 100 headers). Send fewer or smaller ones.")
            }
            Kind::HeadTimeout(limit) => {
                write!(f, "The request's headers did not arrive within {limit:?} (server.header_timeout).")
            }
            Kind::BodyTimeout(limit) => {
                write!(f, "The request's body stopped arriving for {limit:?}. Send it without pauses.")
            }
            Kind::BodyTooSlow { rate } => write!(
                f,
                "The request's body arrived at less than {rate} bytes per second (server.min_body_rate). Send it faster, \
                 or lower the rate."
            ),
            Kind::BodyEvicted => f.write_str(
                "The request's body arrived slowly while other requests needed the memory it held \
                 (server.max_buffered_bytes). Send it again, without pauses.",
            ),
            Kind::BodyIncomplete => f.write_str("The request's body ended before it was complete."),
            Kind::BodyTooLarge { limit, key } => {
                write!(f, "The request's body is larger than {limit} bytes. Send less, or raise {key}.")
            }
            Kind::HostInvalid(fault) => write!(f, "{} Send one Host that is a name or an address.", host_fault(*fault)),
            Kind::HostNotAllowed(host) => write!(
                f,
                "The request is for the host {host:?}, which is not known to be this proxy's: any web page could give a \
                 name of its own this address. If it is yours, write hosts = {} in [server], or use an address or localhost.",
                hosts_to_write(host)
            ),
            Kind::OriginNotAllowed(origin) if origin == "null" => f.write_str(
                "A web page whose origin is null sent this request: a file, or a sandboxed frame. Such pages cannot be \
                 distinguished, so none may use this proxy. Serve the page from an address, and add its origin to origins in [server].",
            ),
            Kind::OriginNotAllowed(origin) => write!(
                f,
                "A web page of {origin:?} sent this request. If that page may use this proxy, write origins = [{origin:?}] in [server]."
            ),
            Kind::CrossSite(site) => write!(
                f,
                "A web page elsewhere made the browser send this request (Sec-Fetch-Site: {site}) without saying its origin. \
                 If the page may use this proxy, add its origin to origins in [server] and send the request with CORS."
            ),
            Kind::MethodNotAllowed(method) => write!(f, "The method {method} is not one that this proxy forwards."),
            Kind::UnknownPath(path) => write!(
                f,
                "Nothing is served at {path}. Paths begin with /v1 (or /openai for an Azure upstream): \
                 set the SDK's base URL to http://<this address>/v1."
            ),
            Kind::UnsafePath => f.write_str(
                "The path has `.`, `..`, empty or backslash segments. Send it in its plain form.",
            ),
            Kind::NoRoute { path, model: Some(model) } => write!(
                f,
                "No route matches {path} with the model {model:?}. Request another model, or add a [[routes]] entry."
            ),
            Kind::NoRoute { path, model: None } => {
                write!(f, "No route matches {path}. Request another path, or add a [[routes]] entry.")
            }
            Kind::StoredIdUnknown(id) => write!(
                f,
                "This client has nothing stored under the id {id:?}. Send an id from a response to this client's own requests."
            ),
            Kind::KeyMissing => f.write_str(
                "No API key. Send one of the keys configured under [clients] as `Authorization: Bearer <key>`.",
            ),
            Kind::KeyUnknown { is_slowed } => {
                f.write_str("The API key is not one of those configured under [clients] of this proxy.")?;
                f.write_str(slowed(*is_slowed))
            }
            Kind::KeyMistyped { is_slowed } => {
                f.write_str("The API key is mistyped: its last characters do not match the others. Copy all of it again.")?;
                f.write_str(slowed(*is_slowed))
            }
            Kind::KeyExpired => f.write_str(
                "This API key has expired. Send the key that replaced it, or ask the operator of this proxy for a new one.",
            ),
            Kind::TurnsUnanswered { most } => {
                write!(f, "{most} responses of this session have not ended. Ask for the next one after one of them.")
            }
            Kind::TierNotAllowed { tier } => write!(
                f,
                "A limit of this client counts the cost of a whole WebSocket in the standard service tier, and the message names \
                 {tier:?}. Leave `service_tier` out, or send the request over HTTP."
            ),
            Kind::SessionOutlived => f.write_str(
                "This session began so long ago that a limit has forgotten its period. Open another WebSocket.",
            ),
            Kind::MessageUnreadable => f.write_str(
                "A message must be a JSON object in frames without compression, since limits apply to this client.",
            ),
            Kind::CertificateNotTrusted => f.write_str(
                "The authorities of client certificates have changed since this connection was opened. Open another one, with a \
                 certificate of a present authority.",
            ),
            Kind::ModelRequired => write!(
                f,
                "The upstream `{upstream}` chooses the deployment by the model, and the request names none. \
                 Set `model` in the body, or default_model in the configuration."
            ),
            Kind::ModelAmbiguous => {
                f.write_str(
                    "The request names its model twice, and the model decides where it goes or whether it is allowed. Send it once.",
                )
            }
            Kind::ModelNotAllowed { model, models, client } => write!(
                f,
                "The client {client} may not use the model {model:?}. It may use {models}. Request one of these, or add the model \
                 to models in [clients.{client}]."
            ),
            Kind::ModelUnknown { models, client } => {
                write!(f, "This proxy cannot read which model the request asks for, and the client {client} ")?;
                match models {
                    Some(models) => write!(f, "may use only {models}.")?,
                    None => f.write_str("has a limit that depends on it.")?,
                }
                f.write_str(
                    " Name the model where this endpoint has it, in a body without a Content-Encoding that is unknown here.",
                )
            }
            Kind::EndpointNotAllowed { endpoint, reason, client } => write!(
                f,
                "The client {client} may send only requests whose tokens are counted with them, and {endpoint:?}{} is not \
                 one. Write endpoints = \"all\" in [clients.{client}] to allow the others.",
                match reason {
                    NotMetered::Endpoint => "",
                    NotMetered::Background => " with background = true, or with a body that cannot be read here,",
                }
            ),
            Kind::OutputTooLarge { field, asked, most, client } => write!(
                f,
                "The request asks for {asked} tokens of output ({field}), and the client {client} may ask for {most}. Ask for less, \
                 or raise max_output in [clients.{client}]."
            ),
            Kind::ModelTooLate { limit } => write!(
                f,
                "The form names its model after more than {limit} bytes, and the model decides where the request goes or is \
                 renamed. Send the field `model` before the file, or raise server.max_request_bytes."
            ),
            Kind::CodingUnknown(coding) => write!(
                f,
                "The request's Content-Encoding {coding:?} is not known here, and the body must be read: its model decides where \
                 the request goes or is renamed, or it may name a stored object. Send the body as it is, or in gzip, deflate, \
                 br or zstd."
            ),
            Kind::BodyUndecodable | Kind::BodyExpandsTooFar => {
                write!(f, "The request's body cannot be read: {reason}. Send it as its Content-Encoding says, or without one.")
            }
            Kind::BodyNotUtf8 => f.write_str(
                "The request's JSON body is in UTF-16 or UTF-32. Send it in UTF-8, as RFC 8259 section 8.1 asks.",
            ),
            Kind::BodyNotJson => f.write_str(
                "The request's body is not valid JSON (RFC 8259), so that the stored objects that it names cannot be checked. \
                 Send valid JSON, nested at most 127 deep.",
            ),
            Kind::HeaderValue { name, values } => {
                write!(f, "The header `{name}` has a value that this proxy does not know. Send {values}, or leave it out.")
            }
            Kind::IdentityUnavailable => write!(
                f,
                "There is no token for the upstream `{upstream}`: its identity could not get one. The log of this proxy has the reason."
            ),
            Kind::Unreachable => write!(
                f,
                "The upstream `{upstream}` cannot be reached: {reason}. Check its url in the configuration and that it runs."
            ),
            Kind::Tls => write!(
                f,
                "No TLS session with the upstream `{upstream}`: {reason}. Check its url and its certificate."
            ),
            Kind::Redirect { host } => write!(
                f,
                "The upstream `{upstream}` redirects to {}, which is not among network.allowed_hosts. Set its url to where it is, \
                 or add that host.",
                if host.is_empty() { "a host that clients read differently" } else { host }
            ),
            Kind::ProxyRefused { proxy, status } => write!(
                f,
                "The proxy {proxy} responded with {status} and opened no tunnel to the upstream `{upstream}`. {}",
                match status {
                    // Some proxies send 401 for 407.
                    401 | 407 => "Check the username and the password of the proxy in the configuration.",
                    _ => "Check the proxy's rules, or set proxy = \"none\" if the upstream can be reached without it.",
                }
            ),
            Kind::ProxyFailed { proxy } => write!(
                f,
                "The upstream `{upstream}` cannot be reached through the proxy {proxy}: {reason}. Check the proxy's url in the \
                 configuration and that it runs."
            ),
            Kind::ProxySilent { proxy, limit } => write!(
                f,
                "The proxy {proxy} opened no tunnel to the upstream `{upstream}` within {limit:?} (timeouts.connect). Check \
                 that the proxy runs and that it can reach the upstream."
            ),
            Kind::WrongProtocol | Kind::Protocol => {
                write!(f, "The upstream `{upstream}` broke HTTP: {reason}. Check what listens at its url.")
            }
            Kind::Unanswered => write!(
                f,
                "The upstream `{upstream}` sent no response: {reason}. It may have executed the request, which is therefore not \
                 sent again."
            ),
            Kind::ConnectTimeout { limit } => write!(
                f,
                "Connecting to the upstream `{upstream}` took longer than {limit:?} (timeouts.connect)."
            ),
            Kind::FirstByteTimeout { limit, key, .. } => {
                write!(f, "The upstream `{upstream}` sent no response within {limit:?} ({key}).")
            }
            Kind::IdleTimeout { limit } => write!(
                f,
                "The upstream `{upstream}` sent nothing inside its response for {limit:?} (timeouts.idle)."
            ),
            Kind::TotalTimeout { limit, .. } => {
                write!(f, "The exchange with the upstream `{upstream}` took longer than {limit:?} (timeouts.total).")
            }
            Kind::Truncated => {
                write!(f, "The upstream `{upstream}` closed the connection inside its response: {reason}.")
            }
            Kind::Undecodable => {
                write!(f, "The stream of the upstream `{upstream}` cannot be decoded: {reason}.")
            }
            Kind::Refused { status, body } => {
                write!(f, "The upstream `{upstream}` responded with status {status}: {body}")
            }
            Kind::UpstreamsRateLimited { retry_after: Some(pause), holder } => {
                match holder {
                    Some(holder) => {
                        write!(f, "The upstream `{holder}`, {STORES}, is left out because of its rate limit.")?;
                    }
                    None => {
                        write!(f, "All upstreams of the group `{upstream}` are left out because of their rate limits.")?;
                    }
                }
                write!(f, " Try again in {} s.", pause.as_secs() + 1)
            }
            Kind::ModelsUnavailable => f.write_str("No upstream responded with its list of models in time."),
            Kind::UpstreamsRateLimited { retry_after: None, holder: Some(holder) } => {
                write!(f, "The upstream `{holder}`, {STORES}, takes no request now. Try again shortly.")
            }
            Kind::UpstreamsRateLimited { retry_after: None, holder: None } => {
                write!(f, "No upstream of the group `{upstream}` takes the request now. Try again shortly.")
            }
            Kind::UpstreamsBusy { wait, holder } => {
                match holder {
                    Some(holder) => write!(f, "The upstream `{holder}`, {STORES},")?,
                    None => write!(f, "Each upstream of the group `{upstream}`")?,
                }
                f.write_str(" runs as many requests as it may (concurrent)")?;
                if !wait.is_zero() {
                    f.write_str(", and the time to wait is over")?;
                }
                f.write_str(". Try again shortly.")
            }
            Kind::UpstreamBusy => write!(
                f,
                "The upstream `{upstream}` runs as many requests as it may (concurrent). Try again shortly."
            ),
            Kind::QueueFull => write!(
                f,
                "As many requests wait for the group `{upstream}` as may (queue), and no client has more of them than this one. Try again shortly."
            ),
            Kind::NoPrice { model, currency, limit } => write!(
                f,
                "The model {model:?} of the upstream `{upstream}` has no price in {currency}, and {limit} counts cost. Add one to \
                 [[prices]], or write unpriced = \"allow\" in the limit."
            ),
            Kind::LimitReached(reached) | Kind::QuotaReached(reached) => {
                let LimitReached { whose, key, unit, used, want, most, is_rate, retry_after, until, .. } = &**reached;
                if !is_rate {
                    return write!(f, "The {whose} has {used} of {most} {unit} ({key}). There is room when one of them ends.");
                }
                write!(
                    f,
                    "The {whose} has used or reserved {used} of {most} {unit}, and this request may need {want} ({key})."
                )?;
                match (retry_after, until) {
                    (Some(pause), _) => write!(f, " There is room again in {:.3} s.", pause.as_secs_f64()),
                    (None, Some(until)) => write!(f, " The count begins again at {until}."),
                    (None, None) => Ok(()),
                }
            }
            Kind::BudgetExhausted(reached) => {
                let LimitReached { whose, key, unit, used, want, most, until, .. } = &**reached;
                write!(
                    f,
                    "The {whose} has used or reserved {used} of {most} {unit}, and this response needs {want} more ({key}): it was \
                     ended."
                )?;
                match until {
                    Some(until) => write!(f, " The count begins again at {until}."),
                    None => Ok(()),
                }
            }
            Kind::LimitsUnavailable => f.write_str(
                "The store of the limits that the replicas of this proxy share does not respond, and without it no request of a \
                 client with limits is served (redis.when_away). Try again shortly.",
            ),
            Kind::ClientOverloaded => f.write_str(
                "The bodies of this client's requests hold as much memory as one client may while there are several: half of \
                 server.max_buffered_bytes. Try again shortly.",
            ),
            Kind::MemoryFull => f.write_str(
                "This proxy holds as much memory for its clients as server.max_memory allows. Try again shortly.",
            ),
            Kind::NoPlace => f.write_str(
                "This proxy runs as many HTTP/2 streams as server.max_connections allows. It has not forwarded the request. Try again shortly.",
            ),
            Kind::KeyRevoked => f.write_str("The request's key was revoked, and the request was ended."),
            Kind::Stopped => f.write_str("The proxy was stopped before the response ended. Send the request again."),
            Kind::Overloaded => f.write_str(
                "This proxy buffers as many request bodies as server.max_buffered_bytes allows. Try again shortly.",
            ),
        }
    }
}

/// The rest of the message about a refusal that waits.
fn slowed(is_slowed: bool) -> &'static str {
    match is_slowed {
        true => " Many unknown keys came from this address, so that their responses are delayed.",
        false => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn full_group_message_names_holder_of_stored_state() {
        let wait = Duration::from_secs(3);
        let holder = || Some("azure".into());
        let retry_after = Some(Duration::from_millis(4200));
        for (kind, text) in [
            (
                Kind::UpstreamsBusy { wait, holder: None },
                "Each upstream of the group `chat` runs as many requests as it may (concurrent), \
                 and the time to wait is over. Try again shortly.",
            ),
            (
                Kind::UpstreamsBusy { wait: Duration::ZERO, holder: holder() },
                "The upstream `azure`, which stores what the request names, runs as many requests \
                 as it may (concurrent). Try again shortly.",
            ),
            (
                Kind::UpstreamsRateLimited { retry_after, holder: None },
                "All upstreams of the group `chat` are left out because of their rate limits. Try \
                 again in 5 s.",
            ),
            (
                Kind::UpstreamsRateLimited { retry_after, holder: holder() },
                "The upstream `azure`, which stores what the request names, is left out because of \
                 its rate limit. Try again in 5 s.",
            ),
            (
                Kind::UpstreamsRateLimited { retry_after: None, holder: holder() },
                "The upstream `azure`, which stores what the request names, takes no request now. \
                 Try again shortly.",
            ),
        ] {
            assert_eq!(kind.at("chat").to_string(), text);
        }
    }
}
