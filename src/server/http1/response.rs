//! Writes one response.

use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Body;

use crate::codec::h1::server::{BodyEncoder, RequestFraming, ResponseStart, write_response_head};
use crate::codec::head::ResponseHead;
use crate::server::in_flight::{Guard, InFlightBody};
use crate::server::{ClientResponse, ResponseBody, Upgrade};
use crate::support::pieces::{PieceSink, Relayed};

/// Shared data of this size and more is written without a copy.
const LARGE: usize = 4 * 1024;

/// A response: first its head, then its body as it comes.
pub(super) struct ResponseWriter<B: ResponseBody> {
    head: Option<ResponseHead>,
    body: InFlightBody<B>,
    framing: RequestFraming,
    keep_alive: bool,
    encoder: BodyEncoder,
    stage: Stage,
}

/// The end of a connection after a response that ended early, so that no client takes it for
/// complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Cut {
    /// A close, without the final chunk or bytes of the declared length.
    Close,
    /// A reset, since a close is the regular end for an HTTP/1.0 client.
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The body may have more.
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
        response: ClientResponse<InFlightBody<B>>,
        framing: RequestFraming,
        keep_alive: bool,
    ) -> Self {
        let ClientResponse { head, body } = response;
        let encoder = BodyEncoder::None;
        Self { head: Some(head), body, framing, keep_alive, encoder, stage: Stage::Flowing }
    }

    /// Returns true if another protocol takes over the connection after the head, which is not
    /// written yet.
    pub(super) fn switches(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.status == StatusCode::SWITCHING_PROTOCOLS)
    }

    /// The protocol that takes over the connection, and the request, which runs until that ends.
    pub(super) fn take_upgrade(&mut self) -> Option<(Upgrade, Guard)> {
        self.body.take_upgrade()
    }

    /// Returns true if the head is not written yet.
    pub(super) fn begins(&self) -> bool {
        self.head.is_some()
    }

    /// Writes the head. `closes`: the connection ends after this response in any case.
    pub(super) fn write_head(&mut self, out: &mut Vec<u8>, closes: bool) {
        let Some(head) = self.head.take() else { return };
        self.keep_alive &= !closes;
        let start =
            ResponseStart { status: head.status, reason: head.reason.as_deref(), close: !self.keep_alive };
        let exact = self.body.size_hint().exact();
        let date = || httpdate::fmt_http_date(SystemTime::now());
        self.encoder = write_response_head(out, self.framing, start, &head.headers, exact, date);
        self.keep_alive &= self.encoder != BodyEncoder::UntilClose;
        if self.encoder.is_done() {
            self.stage = Stage::Whole;
        }
    }

    /// Takes the available part of the body, up to one write of some `size`: copies it to `out`, and
    /// returns a large piece that is shared already, to be written after it.
    pub(super) fn gather(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        size: usize,
    ) -> (Bytes, &'static [u8]) {
        if self.is_gathered() {
            return (Bytes::new(), b"");
        }
        let mut gathered = Gathered { encoder: self.encoder, out, size, large: Bytes::new(), behind: b"" };
        let polled = self.body.poll_pieces(cx, &mut gathered);
        let Gathered { encoder, out, large, behind, .. } = gathered;
        self.encoder = encoder;
        self.stage = match polled {
            Poll::Pending => Stage::Pausing,
            Poll::Ready(Relayed::Failed(_)) => Stage::Cut,
            Poll::Ready(Relayed::Full) if self.encoder.is_done() => Stage::Whole,
            Poll::Ready(Relayed::Full) => Stage::Flowing,
            Poll::Ready(Relayed::Whole(trailers)) => {
                out.extend_from_slice(&large);
                out.extend_from_slice(behind);
                let trailers = trailers.filter(|_| self.framing.takes_trailers);
                self.end(out, trailers.as_deref());
                return (Bytes::new(), b"");
            }
        };
        (large, behind)
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

    /// The way in which the connection must end, if the body ended early.
    pub(super) fn cut(&self) -> Option<Cut> {
        let by_close = self.encoder == BodyEncoder::UntilClose;
        (self.stage == Stage::Cut).then_some(if by_close { Cut::Reset } else { Cut::Close })
    }

    /// Returns true if another request may follow.
    pub(super) fn keeps_connection(&self) -> bool {
        self.keep_alive
    }
}

/// The data for one write.
struct Gathered<'a> {
    encoder: BodyEncoder,
    out: &'a mut Vec<u8>,
    /// The size at which `out` is full.
    size: usize,
    /// Written behind `out`, with its frame.
    large: Bytes,
    behind: &'static [u8],
}

impl PieceSink for Gathered<'_> {
    fn copy(&mut self, piece: &[u8]) {
        self.encoder.append(self.out, piece);
    }

    fn take(&mut self, mut piece: Bytes) {
        if piece.len() < LARGE {
            return self.copy(&piece);
        }
        let (size, behind) = self.encoder.frame(&mut piece);
        if let Some(size) = size {
            self.out.extend_from_slice(size.as_ref());
        }
        (self.large, self.behind) = (piece, behind);
    }

    fn is_full(&self) -> bool {
        self.out.len() >= self.size || !self.large.is_empty() || self.encoder.is_done()
    }
}
