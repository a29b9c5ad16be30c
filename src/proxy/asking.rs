//! Asking for usage on the client's behalf: which requests, and what becomes of a refusal.
//!
//! A streamed chat or legacy completion bears usage only if it is asked for (`stream_options.include_usage`). Where the
//! client did not, the proxy does, and the meter's body withholds the one event that comes of it
//! ([`Withhold`](crate::usage::Withhold)). Some services refuse the field. In `auto` mode a refusal that names it costs
//! one more request, the client sees only the answer to that, and the model is not asked again for a day.

use http::{HeaderMap, Method, StatusCode, header};

use super::plan::Service;
use crate::provider::{Endpoint, Inbound, IncludeUsage, may_create};
use crate::rewrite::body::Peek;
use crate::upstream::Answer;

/// The most of a refusal that is read to see what it is about; real ones have less than 2 KiB. One that is longer passes.
const REFUSAL: usize = 64 << 10;

/// What a refusal says that is about the field. The last is what MiMo and some hosts of GLM and Qwen say, whose message does not
/// tell which parameter it is.
const SAYS: [&str; 3] = ["stream_options", "include_usage", "Param Incorrect"];

/// Whether usage may be asked for in the request, if it does not ask itself.
pub(super) fn may_ask(service: &Service, method: &Method, inbound: &Inbound<'_>, peek: &Peek<'_>) -> bool {
    let can = peek.stream
        && may_create(method)
        && matches!(Endpoint::of(inbound.path).name, "chat/completions" | "completions");
    can && match service.include_usage {
        IncludeUsage::Never => false,
        IncludeUsage::Always => true,
        // Azure's "on your data" refuses it too (azure-sdk-for-js#30751).
        IncludeUsage::Auto => {
            !service.sends_usage_unasked
                && !peek.has_data_sources
                && !service.dialect.refuses_stream_options(inbound)
        }
    }
}

/// Whether the query asks for a stream, as that of a stored response does (`GET responses/{id}?stream=true`).
pub(super) fn asks_for_stream(inbound: &Inbound<'_>) -> bool {
    inbound.query.is_some_and(|query| query.split('&').any(|parameter| parameter == "stream=true"))
}

/// Whether a client takes an answer without a content coding, as one is that had to be decoded to withhold the event: not where
/// its `Accept-Encoding` says `identity;q=0`, or `*;q=0` and nothing of identity (RFC 9110 section 12.5.3).
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

/// Whether the answer refuses what was asked. What was read of it comes again when its body is read.
///
/// One that is encoded is not read, and may be: what the upstream says to the request as its client sent it is right in any case.
pub(super) async fn is_refusal(answer: &mut Answer) -> bool {
    if !is_bad_request(answer.head.status) {
        return false;
    }
    let body = answer.body.read_ahead(REFUSAL).await;
    let is_encoded =
        answer.head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    body.is_some_and(|body| {
        is_encoded || SAYS.iter().any(|word| memchr::memmem::find(&body, word.as_bytes()).is_some())
    })
}

/// Whether the answer to the same request without asking proves that the asking was at fault. A message that names the
/// field may do so for another reason, such as repeating the request.
pub(super) fn proves_refusal(status: StatusCode) -> bool {
    !is_bad_request(status)
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
