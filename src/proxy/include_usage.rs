//! Asking for usage on the client's behalf: which requests, and what becomes of a refusal.
//!
//! A streamed chat or legacy completion bears usage only if it is asked for
//! (`stream_options.include_usage`). Where the client did not, the proxy does, and the meter's body
//! withholds the one event that comes of it ([`Withhold`](crate::usage::Withhold)). Some services
//! refuse the field. In `auto` mode an error that names it, whatever its status, and also in a
//! stream before any content, costs one more request, the client sees only the answer to that, and
//! the model is not asked again for a day.
//!
//! Where a type does not tell if an answer is a stream, and until a model has been seen to take the
//! question, the answer is relayed once its first bytes tell ([`Beginning`]).

mod beginning;

use std::borrow::Cow;

use http::{HeaderMap, Method, StatusCode, header};

use self::beginning::{Beginning, names_asking};
use super::snapshot::UpstreamSpec;
use crate::coding::{Codings, ContentDecoder};
use crate::meter::ResponseMeter;
use crate::provider::{Endpoint, Inbound, IncludeUsage, may_create};
use crate::rewrite::body::Peek;
use crate::upstream::UpstreamResponse;
use crate::usage::Content;

/// The most of a refusal that is read to see what it is about; real ones have less than 2 KiB. One
/// that is longer passes.
const REFUSAL: usize = 64 << 10;

/// From this length on, the beginning of an answer is looked at again only when a line has ended,
/// or when so much more has come.
const STEP: usize = 512;

/// Whether usage may be asked for in the request, if it does not ask itself.
pub(super) fn may_ask(spec: &UpstreamSpec, method: &Method, inbound: &Inbound<'_>, peek: &Peek<'_>) -> bool {
    let can = peek.stream
        && may_create(method)
        && matches!(Endpoint::of(inbound.path).name, "chat/completions" | "completions");
    can && match spec.include_usage {
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

/// Whether the query asks for a stream, as that of a stored response does (`GET
/// responses/{id}?stream=true`).
pub(super) fn asks_for_stream(inbound: &Inbound<'_>) -> bool {
    inbound.query.is_some_and(|query| query.split('&').any(|parameter| parameter == "stream=true"))
}

/// Whether a client takes an answer without a content coding, as one is that had to be decoded to
/// withhold the event: not where its `Accept-Encoding` says `identity;q=0`, or `*;q=0` and nothing
/// of identity (RFC 9110 section 12.5.3).
pub(super) fn takes_identity(client: &HeaderMap) -> bool {
    let mut others = true;
    for value in client.get_all(header::ACCEPT_ENCODING) {
        for item in value.as_bytes().split(|&byte| byte == b',') {
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

/// Whether a parameter is `q=0`, with up to three more zeros.
fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some((name, value)) = parameter.split_at_checked(1) else { return false };
    let value = value.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start);
    let digits = value.and_then(|value| value.strip_prefix(b"0"));
    name.eq_ignore_ascii_case(b"q") && digits.is_some_and(|rest| rest.iter().all(|byte| b".0".contains(byte)))
}

/// What a refusal is remembered for: the deployment where the path names it, else the model.
pub(super) fn asked_of<'a>(inbound: &Inbound<'a>, model: Option<&'a str>) -> &'a str {
    if inbound.path.starts_with("/openai/deployments/") { inbound.path } else { model.unwrap_or_default() }
}

/// What an answer to a request that asks turned out to be.
#[derive(Debug)]
pub(super) enum Seen {
    /// It refuses what was asked.
    Refusal,
    /// It does not; and what its body is, where that is known and its type does not tell.
    Response(Option<Content>),
}

/// Looks at an answer to a request that asks. What was read of it comes again when its body is
/// read. `is_taken`: the model is known to take the question, so that an answer whose type says
/// what it is needs no look.
pub(super) async fn look(response: &mut UpstreamResponse, is_taken: bool) -> Seen {
    let status = response.head.status;
    if status.is_client_error() || status.is_server_error() {
        return if is_refusal(response).await { Seen::Refusal } else { Seen::Response(None) };
    }
    let kind = ResponseMeter::of(&response.head.headers, true);
    let is_ambiguous = kind.is_ambiguous();
    if !status.is_success() || !kind.is_events() || (is_taken && !is_ambiguous) {
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

/// What the body of an answer to a request that asks is, where its type does not tell and its first
/// bytes do.
pub(super) async fn content(response: &mut UpstreamResponse) -> Option<Content> {
    match look(response, true).await {
        Seen::Response(content) => content,
        Seen::Refusal => None,
    }
}

/// Whether an error refuses what was asked.
///
/// One whose coding is not understood is not read, and may be: what the upstream says to the
/// request as its client sent it is right in any case.
async fn is_refusal(response: &mut UpstreamResponse) -> bool {
    let Some(body) = response.body.read_ahead(REFUSAL).await else { return false };
    match decoded(&Codings::of(&response.head.headers), &body) {
        Some(body) => names_asking(&body),
        None => is_bad_request(response.head.status),
    }
}

/// The beginning of a body without its codings. `None` where they are not known, or not what the
/// body has.
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

/// Whether the second answer, to the same request without asking, proves that the asking was at
/// fault in the first one, of status `refused`. A message that names the field may do so for
/// another reason, such as repeating the request.
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
    fn identity_is_taken_unless_it_is_excluded() {
        let takes = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT_ENCODING, http::HeaderValue::from_static(value));
            }
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
