//! The body of a response to a client.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::cuttable::CuttableBody;
use super::keep_alive::KeptAlive;
use super::respond::MeteredResponse;
use crate::record::error::{Error, Kind};
use crate::server::{ResponseBody, Upgrade};
use crate::support::CutSwitch;
use crate::support::flow::StreamTiming;
use crate::support::pieces::{PieceSink, Relayed, poll_frames};

/// A response body of the proxy.
pub enum ProxyBody {
    Relayed(MeteredResponse),
    /// The upstream's stream, with keep-alive comments.
    KeptAlive(Box<KeptAlive>),
    /// A response that ends when the key of its request is revoked.
    Cuttable(Box<CuttableBody>),
    /// No body: the connection is upgraded.
    Switching(Option<Upgrade>),
    /// A body of ours.
    Whole(Full<Bytes>),
}

impl ProxyBody {
    /// Adds keep-alive comments to an event stream.
    pub(super) fn kept_alive(self, interval: Duration) -> Self {
        match self {
            Self::Relayed(body) if body.takes_events() => {
                Self::KeptAlive(Box::new(KeptAlive::relaying(body, interval)))
            }
            other => other,
        }
    }

    /// Lets the response end when `cut` is thrown.
    pub(super) fn cut_by(self, cut: Option<Arc<CutSwitch>>) -> Self {
        match (self, cut) {
            (body @ (Self::Relayed(_) | Self::KeptAlive(_)), Some(cut)) => {
                Self::Cuttable(Box::new(CuttableBody::new(body, cut)))
            }
            (body, _) => body,
        }
    }

    /// Fails the response with this error at the next poll, unless it is ours.
    pub(super) fn end_with(&mut self, error: Error) {
        match self {
            Self::Relayed(body) => body.end_with(error),
            Self::KeptAlive(body) => body.end_with(error),
            Self::Cuttable(cuttable) => cuttable.body.end_with(error),
            Self::Switching(_) | Self::Whole(_) => {}
        }
    }
}

impl ResponseBody for ProxyBody {
    fn poll_pieces(&mut self, cx: &mut Context<'_>, sink: &mut dyn PieceSink) -> Poll<Relayed<Error>> {
        match self {
            Self::Relayed(body) => body.poll_pieces(cx, sink),
            Self::Cuttable(cuttable) => {
                cuttable.obey(cx);
                cuttable.body.poll_pieces(cx, sink)
            }
            Self::KeptAlive(_) | Self::Switching(_) | Self::Whole(_) => poll_frames(self, cx, sink),
        }
    }

    fn timing(&self) -> Option<&Rc<StreamTiming>> {
        match self {
            Self::Relayed(body) if body.is_events() => body.timing(),
            Self::KeptAlive(body) => body.timing(),
            Self::Cuttable(cuttable) => cuttable.body.timing(),
            Self::Relayed(_) | Self::Switching(_) | Self::Whole(_) => None,
        }
    }

    fn take_upgrade(&mut self) -> Option<Upgrade> {
        match self {
            Self::Switching(upgrade) => upgrade.take(),
            _ => None,
        }
    }

    fn abort(&mut self, reason: String) {
        match self {
            Self::Relayed(body) => body.abort(reason),
            Self::KeptAlive(body) => body.abort(reason),
            Self::Cuttable(cuttable) => cuttable.body.abort(reason),
            Self::Switching(_) | Self::Whole(_) => {}
        }
    }

    fn defer_end(&mut self) {
        match self {
            Self::Relayed(body) => body.defer(),
            Self::KeptAlive(body) => body.defer(),
            Self::Cuttable(cuttable) => cuttable.body.defer_end(),
            Self::Switching(_) | Self::Whole(_) => {}
        }
    }

    fn on_sent(&mut self) {
        match self {
            Self::Relayed(body) => body.sent(),
            Self::KeptAlive(body) => body.sent(),
            Self::Cuttable(cuttable) => cuttable.body.on_sent(),
            Self::Switching(_) | Self::Whole(_) => {}
        }
    }

    fn stop(&mut self) {
        self.end_with(Kind::Stopped.into());
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut *self {
            Self::Relayed(body) => Pin::new(body).poll_frame(cx),
            Self::KeptAlive(body) => Pin::new(body).poll_frame(cx),
            Self::Cuttable(cuttable) => {
                cuttable.obey(cx);
                Pin::new(&mut cuttable.body).poll_frame(cx)
            }
            Self::Switching(_) => Poll::Ready(None),
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Relayed(body) => body.is_end_stream(),
            Self::KeptAlive(body) => body.is_end_stream(),
            Self::Cuttable(cuttable) => cuttable.body.is_end_stream(),
            Self::Switching(_) => true,
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Relayed(body) => body.size_hint(),
            Self::KeptAlive(body) => body.size_hint(),
            Self::Cuttable(cuttable) => cuttable.body.size_hint(),
            Self::Switching(_) => SizeHint::with_exact(0),
            Self::Whole(body) => body.size_hint(),
        }
    }
}
