//! Writes one response.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;
use hyper::ext::ReasonPhrase;

use crate::codec::h1::server::{BodyEncoder, RequestFraming, ResponseStart, write_response_head};
use crate::server::in_flight::{Guard, InFlightBody};
use crate::server::{ResponseBody, Upgrade};

/// The most that small frames are gathered to for one write.
const GATHERED: usize = 16 * 1024;

/// Data of this size and more is written without a copy.
const LARGE: usize = 4 * 1024;

/// A response: first its head, then its body as it comes.
pub(super) struct ResponseWriter<B: ResponseBody> {
    head: Option<response::Parts>,
    body: InFlightBody<B>,
    framing: RequestFraming,
    keep_alive: bool,
    encoder: BodyEncoder,
    stage: Stage,
}

/// How a connection ends after a response that ended early, so that no client takes it for
/// complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// By closing: the final chunk, or bytes of the declared length, are missing.
    Close,
    /// By a reset: for an HTTP/1.0 client, a close is the regular end.
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The body may have more frames.
    Flowing,
    /// The body is pending.
    Pausing,
    /// The body is complete.
    Whole,
    /// The body ended early.
    Cut,
}

impl<B: ResponseBody> ResponseWriter<B> {
    pub(super) fn new(
        response: Response<InFlightBody<B>>,
        framing: RequestFraming,
        keep_alive: bool,
    ) -> Self {
        let (head, body) = response.into_parts();
        let encoder = BodyEncoder::None;
        Self { head: Some(head), body, framing, keep_alive, encoder, stage: Stage::Flowing }
    }

    /// What takes the connection over after the head, and the request, which runs until then.
    pub(super) fn take_upgrade(&mut self) -> Option<(Upgrade, Guard)> {
        let switches = self.head.as_ref().is_some_and(|head| head.status == StatusCode::SWITCHING_PROTOCOLS);
        if switches { self.body.take_upgrade() } else { None }
    }

    /// Returns true if the head is not written yet.
    pub(super) fn begins(&self) -> bool {
        self.head.is_some()
    }

    /// Writes the head, and returns its header map for reuse. `closes`: the connection ends after
    /// this response in any case.
    pub(super) fn write_head(&mut self, out: &mut Vec<u8>, closes: bool) -> HeaderMap {
        let Some(head) = self.head.take() else { return HeaderMap::new() };
        self.keep_alive &= !closes;
        let reason = head.extensions.get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
        let start = ResponseStart { status: head.status, reason, close: !self.keep_alive };
        let exact = self.body.size_hint().exact();
        let date = || httpdate::fmt_http_date(SystemTime::now());
        self.encoder = write_response_head(out, self.framing, start, &head.headers, exact, date);
        self.keep_alive &= self.encoder != BodyEncoder::UntilClose;
        if self.encoder.is_done() {
            self.stage = Stage::Whole;
        }
        head.headers
    }

    /// Takes available frames, up to one write: copies small ones to `out`, and returns a large one
    /// to be written after them.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> (Bytes, &'static [u8]) {
        self.stage = if self.is_gathered() { self.stage } else { Stage::Flowing };
        while self.stage == Stage::Flowing && out.len() < GATHERED {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(None) => {
                    self.end(out, None);
                    break;
                }
                Poll::Ready(Some(Err(_))) => {
                    self.stage = Stage::Cut;
                    break;
                }
                Poll::Pending => {
                    self.stage = Stage::Pausing;
                    break;
                }
            };
            match frame.into_data() {
                Ok(mut data) => {
                    let (size, behind) = self.encoder.frame(&mut data);
                    if let Some(size) = size {
                        out.extend_from_slice(size.as_ref());
                    }
                    if data.len() >= LARGE {
                        if self.encoder.is_done() {
                            self.stage = Stage::Whole;
                        }
                        return (data, behind);
                    }
                    out.extend_from_slice(&data);
                    out.extend_from_slice(behind);
                    if self.encoder.is_done() || self.body.is_end_stream() {
                        self.end(out, None);
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().ok().filter(|_| self.framing.takes_trailers);
                    self.end(out, trailers.as_ref());
                }
            }
        }
        (Bytes::new(), b"")
    }

    fn end(&mut self, out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
        self.stage = if self.encoder.end(out, trailers) { Stage::Whole } else { Stage::Cut };
    }

    /// Returns true if no frame follows.
    pub(super) fn is_gathered(&self) -> bool {
        matches!(self.stage, Stage::Whole | Stage::Cut)
    }

    /// Returns true if the body is pending.
    pub(super) fn pauses(&self) -> bool {
        self.stage == Stage::Pausing
    }

    /// How the connection must end, if the body ended early.
    pub(super) fn cut(&self) -> Option<Cut> {
        let by_close = self.encoder == BodyEncoder::UntilClose;
        (self.stage == Stage::Cut).then_some(if by_close { Cut::Reset } else { Cut::Close })
    }

    /// Returns true if another request may follow.
    pub(super) fn keeps_connection(&self) -> bool {
        self.keep_alive
    }
}
