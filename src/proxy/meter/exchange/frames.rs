//! Response bodies, as the meter reads them.

use std::time::Instant;

use bytes::Bytes;
use http_body::Body;

use crate::record::error::Error;
use crate::support::pieces::Pieces;
use crate::upstream::UpstreamBody;

/// A response body with what the meter needs to know of it.
pub trait ResponseFrames: Body<Data = Bytes, Error = Error> + Unpin + 'static {
    /// The time when the bytes of the last frame were read from the socket.
    fn read_at(&self) -> Instant;

    /// Returns true if the end of the connection ends the body, so that a truncated body looks
    /// complete.
    fn ends_by_close(&self) -> bool;

    /// The body as pieces, to be polled in place of frames; `None`: it has frames only.
    fn as_pieces(&mut self) -> Option<&mut dyn Pieces<Error = Error>> {
        None
    }
}

impl ResponseFrames for UpstreamBody {
    fn read_at(&self) -> Instant {
        self.read_at()
    }

    fn ends_by_close(&self) -> bool {
        self.ends_by_close()
    }

    fn as_pieces(&mut self) -> Option<&mut dyn Pieces<Error = Error>> {
        self.as_pieces()
    }
}
