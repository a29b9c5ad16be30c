//! The server's end of a WebSocket (RFC 6455): text messages in, text messages out.

use std::collections::VecDeque;
use std::io;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::codec::websocket::{FrameHandler, Frames, Opcode, close_frame};

/// The value that is hashed with the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest message that is read: a few seconds of sound in base64 fit.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;

const NORMAL: u16 = 1000;
const TOO_BIG: u16 = 1009;

/// `sec-websocket-accept` for a request for a WebSocket. `None` for any other request.
pub(super) fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_websocket = headers.get(UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_websocket)?;
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    HeaderValue::try_from(STANDARD.encode(hash)).ok()
}

/// A WebSocket over a stream.
pub(super) struct WebSocket<S> {
    stream: S,
    frames: Frames,
    inbox: Inbox,
}

#[derive(Default)]
struct Inbox {
    /// Whole messages: at most those of one read.
    messages: VecDeque<String>,
    /// The beginning of the next message.
    begun: Vec<u8>,
    /// Pongs to send.
    replies: Vec<u8>,
    is_closed: bool,
    is_too_big: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frames: Frames::new(), inbox: Inbox::default() }
    }

    /// The next message. `None` after the client has closed, with or without a close frame.
    pub(super) async fn receive(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(message) = self.inbox.messages.pop_front() {
                return Ok(Some(message));
            }
            if self.inbox.is_too_big || self.inbox.is_closed {
                let code = if self.inbox.is_too_big { TOO_BIG } else { NORMAL };
                self.stream.write_all(&close_frame(code, "", None)).await?;
                self.stream.shutdown().await?;
                return Ok(None);
            }
            let mut bytes = [0; READ_BYTES];
            let read = self.stream.read(&mut bytes).await?;
            if read == 0 {
                return Ok(None);
            }
            let pushed = self.frames.push(&bytes[..read], &mut self.inbox);
            pushed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let replies = std::mem::take(&mut self.inbox.replies);
            self.stream.write_all(&replies).await?;
        }
    }

    pub(super) async fn send(&mut self, text: &str) -> io::Result<()> {
        let mut frame = Vec::with_capacity(text.len() + 10);
        put_head(&mut frame, 0x81, text.len());
        frame.extend_from_slice(text.as_bytes());
        self.stream.write_all(&frame).await
    }
}

impl FrameHandler for Inbox {
    fn data(&mut self, _is_text: bool, piece: &[u8]) {
        self.is_too_big |= self.begun.len() + piece.len() > MAX_MESSAGE_BYTES;
        if !self.is_too_big {
            self.begun.extend_from_slice(piece);
        }
    }

    fn message_end(&mut self, _is_text: bool) {
        let message = std::mem::take(&mut self.begun);
        self.messages.push_back(String::from_utf8_lossy(&message).into_owned());
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        match opcode {
            Opcode::Close => self.is_closed = true,
            Opcode::Ping => {
                put_head(&mut self.replies, 0x8a, payload.len());
                self.replies.extend_from_slice(payload);
            }
            Opcode::Pong => {}
        }
    }
}

/// The head of an unmasked, final frame (RFC 6455 section 5.2).
fn put_head(out: &mut Vec<u8>, first: u8, length: usize) {
    out.push(first);
    if length < 126 {
        out.push(length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(126);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_key_is_that_of_the_rfc() {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(accept(&headers), None, "no upgrade is asked for");
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        assert_eq!(accept(&headers).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_length_has_three_forms() {
        for (length, head) in [
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            put_head(&mut out, 0x81, length);
            assert_eq!(out, head);
        }
    }
}
