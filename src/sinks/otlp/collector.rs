//! One request to the collector and its response (OTLP 1.x, section OTLP/HTTP).

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use prost::Message;
use tokio::time::timeout;

use super::values::printable;
use crate::codec::h1::BodyFraming;
use crate::codec::head::{Headers, KnownName, ResponseHead, visible};
use crate::config;
use crate::llm::rewrite::headers::OutboundHeaders;
use crate::record::error::{Error, Kind};
use crate::upstream::{ConnectSpec, OutboundRequest, Payload, Scratch, UpstreamClient};

/// The time for which a connection is kept for the next export.
const IDLE: Duration = Duration::from_secs(90);

/// The longest response that is read, in bytes. It has the number of refused items, and the reason.
const MAX_RESPONSE: usize = 64 * 1024;

/// The `User-Agent`.
const AGENT: &str = concat!("streamgauge/", env!("CARGO_PKG_VERSION"));

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// The reason for which an export failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The collector could not be reached, or sent no response.
    Away(Error),
    /// The collector refused the message.
    Refused {
        status: StatusCode,
        /// The pause that it asks for.
        after: Option<Duration>,
        /// The reason; empty if it gives none.
        words: String,
    },
}

impl Failure {
    /// Returns true if the same message may be accepted later. After other responses it must not be
    /// sent again.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Away(error) => !matches!(error.kind(), Kind::Redirect { .. }),
            Self::Refused { status, .. } => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }

    /// The pause that the collector asks for.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Refused { after, .. } => *after,
            Self::Away(_) => None,
        }
    }

    /// The kind of a failure; the log reports each kind once.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Away(error) => error.code().to_owned(),
            Self::Refused { status, .. } => status.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(error) => write!(f, "{error}"),
            Self::Refused { status, words, .. } if words.is_empty() => {
                write!(f, "it responded with {status}")
            }
            Self::Refused { status, words, .. } => write!(f, "it responded with {status}: {words}"),
        }
    }
}

/// The collector's address, in the form of requests to it.
pub(super) struct Collector {
    upstream: UpstreamClient,
    custom: OutboundHeaders,
    own: Headers,
    path: String,
    gzip: bool,
}

impl Collector {
    pub(super) fn new(origin: Arc<ConnectSpec>, settings: &config::OtlpSettings) -> Self {
        let limits = config::PoolLimits { idle_timeout: IDLE, max_idle: 2 };
        let host = HeaderValue::from_str(settings.url.authority()).expect("the authority of a valid URL");
        let own =
            [(CONTENT_TYPE, PROTOBUF), (ACCEPT, PROTOBUF), (USER_AGENT, HeaderValue::from_static(AGENT))];
        let coding = settings.gzip.then_some((CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        Self {
            upstream: UpstreamClient::new(origin, limits, Scratch::default()),
            custom: OutboundHeaders::new(host, settings.headers.clone(), Vec::new()),
            own: Headers::from(&own.into_iter().chain(coding).collect::<HeaderMap>()),
            path: settings.url.path().to_owned(),
            gzip: settings.gzip,
        }
    }

    /// Sends a message to `path` of the collector, and reads its response. Dropping the future
    /// closes the connection.
    pub(super) async fn post<A: Message + Default>(
        &self,
        path: &str,
        message: Vec<u8>,
    ) -> Result<A, Failure> {
        let message = if self.gzip { compressed(&message) } else { message };
        let call = OutboundRequest {
            method: &Method::POST,
            target: format!("{}{path}", self.path),
            headers: &self.custom,
            client: &self.own,
            upgrade: None,
            framing: BodyFraming::Length(message.len() as u64),
            payload: Payload::Held(Bytes::from(message).into()),
            is_streamed: false,
            started: Instant::now(),
            is_new: true,
        };
        let response = self.upstream.send(call).await.map_err(Failure::Away)?;
        let ResponseHead { status, headers, .. } = response.head;
        // Read to its end, so that the connection can be used again.
        let body = timeout(self.timeout(), Limited::new(response.body, MAX_RESPONSE).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
        let is_protobuf = headers.get(KnownName::ContentType) == Some(PROTOBUF.as_bytes());
        if !status.is_success() {
            let seconds = headers.get(KnownName::RetryAfter).and_then(|value| visible(value)?.parse().ok());
            let words = reason(&body.unwrap_or_default(), is_protobuf);
            return Err(Failure::Refused { status, after: seconds.map(Duration::from_secs), words });
        }
        // The message was accepted, although some collectors respond in another form than the
        // required one.
        Ok(body.filter(|_| is_protobuf).and_then(|body| A::decode(body).ok()).unwrap_or_default())
    }

    fn timeout(&self) -> Duration {
        self.upstream.spec().timeouts.idle
    }
}

/// The reason in the body of a refusal: a `Status`, or text from a server in between.
fn reason(body: &[u8], is_protobuf: bool) -> String {
    /// `google.rpc.Status`, without its details.
    #[derive(Message)]
    struct Status {
        #[prost(string, tag = "2")]
        message: String,
    }
    if is_protobuf {
        printable(&Status::decode(body).unwrap_or_default().message)
    } else {
        printable(&String::from_utf8_lossy(body))
    }
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).and_then(|()| encoder.finish()).expect("a vector takes everything")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_in_a_status_or_as_text() {
        let status = b"\x08\x03\x12\x0eno such tenant";
        for (body, is_protobuf, words) in [
            (&status[..], true, "no such tenant"),
            (b"no such\ntenant\n", false, "no such tenant"),
            (b"not a status", true, ""),
            (b"", true, ""),
        ] {
            assert_eq!(reason(body, is_protobuf), words, "{body:?}");
        }
        let refused = |words: &str| Failure::Refused {
            status: StatusCode::BAD_REQUEST,
            after: None,
            words: words.to_owned(),
        };
        assert_eq!(refused("").to_string(), "it responded with 400 Bad Request");
        assert_eq!(refused("why").to_string(), "it responded with 400 Bad Request: why");
        assert_eq!(refused("why").kind(), refused("why else").kind(), "what is said once is the status");
    }
}
