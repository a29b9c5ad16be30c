//! An answer with a content coding: the meter reads a decoded copy.

use crate::coding::{Coding, ContentDecoder};
use crate::usage::{Progress, Tally};

use super::ResponseMeter;

/// The bytes pass as they came, encoded, so nothing of ours can be put between them. What cannot be
/// decoded, or costs too much, passes all the same; only its number is lost, and the record says
/// so.
#[derive(Debug)]
pub struct EncodedTap {
    /// `None` where it has a coding that is not known.
    decoder: Option<ContentDecoder>,
    /// What the content is.
    content: ResponseMeter,
    /// A byte of it has come.
    begun: bool,
}

impl EncodedTap {
    pub(super) fn new(codings: &[Coding], content: ResponseMeter) -> Self {
        Self { decoder: Some(ContentDecoder::new(codings)), content, begun: false }
    }

    /// One that cannot be read.
    pub(super) fn unknown(content: ResponseMeter) -> Self {
        Self { decoder: None, content, begun: false }
    }

    /// The meter of what it is once it is decoded.
    pub(super) fn content(&self) -> &ResponseMeter {
        &self.content
    }

    pub(super) fn content_mut(&mut self) -> &mut ResponseMeter {
        &mut self.content
    }

    /// Whether what follows can be decoded, as far as is known.
    pub(super) fn is_read(&self) -> bool {
        self.decoder.as_ref().is_some_and(|decoder| !decoder.has_failed())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Progress {
        let mut progress = Progress::default();
        let content = &mut self.content;
        self.begun |= !bytes.is_empty();
        if let Some(decoder) = &mut self.decoder {
            // What came of it before an error counts; the error is told at the end.
            let _ = decoder.push(bytes, &mut |piece| progress.add(content.push(piece)));
        }
        progress
    }

    /// What was found; `ended` says that no more comes of the answer. If the decoder has not come
    /// to the end of it, the meter has missed something, unless what it read says itself that it is
    /// whole: some servers flush and hang up.
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
