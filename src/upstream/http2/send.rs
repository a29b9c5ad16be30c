//! Sends a request as an HTTP/2 stream and waits for the head of its response.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use http::Request;

use super::Http2ResponseBody;
use super::connections::Slot;
use super::error::Http2Error;
use super::upload::Upload;
use crate::codec::head::ResponseHead;
use crate::record::error::Kind;
use crate::upstream::connect_spec::ConnectSpec;
use crate::upstream::error::{SendCause, SendError, SendPhase};
use crate::upstream::resend::{Unanswered, Unsent};
use crate::upstream::response::{UpstreamBody, UpstreamResponse};
use crate::upstream::upload::{Payload, UploadError};
use crate::upstream::watchdog::{Expired, Watchdog};

/// Sends and receives at once, since an upstream may respond before it has read everything.
/// Dropping the future resets the stream.
pub(in crate::upstream) async fn send(
    spec: &Arc<ConnectSpec>,
    slot: Slot,
    request: Request<()>,
    payload: Payload,
    is_streamed: bool,
    total: Option<Instant>,
) -> Result<UpstreamResponse, Unsent> {
    let mut watchdog = Watchdog::new(spec.timeouts.first_byte_of(is_streamed).0, total);
    let heard = slot.connection.heard();
    let again = payload.replay();
    let is_whole = matches!(&payload, Payload::Held(held) if held.is_empty());
    let (mut response, stream) = match slot.connection.send(request, is_whole) {
        Ok(opened) => opened,
        Err(error) => {
            let error = SendError::new(SendPhase::Unprocessed, Http2Error::from(error));
            return Err(Unsent::Unprocessed { error, payload: Some(payload), tried: slot.tried() });
        }
    };
    let mut upload = (!is_whole).then(|| Upload::new(stream, payload));
    // A streamed body that the upstream refused before a frame was taken from it.
    let mut untouched = None;
    let head = poll_fn(|cx| {
        if let Some(up) = &mut upload {
            match up.poll(cx) {
                Poll::Pending if up.take_progress() => watchdog.heard(),
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    upload = None;
                    watchdog.heard();
                }
                Poll::Ready(Err(UploadError::Client(error))) => {
                    return Poll::Ready(Err(Failed::Ours(SendCause::Client(error))));
                }
                // The upstream may have responded nevertheless.
                Poll::Ready(Err(UploadError::Upstream)) => {
                    untouched = upload.take().and_then(Upload::into_untouched);
                }
            }
        }
        if let Poll::Ready(head) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(head.map_err(Failed::Theirs));
        }
        let starved = upload.as_ref().is_some_and(Upload::is_starved);
        Poll::Ready(Err(Failed::Ours(match ready!(watchdog.poll_expired(cx)) {
            Expired::Silence if starved => {
                SendCause::Client(Kind::BodyTimeout(spec.timeouts.first_byte_of(is_streamed).0).into())
            }
            Expired::Silence => spec.first_byte_timeout(is_streamed, upload.is_none()),
            Expired::Total => spec.total_timeout(upload.is_none()),
        })))
    })
    .await;
    match head {
        Ok(response) => {
            let (parts, stream) = response.into_parts();
            watchdog.set_silence(spec.timeouts.idle);
            let body = Http2ResponseBody::new(spec, slot, stream, upload, &parts.headers, watchdog);
            Ok(UpstreamResponse { head: ResponseHead::from(&parts), body: UpstreamBody::http2(body) })
        }
        Err(Failed::Ours(cause)) => Err(SendError::new(SendPhase::Request, cause).into()),
        Err(Failed::Theirs(error)) => {
            let unanswered = Unanswered {
                is_kept: slot.connection.is_used(),
                connect: slot.connection.connect_time(),
                sent: upload.is_none().then(|| watchdog.waited()),
            };
            // The connection ended without a frame since the request began, as over HTTP/1.1.
            let is_silent = error.is_io() && slot.connection.heard() == heard;
            let error = Http2Error { error, alert: slot.connection.alert() };
            let silent = if is_silent { unanswered.resend_phase() } else { None };
            if let Some(phase) = error.is_unprocessed().then_some(SendPhase::Unprocessed).or(silent) {
                let payload = again.or(untouched).or_else(|| upload.and_then(Upload::into_untouched));
                let error = SendError::new(phase, error);
                return Err(Unsent::Unprocessed { error, payload, tried: slot.tried() });
            }
            Err(SendError::new(SendPhase::Request, error).into())
        }
    }
}

/// The side that ended the exchange.
enum Failed {
    Ours(SendCause),
    Theirs(h2::Error),
}
