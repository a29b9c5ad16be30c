//! The meter of a response with a content coding: it reads a decoded copy.

use crate::codec::coding::{Coding, ContentDecoder};
use crate::llm::usage::{Progress, Tally};
use crate::support::memory::Memory;

use super::{IdWatch, ResponseMeter};

/// The encoded bytes pass unchanged, so that no event of ours can be inserted. Bytes that cannot be
/// decoded, or only at too high a cost, pass too; their usage is unknown, and the record says so.
#[derive(Debug)]
pub struct EncodedTap {
    /// `None`: the coding is unknown.
    decoder: Option<ContentDecoder>,
    /// The meter of the decoded bytes.
    content: ResponseMeter,
    /// A byte has arrived.
    begun: bool,
    /// Reads the decoded bytes too.
    ids: Option<Box<IdWatch>>,
}

impl EncodedTap {
    pub(super) fn new(codings: &[Coding], content: ResponseMeter) -> Self {
        Self { decoder: Some(ContentDecoder::new(codings)), content, begun: false, ids: None }
    }

    /// A response whose coding is unknown.
    pub(super) fn unknown(content: ResponseMeter) -> Self {
        Self { decoder: None, content, begun: false, ids: None }
    }

    pub(super) fn content(&self) -> &ResponseMeter {
        &self.content
    }

    pub(super) fn content_mut(&mut self) -> &mut ResponseMeter {
        &mut self.content
    }

    /// Counts the decoder's memory. Without room for it, the rest of the response is not read.
    pub(super) fn count_in(&mut self, memory: &Memory) {
        self.decoder = self.decoder.take().map(|decoder| decoder.counted(memory));
    }

    /// Remembers the ids in the decoded bytes.
    pub(super) fn watch_ids(&mut self, ids: Box<IdWatch>) {
        self.ids = Some(ids);
    }

    /// Returns true if the decoder has not failed so far.
    pub(super) fn is_read(&self) -> bool {
        self.decoder.as_ref().is_some_and(|decoder| !decoder.has_failed())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Progress {
        let mut progress = Progress::default();
        let (content, ids) = (&mut self.content, &mut self.ids);
        self.begun |= !bytes.is_empty();
        if let Some(decoder) = &mut self.decoder {
            // Bytes decoded before an error count; `into_tally` reports the error.
            let _ = decoder.push(bytes, &mut |piece| {
                if let Some(ids) = ids {
                    ids.push(piece);
                }
                progress.add(content.push(piece));
            });
        }
        progress
    }

    /// The result. `ended`: the response is complete. A decoder that has not reached its end counts
    /// as a gap, unless the decoded stream has its last event: some servers flush and hang up.
    pub(super) fn into_tally(mut self, ended: bool) -> Option<Tally> {
        let mut tally = self.content.take_tally(ended)?;
        let unread = match &self.decoder {
            None => true,
            Some(decoder) => decoder.has_failed() || (ended && !decoder.is_complete() && !tally.terminal),
        };
        tally.skipped += u64::from(self.begun && unread);
        Some(tally)
    }
}
