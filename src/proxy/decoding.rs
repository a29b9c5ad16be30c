//! The content coding of a request's body, undone to look inside.
//!
//! The body goes on as it came, under its `Content-Encoding`, unless something in it must be
//! edited: then it goes on decoded, without that header. What comes of it is held to
//! `server.max_request_bytes` and to the memory budget like the body itself, and to the decoder's
//! own bounds ([`FREE_OUTPUT`](crate::coding::FREE_OUTPUT),
//! [`MAX_RATIO`](crate::coding::MAX_RATIO)).

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::yield_now;

use super::budget::Reserved;
use super::client_body::BodyLimits;
use crate::coding::{Coding, ContentDecoder, DecodeError};
use crate::error::Result;

/// How much is decoded before other requests of the worker have their turn.
const TURN: usize = 1 << 20;

/// How much is given to the decoder at a time.
const PIECE: usize = 4 << 10;

/// What `bytes` say without their codings, which a client applied in this order. Its memory is
/// added to what is reserved for them.
///
/// # Errors
/// They cannot be decoded, or not within the limits.
pub(super) async fn decode(
    bytes: &Bytes,
    codings: &[Coding],
    limits: &BodyLimits,
    reserved: &mut Reserved,
    client: &Arc<str>,
) -> Result<Bytes> {
    let mut decoder = ContentDecoder::new(codings);
    let mut text = Vec::new();
    let mut turn = TURN;
    let mut failure = None;
    for piece in bytes.chunks(PIECE) {
        let decoded = decoder.push(piece, &mut |out| {
            if failure.is_some() {
                return;
            }
            let length = text.len() + out.len();
            failure =
                limits.check_held(length).and_then(|()| reserved.grow_to(bytes.len() + length, client)).err();
            if failure.is_none() {
                text.extend_from_slice(out);
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        decoded?;
        if text.len() > turn {
            turn = text.len() + TURN;
            yield_now().await;
        }
    }
    if decoder.is_complete() { Ok(text.into()) } else { Err(DecodeError::Corrupt.into()) }
}
