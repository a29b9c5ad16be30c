//! Decodes bodies: removes the framing of HTTP/1.1.

use std::ops::Range;

use http::HeaderMap;

use super::chunked::Chunked;
use super::error::ProtocolError;
use super::framing::Framing;

/// Removes the framing of a body.
///
/// A body without chunks is left in place. The first run of payload in chunks stays in place, and
/// the others are moved behind it, so that one read yields one piece. Nothing is allocated.
#[derive(Debug)]
pub struct BodyDecoder(Kind);

#[derive(Debug)]
enum Kind {
    /// The missing bytes: 0 after the end, and without a body.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// The result of [`BodyDecoder::decode`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The payload's place in the buffer; the rest of the buffer is meaningless.
    pub data: Range<usize>,
    /// The number of used bytes: all, unless the body ended before.
    pub consumed: usize,
}

impl BodyDecoder {
    /// Creates a decoder of a body with this framing.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::None => Kind::Length(0),
            Framing::Length(length) => Kind::Length(length),
            Framing::Chunked => Kind::Chunked(Chunked::default()),
            Framing::UntilClose => Kind::UntilClose,
        })
    }

    /// Decodes the next bytes, and leaves their payload in one piece.
    ///
    /// # Errors
    /// Returns an error if the chunks are malformed. Payload before the mistake in the same buffer
    /// is not lost: this call returns it, and the next call returns the error, also with an empty
    /// buffer.
    #[inline]
    pub fn decode(&mut self, buf: &mut [u8]) -> Result<Decoded, ProtocolError> {
        let whole = match &mut self.0 {
            Kind::Chunked(chunked) => return chunked.decode(buf),
            Kind::UntilClose => buf.len(),
            Kind::Length(left) => {
                let taken = usize::try_from(*left).map_or(buf.len(), |left| left.min(buf.len()));
                *left -= taken as u64;
                taken
            }
        };
        Ok(Decoded { data: 0..whole, consumed: whole })
    }

    /// The error that the next call of [`BodyDecoder::decode`] returns.
    pub fn failure(&self) -> Option<ProtocolError> {
        match &self.0 {
            Kind::Chunked(chunked) => chunked.failure(),
            Kind::Length(_) | Kind::UntilClose => None,
        }
    }

    /// Returns true if the body has ended. Bytes after it belong to another message.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(chunked) => chunked.is_done(),
            Kind::UntilClose => false,
        }
    }

    /// Ends the body with the connection.
    ///
    /// # Errors
    /// Returns an error if the body has not ended.
    pub fn end_of_connection(&mut self) -> Result<(), ProtocolError> {
        match &self.0 {
            Kind::Length(0) => Ok(()),
            Kind::Length(missing) => Err(ProtocolError::BodyCutShort { missing: *missing }),
            Kind::Chunked(chunked) => chunked.end_of_connection(),
            Kind::UntilClose => {
                self.0 = Kind::Length(0);
                Ok(())
            }
        }
    }

    /// Takes the trailers, once, after the end of a body that had any.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.0 {
            Kind::Chunked(chunked) => chunked.take_trailers(),
            Kind::Length(_) | Kind::UntilClose => None,
        }
    }

    /// The number of missing bytes of payload, if known.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Kind::Length(left) => Some(*left),
            Kind::Chunked(chunked) => chunked.is_done().then_some(0),
            Kind::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests;
