//! What the pages are sent as.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::live::Live;
use super::room::{Held, Place};
use super::stream::{BrokenOff, RecordStream};

/// A body of the admin pages.
pub enum AdminBody {
    /// At once; with a place unless it is small.
    Whole(Full<Bytes>, Option<Place>),
    /// At once, in pieces that are given back as they are taken.
    Held(HeldBody),
    /// As its client takes it.
    Records(Box<RecordStream>),
    /// Events, until the client leaves.
    Live(Box<Live>),
}

/// The pieces that are not taken yet, and how many bytes they are.
pub struct HeldBody {
    pieces: vec::IntoIter<Bytes>,
    left: usize,
    _place: Place,
}

impl From<Held> for AdminBody {
    fn from(held: Held) -> Self {
        let (pieces, left, place) = held.finish();
        Self::Held(HeldBody { pieces: pieces.into_iter(), left, _place: place })
    }
}

impl HeldBody {
    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.next()?;
        self.left -= piece.len();
        Some(piece)
    }
}

impl Body for AdminBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Whole(body, _) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Held(body) => Poll::Ready(body.next().map(|piece| Ok(Frame::data(piece)))),
            Self::Records(records) => {
                records.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
            Self::Live(live) => live.poll_event(cx).map(|event| event.map(|event| Ok(Frame::data(event)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body, _) => body.is_end_stream(),
            Self::Held(body) => body.left == 0,
            Self::Records(_) | Self::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body, _) => body.size_hint(),
            Self::Held(body) => SizeHint::with_exact(body.left as u64),
            Self::Records(_) | Self::Live(_) => SizeHint::default(),
        }
    }
}
