//! `stream_options.include_usage`: the choice of requests that get it in the client's place, and
//! the recognition of a refusal.
//!
//! A streamed chat or legacy completion reports usage only if the request asks for it. If the
//! client does not ask, the proxy does, and the meter's body withholds the resulting event
//! ([`Withhold`](crate::llm::usage::Withhold)). Some upstreams refuse the field. In `auto` mode an
//! error that names the field, with any status and also in a stream before any content, costs one
//! more attempt, the client gets only the response to that, and the model is not asked again for a
//! day.
//!
//! The first bytes of a response are read before it is relayed ([`Beginning`]) if its type does not
//! tell a stream from other bodies, and until a model has accepted the field.

mod beginning;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::timeout;

use self::beginning::{Beginning, names_asking};
use super::snapshot::UpstreamSpec;
use super::stream_options::StreamOptionsSupport;
use crate::codec::coding::{Codings, ContentDecoder};
use crate::codec::head::{Headers, KnownName};
use crate::llm::provider::{Endpoint, Inbound, IncludeUsage, may_create};
use crate::llm::rewrite::body::Peek;
use crate::llm::usage::Content;
use crate::proxy::meter::{ResponseMeter, UsageFeedback};
use crate::upstream::UpstreamResponse;

/// The largest part of a refusal that is read to find its reason, in bytes; real ones have less
/// than 2 KiB. A longer one is relayed.
const REFUSAL: usize = 64 << 10;

/// The longest wait for the rest of an error's body. An error that takes longer is relayed as it
/// arrives: bodies of refusals come with their head.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);

/// From this length on, the beginning of a response is looked at again only when a line has ended,
/// or when this many more bytes have arrived.
const STEP: usize = 512;

/// The handling of `stream_options.include_usage` in one attempt. Models are kept as hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageOption {
    /// Not added: the client decides.
    Untouched,
    /// Not added: the upstream is believed to report usage without it.
    Unneeded(u64),
    /// Added. A refusal is relayed.
    Always,
    /// Added. After a refusal the request is sent without it.
    Auto(u64),
}

impl UsageOption {
    pub(super) fn is_added(self) -> bool {
        matches!(self, Self::Always | Self::Auto(_))
    }

    /// Looks at the response to an attempt with this option, and notes if it accepts the option.
    /// Bytes that are read here come again when the body is read.
    pub(super) async fn check(self, response: &mut UpstreamResponse, support: &StreamOptionsSupport) -> Seen {
        let model = match self {
            Self::Untouched | Self::Unneeded(_) => return Seen::Response(None),
            Self::Always => None,
            Self::Auto(model) => Some(model),
        };
        match (model, look(response, model.is_none_or(|model| support.is_supported(model))).await) {
            (None, Seen::Refusal) => Seen::Response(None),
            (Some(model), seen @ Seen::Response(_)) => {
                if response.head.status.is_success() {
                    support.note_supported(model);
                }
                seen
            }
            (_, seen) => seen,
        }
    }

    /// The use of the end of this attempt's response for knowledge about its upstream.
    pub(super) fn feedback(self, support: &Arc<StreamOptionsSupport>) -> Option<UsageFeedback> {
        let (model, asked) = match self {
            Self::Unneeded(model) => (model, false),
            Self::Auto(model) => (model, true),
            Self::Untouched | Self::Always => return None,
        };
        Some(UsageFeedback { observer: Arc::clone(support) as _, model, asked })
    }
}

/// Returns true if usage may be asked for in a request that does not ask itself.
pub(super) fn may_ask(spec: &UpstreamSpec, method: &Method, inbound: &Inbound<'_>, peek: &Peek<'_>) -> bool {
    let is_streamed_completion = peek.stream
        && may_create(method)
        && matches!(Endpoint::of(inbound.path).name, "chat/completions" | "completions");
    is_streamed_completion
        && match spec.include_usage {
            IncludeUsage::Never => false,
            IncludeUsage::Always => true,
            // Azure's "on your data" refuses it too (azure-sdk-for-js#30751).
            IncludeUsage::Auto => {
                !spec.sends_usage_unasked
                    && !peek.has_data_sources
                    && !spec.dialect.refuses_stream_options(inbound)
            }
        }
}

/// Methods of Gemini's and Vertex AI's paths whose responses are streams, of events or of an array.
const STREAMING_METHODS: [&str; 2] = ["streamGenerateContent", "streamRawPredict"];

/// Returns true if the URL asks for a stream, as `GET responses/{id}?stream=true` and Gemini's
/// `models/{model}:streamGenerateContent` do.
pub(super) fn asks_for_stream(inbound: &Inbound<'_>) -> bool {
    let path = inbound.path.strip_suffix('/').unwrap_or(inbound.path);
    STREAMING_METHODS.iter().any(|method| path.ends_with(method))
        || inbound.query.is_some_and(|query| query.split('&').any(is_stream_parameter))
}

/// Returns true for `stream` with a true value, in the spellings of clients, and for `alt=sse`.
fn is_stream_parameter(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some(("stream", value)) => value.eq_ignore_ascii_case("true") || value == "1",
        Some(("alt", value)) => value == "sse",
        _ => false,
    }
}

/// Returns true if a client accepts a response without a content coding, since a coded stream is
/// decoded to withhold the event. It does not if its `Accept-Encoding` has `identity;q=0`, or
/// `*;q=0` and no `identity` (RFC 9110 section 12.5.3).
pub(super) fn takes_identity(client: &Headers) -> bool {
    let mut others = true;
    for value in client.values(KnownName::AcceptEncoding) {
        for item in value.split(|&byte| byte == b',') {
            let mut parts = item.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let coding = parts.next().unwrap_or_default();
            let takes = !parts.any(is_zero_weight);
            if coding.eq_ignore_ascii_case(b"identity") {
                return takes;
            }
            others &= takes || coding != b"*";
        }
    }
    others
}

/// Returns true if a parameter is `q=0`, with any number of decimal zeros.
fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some((name, value)) = parameter.split_at_checked(1) else { return false };
    let value = value.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start);
    let digits = value.and_then(|value| value.strip_prefix(b"0"));
    name.eq_ignore_ascii_case(b"q") && digits.is_some_and(|rest| rest.iter().all(|byte| b".0".contains(byte)))
}

/// The name under which an upstream's support is remembered: the deployment if the path names it,
/// otherwise the model.
pub(super) fn support_name<'a>(inbound: &Inbound<'a>, model: Option<&'a str>) -> &'a str {
    if inbound.path.starts_with("/openai/deployments/") { inbound.path } else { model.unwrap_or_default() }
}

/// The result of looking at the response to an attempt.
#[derive(Debug)]
pub(super) enum Seen {
    /// A refusal of `stream_options`.
    Refusal,
    /// Anything else, with the kind of body if it is known and the type does not tell it.
    Response(Option<Content>),
}

/// Reads the beginning of a response as far as it may be a refusal. The bytes come again when the
/// body is read. `is_supported`: the model accepted the field before, so that a response with a
/// clear type needs no look.
async fn look(response: &mut UpstreamResponse, is_supported: bool) -> Seen {
    let status = response.head.status;
    if status.is_client_error() || status.is_server_error() {
        return if is_refusal(response).await { Seen::Refusal } else { Seen::Response(None) };
    }
    let kind = ResponseMeter::of(&response.head.headers, true);
    let is_ambiguous = kind.is_ambiguous();
    if !status.is_success() || !kind.is_events() || (is_supported && !is_ambiguous) {
        return Seen::Response(None);
    }
    let codings = Codings::of(&response.head.headers);
    let mut looked_at = 0;
    let mut beginning = Beginning::Open;
    let open = |bytes: &[u8], has_ended: bool| {
        let is_due =
            has_ended || bytes.len() < STEP || bytes.len() >= looked_at + STEP || bytes.ends_with(b"\n");
        if is_due {
            looked_at = bytes.len();
            beginning = match decoded(&codings, bytes) {
                Some(bytes) => Beginning::of(&bytes, !is_ambiguous, has_ended),
                None => Beginning::Response(None),
            };
        }
        beginning == Beginning::Open
    };
    response.body.read_while(REFUSAL, open).await;
    match beginning {
        Beginning::Refusal => Seen::Refusal,
        Beginning::Response(content) => Seen::Response(content.filter(|_| is_ambiguous)),
        Beginning::Open => Seen::Response(None),
    }
}

/// Returns true if an error refuses the field.
///
/// An error in an unknown coding counts as a refusal: the response to the client's own request is
/// right in any case.
async fn is_refusal(response: &mut UpstreamResponse) -> bool {
    let read = timeout(REFUSAL_WAIT, response.body.read_ahead(REFUSAL)).await;
    let Ok(Some(body)) = read else { return false };
    match decoded(&Codings::of(&response.head.headers), &body) {
        Some(body) => names_asking(&body),
        None => is_bad_request(response.head.status),
    }
}

/// The beginning of a body without its codings. `None` if they are unknown, or the body is not in
/// them.
fn decoded<'a>(codings: &Codings, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    match codings {
        Codings::Identity => Some(Cow::Borrowed(body)),
        Codings::Known(codings) => {
            let mut decoded = Vec::new();
            let mut decoder = ContentDecoder::new(codings);
            let result = decoder.push(body, &mut |piece| {
                let room = REFUSAL.saturating_sub(decoded.len());
                decoded.extend_from_slice(&piece[..piece.len().min(room)]);
            });
            result.ok().map(|_| Cow::Owned(decoded))
        }
        Codings::Unknown => None,
    }
}

/// The body of an error without its codings. `None`: it is not readable.
pub(super) fn readable_body<'a>(headers: &Headers, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    decoded(&Codings::of(headers), body)
}

/// Returns true if the second response, to the request without the field, confirms that the field
/// caused the first one, of status `refused`. An error may name the field for another reason, for
/// example because it repeats the request.
pub(super) async fn confirms_unsupported(refused: StatusCode, second: &mut UpstreamResponse) -> bool {
    let status = second.head.status;
    if refused.is_success() {
        return status.is_success() && !matches!(look(second, false).await, Seen::Refusal);
    }
    status.is_success() || (is_bad_request(refused) && !is_bad_request(status))
}

fn is_bad_request(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_asks_for_stream_by_query_or_method() {
        let asks = |path, query| asks_for_stream(&Inbound { path, query, is_session: false });
        for query in ["stream=true", "stream=True", "a=b&stream=1", "alt=sse", "key=k&alt=sse"] {
            assert!(asks("/v1/responses/resp_1", Some(query)), "{query}");
        }
        for query in ["stream=false", "stream=", "streams=true", "alt=json", "x=stream=true"] {
            assert!(!asks("/v1/responses/resp_1", Some(query)), "{query}");
        }
        assert!(asks("/v1beta/models/gemini-2.5-flash:streamGenerateContent", None));
        assert!(asks("/v1beta/models/gemini-2.5-flash%3AstreamGenerateContent/", None));
        assert!(!asks("/v1beta/models/gemini-2.5-flash:generateContent", None));
    }

    #[test]
    fn identity_is_taken_unless_it_is_excluded() {
        let takes = |values: &[&'static str]| {
            let mut headers = Headers::default();
            values.iter().for_each(|value| headers.append(b"accept-encoding", value.as_bytes()));
            takes_identity(&headers)
        };
        for values in [
            &[][..],
            &[""],
            &["gzip, deflate, br, zstd"],
            &["gzip;q=0"],
            &["*"],
            &["gzip, *;q=0.001"],
            &["identity;q=0.5"],
            &["*;q=0, identity"],
            &["identity;q=1, *;q=0"],
            &["*;q=0", "Identity;q=0.1"],
            &["identity;q=0.01"],
            &["identity;q"],
            &["identity;"],
        ] {
            assert!(takes(values), "{values:?}");
        }
        for values in [
            &["identity;q=0"][..],
            &["gzip, IDENTITY ; Q=0.000"],
            &["gzip;q=1, *;q=0"],
            &["*;q=0."],
            &["gzip", "*; q=0.0"],
            &["*, identity;q=0"],
        ] {
            assert!(!takes(values), "{values:?}");
        }
    }
}
