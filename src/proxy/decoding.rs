//! Decodes a request body's content coding, to read the fields inside.
//!
//! The body is forwarded encoded, as it arrived, unless it must be edited: then it is forwarded
//! decoded, without `Content-Encoding`. The decoded bytes are bounded by
//! `server.max_request_bytes`, by the memory budget, and by the decoder
//! ([`FREE_OUTPUT`](crate::codec::coding::FREE_OUTPUT),
//! [`MAX_RATIO`](crate::codec::coding::MAX_RATIO)).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::yield_now;

use super::body_buffer::BodyBuffer;
use super::budget::Reserved;
use super::client_body::BodyLimits;
use crate::codec::coding::{Coding, ContentDecoder, DecodeError};
use crate::record::error::Result;

/// The decoded bytes after which other requests of the worker run.
const TURN: usize = 1 << 20;

/// The encoded bytes that are given to the decoder at a time.
const PIECE: usize = 4 << 10;

/// Decodes `bytes`, to which the client applied `codings` in this order. The reservation grows by
/// the decoded bytes.
///
/// # Errors
/// Returns an error if the bytes are not in these codings, or exceed a limit.
pub(super) async fn decode(
    bytes: &Bytes,
    codings: &[Coding],
    limits: &BodyLimits,
    reserved: &mut Reserved,
    client: &Arc<str>,
) -> Result<Bytes> {
    let mut decoder = ContentDecoder::new(codings).counted(limits.budget.memory());
    let mut text = BodyBuffer::new(BytesMut::new(), None, limits.max_bytes);
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
                text.tail().extend_from_slice(out);
                text.settle();
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
    if decoder.is_complete() { Ok(text.finish()) } else { Err(DecodeError::Corrupt.into()) }
}
