//! The body of a response over HTTP/1.1.

use std::ops::{ControlFlow, Range};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::codec::h1::{BodyDecoder, Framing, ProtocolError};
use crate::record::error::Error;
use crate::support::pieces::{Pieces, Relayed};
use crate::upstream::connect_spec::ConnectSpec;
use crate::upstream::error::{SendCause, SendError, SendPhase};
use crate::upstream::pool::Pool;
use crate::upstream::stream::Stream;
use crate::upstream::upload::{Upload, UploadError};
use crate::upstream::watchdog::{Expired, Watchdog};
use crate::upstream::{Scratch, UpstreamClient};

/// The body of a response over HTTP/1.1: each read of the socket becomes one frame, without the
/// chunk framing.
///
/// Also sends the rest of the request. At its end the connection returns to the pool, unless there
/// are bytes after the end; dropping it earlier closes the connection.
pub(in crate::upstream) struct Http1ResponseBody {
    spec: Arc<ConnectSpec>,
    scratch: Scratch,
    pool: Rc<Pool>,
    /// `None` after the end or an error.
    stream: Option<Stream>,
    /// The rest of the request; `None` when it is sent, or when the upstream takes no more. Boxed,
    /// because most requests are sent before their response begins.
    upload: Option<Box<Upload>>,
    decoder: BodyDecoder,
    /// True if the upstream declared the length of the body.
    is_sized: bool,
    /// True if the end of the connection ends the body, so that a cut looks like the end.
    pub(super) ends_by_close: bool,
    watchdog: Watchdog,
    /// True if the connection may be used again.
    keep: bool,
    /// The time of the last read of the socket.
    pub(super) read_at: Instant,
    /// Data that was read together with the head, in a spare buffer of the worker's.
    first: Vec<u8>,
    /// Boxed, because they are rare and streams are long-lived.
    trailers: Option<Box<HeaderMap>>,
}

impl Http1ResponseBody {
    pub(in crate::upstream) fn new(
        upstream: &UpstreamClient,
        stream: Stream,
        upload: Option<Upload>,
        framing: Framing,
        watchdog: Watchdog,
        keep: bool,
    ) -> Box<Self> {
        Box::new(Self {
            spec: Arc::clone(&upstream.spec),
            scratch: upstream.scratch.clone(),
            pool: Rc::clone(&upstream.pool),
            stream: Some(stream),
            upload: upload.map(Box::new),
            decoder: BodyDecoder::new(framing),
            is_sized: matches!(framing, Framing::None | Framing::Length(_)),
            ends_by_close: framing == Framing::UntilClose,
            watchdog,
            keep,
            read_at: Instant::now(),
            first: Vec::new(),
            trailers: None,
        })
    }

    /// Decodes the bytes that were read together with the head.
    pub(in crate::upstream) fn beginning_with(
        mut self: Box<Self>,
        rest: &mut [u8],
    ) -> Result<Box<Self>, SendError> {
        let data = self.decode(rest).map_err(|error| SendError::new(SendPhase::Body, error))?;
        if !data.is_empty() {
            self.first = self.scratch.take_first();
            self.first.extend_from_slice(&rest[data]);
        }
        Ok(self)
    }

    /// Removes the framing, and returns the place of the payload; ends the exchange when the body
    /// is complete.
    fn decode(&mut self, buf: &mut [u8]) -> Result<Range<usize>, ProtocolError> {
        let read = buf.len();
        let decoded = self.decoder.decode(buf)?;
        if self.decoder.is_done() {
            // Bytes after the end belong to no response: the connection is not used again.
            self.keep &= decoded.consumed == read;
            self.end();
        }
        Ok(decoded.data)
    }

    /// Called when the body is complete.
    fn end(&mut self) {
        self.trailers = self.decoder.take_trailers().map(Box::new);
        let Some(stream) = self.stream.take() else { return };
        self.watchdog.take_timer().into_iter().for_each(|timer| self.scratch.give_back_timer(timer));
        if self.keep && self.upload.is_none() {
            self.pool.put(stream, self.spec.generation(), self.read_at);
        }
    }

    fn fail(&self, cause: impl Into<SendCause>) -> Error {
        self.spec.fail(SendError::new(SendPhase::Body, cause))
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let (Some(stream), Some(upload)) = (&mut self.stream, &mut self.upload) else { return Ok(()) };
        match upload.poll(cx, stream) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(UploadError::Client(error))) => return Err(error),
            // The upstream responded without reading all of the request.
            Poll::Ready(Err(UploadError::Upstream)) => self.keep = false,
        }
        self.upload = None;
        Ok(())
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first).into())));
        }
        self.poll_payload(cx, false, |data, _| Bytes::copy_from_slice(data))
    }

    /// Reads until there is payload, and shows that. `has_read`: the socket was read just before,
    /// so that the clock need not be read for the beginning of a wait. `None`: the body is complete.
    fn poll_payload<T>(
        &mut self,
        cx: &mut Context<'_>,
        has_read: bool,
        show: impl FnOnce(&[u8], Instant) -> T,
    ) -> Poll<Option<Result<T, Error>>> {
        loop {
            self.poll_upload(cx)?;
            let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
            if let Some(error) = self.decoder.failure() {
                // A framing error behind the bytes that were already passed on.
                return Poll::Ready(Some(Err(self.fail(error))));
            }
            let scratch = self.scratch.clone();
            let mut scratch = scratch.borrow();
            match stream.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0)) => {
                    self.keep = false;
                    self.decoder.end_of_connection().map_err(|error| self.fail(error))?;
                    self.end();
                }
                Poll::Ready(Ok(read)) => {
                    self.read_at = Instant::now();
                    self.watchdog.heard();
                    let data = self.decode(&mut scratch[..read]).map_err(|error| self.fail(error))?;
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(show(&scratch[data], self.read_at))));
                    }
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Some(Err(self.fail(error))));
                }
                Poll::Pending => {
                    let since = || if has_read { self.read_at } else { Instant::now() };
                    let expired = ready!(self.watchdog.poll_expired_since(cx, since));
                    return Poll::Ready(Some(Err(self.fail(match expired {
                        Expired::Silence => self.spec.idle_timeout(),
                        Expired::Total => self.spec.total_timeout(true),
                    }))));
                }
            }
        }
    }
}

impl Pieces for Http1ResponseBody {
    type Error = Error;

    fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        show: &mut dyn FnMut(&[u8], Instant) -> ControlFlow<()>,
    ) -> Poll<Relayed<Error>> {
        let mut flow = ControlFlow::Continue(());
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            flow = show(&first, self.read_at);
            self.scratch.give_back_first(first);
        }
        let mut has_read = false;
        loop {
            if self.stream.is_none() {
                return Poll::Ready(Relayed::Whole(self.trailers.take()));
            }
            if flow.is_break() {
                return Poll::Ready(Relayed::Full);
            }
            match ready!(self.poll_payload(cx, has_read, &mut *show)) {
                Some(Ok(next)) => flow = next,
                Some(Err(error)) => {
                    // After an error no byte of this connection can be interpreted.
                    self.stream = None;
                    return Poll::Ready(Relayed::Failed(error));
                }
                None => {}
            }
            has_read = true;
        }
    }
}

impl Body for Http1ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = ready!(self.poll_data(cx));
        if matches!(polled, Some(Err(_))) {
            // After an error no byte of this connection can be interpreted.
            self.stream = None;
        }
        let frame = polled.map(|data| data.map(Frame::data));
        Poll::Ready(frame.or_else(|| self.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers)))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none() && self.first.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // Only a length that the upstream declared may be declared to the client.
        match self.decoder.remaining() {
            Some(remaining) if self.is_sized => SizeHint::with_exact(remaining + self.first.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each response over HTTP/1.1 has one on the heap as long as it runs.
    #[test]
    fn body_of_an_http1_response_stays_small() {
        let size = size_of::<Http1ResponseBody>();
        assert!(size <= 288, "{size} bytes");
    }
}
