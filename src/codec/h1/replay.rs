//! A response in given pieces, read in the way of a connection, for tests and fuzzing.

use http::{HeaderMap, Method, StatusCode};

use super::{BodyDecoder, HeadReader, ParsedResponse, ProtocolError};

/// A whole response, read to the end of its connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    /// The statuses of the preceding 1xx heads.
    pub(crate) interim: Vec<StatusCode>,
    pub(crate) head: Option<ParsedResponse>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// The number of bytes after the end of the body.
    pub(crate) left_over: usize,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Complete,
    /// The connection ended before the end of the head.
    NoHead,
    Refused(ProtocolError),
}

/// Reads the pieces in order, then the end of the connection.
pub(crate) fn replay<'a>(method: &Method, pieces: impl IntoIterator<Item = &'a [u8]>) -> Replay {
    let mut replay = Replay {
        interim: Vec::new(),
        head: None,
        body: Vec::new(),
        trailers: None,
        left_over: 0,
        verdict: Verdict::NoHead,
    };
    replay.verdict = match replay.run(method, pieces) {
        Ok(()) if replay.head.is_some() => Verdict::Complete,
        Ok(()) => Verdict::NoHead,
        Err(error) => Verdict::Refused(error),
    };
    replay
}

/// The response, which is the same in one piece, byte by byte, and in any two pieces.
#[cfg(test)]
pub(crate) fn replay_at_every_split(method: &Method, response: &[u8]) -> Replay {
    let whole = replay(method, [response]);
    assert_eq!(replay(method, response.chunks(1)), whole, "byte by byte");
    for at in 0..=response.len() {
        let (first, second) = response.split_at(at);
        assert_eq!(replay(method, [first, second]), whole, "cut at {at}");
    }
    whole
}

impl Replay {
    fn run<'a>(
        &mut self,
        method: &Method,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), ProtocolError> {
        let mut reader = HeadReader::new(method);
        let mut decoder = None;
        let mut held = Vec::new();
        for piece in pieces {
            held.extend_from_slice(piece);
            while decoder.is_none()
                && let Some((parsed, used)) = reader.read(&held)?
            {
                held.drain(..used);
                let status = parsed.head.status;
                if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                    self.interim.push(status);
                } else {
                    decoder = Some(BodyDecoder::new(parsed.framing));
                    self.head = Some(parsed);
                }
            }
            if let Some(decoder) = &mut decoder {
                self.decode(decoder, &mut held)?;
                held.clear();
            }
        }
        let Some(mut decoder) = decoder else { return Ok(()) };
        decoder.end_of_connection()?;
        assert!(decoder.is_done(), "a body that may end here has ended");
        assert_eq!(decoder.remaining(), Some(0));
        self.trailers = decoder.take_trailers();
        assert_eq!(decoder.take_trailers(), None, "trailers are given once");
        Ok(())
    }

    fn decode(&mut self, decoder: &mut BodyDecoder, buf: &mut [u8]) -> Result<(), ProtocolError> {
        let before = decoder.remaining();
        let decoded = decoder.decode(buf)?;
        assert!(decoded.data.end <= decoded.consumed && decoded.consumed <= buf.len());
        if let (Some(before), Some(after)) = (before, decoder.remaining()) {
            assert_eq!(before - after, decoded.data.len() as u64, "what remains is exact");
        }
        if decoded.consumed < buf.len() {
            assert!(decoder.is_done(), "bytes are left only after the end");
        }
        self.left_over += buf.len() - decoded.consumed;
        self.body.extend_from_slice(&buf[decoded.data]);
        // Reports an error directly after that payload.
        let nothing = decoder.decode(&mut [])?;
        assert!(nothing.data.is_empty() && nothing.consumed == 0);
        Ok(())
    }
}
