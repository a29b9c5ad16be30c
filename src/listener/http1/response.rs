//! One answer on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;
use hyper::ext::ReasonPhrase;

use crate::h1::server::{BodyEncoder, RequestFraming, ResponseStart, write_response_head};
use crate::listener::in_flight::{Guard, InFlightBody};
use crate::listener::{Handler, Upgrade};

/// What is gathered for one write.
const GATHERED: usize = 16 * 1024;

/// From this size on a frame's data is written from where it is.
const LARGE: usize = 4 * 1024;

/// An answer, its head to be written first, then its body as it comes.
pub(super) struct ResponseWriter<H: Handler> {
    head: Option<response::Parts>,
    body: InFlightBody<H>,
    framing: RequestFraming,
    keep_alive: bool,
    encoder: BodyEncoder,
    stage: Stage,
}

/// How a connection ends behind an answer that broke off, so that no client takes it for whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It is closed: the final chunk, or bytes of the declared length, are missing.
    Close,
    /// It is reset: to a client of HTTP/1.0 a close is the proper end.
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There may be more at once.
    Flowing,
    /// The body has nothing for now.
    Pausing,
    /// Everything is gathered.
    Whole,
    /// The body broke off, and so must the connection.
    Cut,
}

impl<H: Handler> ResponseWriter<H> {
    pub(super) fn new(
        response: Response<InFlightBody<H>>,
        framing: RequestFraming,
        keep_alive: bool,
    ) -> Self {
        let (head, body) = response.into_parts();
        let encoder = BodyEncoder::None;
        Self { head: Some(head), body, framing, keep_alive, encoder, stage: Stage::Flowing }
    }

    /// Who takes the connection over behind the head, and the request that runs until then.
    pub(super) fn upgrade(&mut self) -> Option<(Upgrade, Guard)> {
        let switches = self.head.as_ref().is_some_and(|head| head.status == StatusCode::SWITCHING_PROTOCOLS);
        if switches { self.body.upgrade() } else { None }
    }

    /// Whether the head is still to be written.
    pub(super) fn begins(&self) -> bool {
        self.head.is_some()
    }

    /// Writes the head, and hands out its headers' map for another. `closes`: the connection ends
    /// behind this answer in any case.
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

    /// Takes frames while there are any, up to a good write: small ones into `out`, and a large one
    /// as it is, to go behind.
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

    /// Whether nothing more comes.
    pub(super) fn is_gathered(&self) -> bool {
        matches!(self.stage, Stage::Whole | Stage::Cut)
    }

    /// Whether the body has nothing for now.
    pub(super) fn pauses(&self) -> bool {
        self.stage == Stage::Pausing
    }

    /// How its connection must end, if the body broke off.
    pub(super) fn cut(&self) -> Option<Cut> {
        let by_close = self.encoder == BodyEncoder::UntilClose;
        (self.stage == Stage::Cut).then_some(if by_close { Cut::Reset } else { Cut::Close })
    }

    /// Whether another request may follow.
    pub(super) fn keeps_connection(&self) -> bool {
        self.keep_alive
    }
}
