//! One WebSocket session: its meter and its record.

mod admission;
mod wait;

use std::sync::Arc;
use std::time::Instant;

use super::IdWatch;
use crate::codec::websocket::{Close, FrameHandler, Frames, Opcode};
use crate::llm::provider::UsageOwner;
use crate::llm::usage::{AskedModel, Cause, NamedIdReader, Progress, SessionMeter};
use crate::record::error::{Error, Kind};
use crate::record::{Entry, Outcome};
use wait::MessageWait;

pub use admission::TurnRefusal;
pub use wait::LONGEST_WAIT;

/// Endpoints in whose sessions the client's messages name the model. In sessions of the others,
/// most messages are audio.
const MODEL_IS_ASKED: [&str; 2] = ["responses", "other"];

/// A side of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    Upstream,
}

/// The end of a session, apart from its close frames.
#[derive(Debug)]
pub enum SessionEnd {
    /// The connection of this side ended.
    Left(Peer),
    /// The upstream's connection broke, or a limit was reached.
    Failed(Error),
    /// The process is stopping.
    Stopped,
}

/// Meters a session into one record, with the sum of the usage of its responses.
///
/// Dropping it closes the record of a session that did not end by [`Session::close`].
pub struct Session {
    entry: Entry,
    /// `None` after the result went into the record.
    reading: Option<Box<Reading>>,
    /// The error with which a limit ends the session.
    cut: Option<Error>,
    /// The reason why the first turn was refused.
    refused: Option<String>,
    /// The model in the admitted messages, where limits apply.
    admitted: Option<AskedModel>,
    /// The wait of the message that is being admitted.
    wait: MessageWait,
}

/// The two directions of a WebSocket.
#[derive(Default)]
struct Reading {
    client: Frames,
    upstream: Frames,
    heard: Heard,
    /// The times at which the first and the last message of the upstream ended.
    events: Option<(Instant, Instant)>,
}

#[derive(Default)]
struct Heard {
    usage: SessionMeter,
    /// `None` if the model was named before the session, or limits apply, so that the client's bytes
    /// are not searched for it.
    asked: Option<AskedModel>,
    /// The findings in the last bytes.
    progress: Progress,
    /// Remembers the ids in the upstream's messages.
    ids: Option<Box<IdWatch>>,
    /// Reads the ids in the client's message.
    named: NamedIdReader,
    /// The reason for which a message of the client must not be passed on.
    refusal: Option<Kind>,
    /// The first close frame.
    closed: Option<(Peer, Close)>,
    /// True if a close frame was seen, by side.
    last: [bool; 2],
}

/// The findings that decide the outcome.
#[derive(Default)]
struct Findings {
    /// The first close frame and its side.
    closed: Option<(Peer, Close)>,
    /// The cause of the first error, if no response succeeded.
    failure: Option<Cause>,
    /// A response has begun and not ended.
    is_under_way: bool,
}

impl Session {
    /// Begins with the response that grants the upgrade.
    pub fn new(mut entry: Entry, status: u16) -> Self {
        entry.record_head(status, Instant::now());
        // The session owns its usage, although a `GET` of the path reports the usage of others.
        entry.set_usage_owner(UsageOwner::Own);
        let row = entry.row();
        row.stream = true;
        let names_model = row.endpoint.as_deref().is_some_and(|endpoint| MODEL_IS_ASKED.contains(&endpoint));
        let mut reading = Box::<Reading>::default();
        let (mut asked, mut admitted) = (names_model.then(AskedModel::default), None);
        if entry.turns().is_some() {
            reading.heard.usage.keep_steps();
            admitted = asked.take();
        }
        reading.heard.asked = asked;
        let wait = MessageWait::default();
        Self { entry, reading: Some(reading), cut: None, refused: None, admitted, wait }
    }

    pub fn client(&mut self) -> Arc<str> {
        Arc::clone(&self.entry.row().client)
    }

    /// The client, and the id of its key. `None`: it has none.
    pub fn key(&mut self) -> Option<(Arc<str>, Arc<str>)> {
        let row = self.entry.row();
        Some((Arc::clone(&row.client), row.key_id.clone()?))
    }

    /// The error with which the session must end, once a close frame may be inserted.
    pub fn take_cut(&mut self) -> Option<Error> {
        let can_close = self.takes_close(Peer::Upstream)
            || self.reading.as_deref().is_none_or(|reading| reading.upstream.has_failed());
        self.cut.take_if(|_| can_close)
    }

    /// The number of responses that have begun.
    pub fn begun(&self) -> u64 {
        self.reading.as_deref().map_or(0, |reading| reading.heard.usage.begun())
    }

    /// Returns true if a message of ours may be inserted for the client.
    pub fn takes_message(&self) -> bool {
        self.takes_close(Peer::Upstream)
            && self.reading.as_deref().is_some_and(|reading| reading.upstream.is_between_messages())
    }

    /// The reason for which a message of the client must not be passed on: an id is another client's,
    /// or cannot be read.
    pub fn refusal(&self) -> Option<&Kind> {
        self.reading.as_deref()?.heard.refusal.as_ref()
    }

    /// Remembers the ids in the upstream's messages, and finds those of other clients in the
    /// client's.
    pub fn watch_ids(&mut self, ids: Box<IdWatch>) {
        if let Some(reading) = &mut self.reading {
            reading.heard.ids = Some(ids);
        }
    }

    /// Meters bytes of one side. Bytes that are not frames pass too, and the record says so.
    pub fn saw(&mut self, from: Peer, bytes: &[u8]) {
        let row = self.entry.row();
        match from {
            Peer::Client => row.request_bytes += bytes.len() as u64,
            Peer::Upstream => row.response_bytes += bytes.len() as u64,
        }
        let Some(Reading { client, upstream, heard, events }) = self.reading.as_deref_mut() else { return };
        match from {
            Peer::Client => {
                let _ = client.push(bytes, &mut FromClient(heard));
            }
            Peer::Upstream => {
                let now = Instant::now();
                heard.progress = Progress::default();
                let _ = upstream.push(bytes, &mut FromUpstream(heard));
                if heard.progress.first_token {
                    self.entry.first_token(now);
                }
                for step in heard.usage.take_steps() {
                    let observed = self.entry.turns().map_or(Ok(()), |turns| turns.on_step(&step));
                    if let Err(error) = observed {
                        self.cut.get_or_insert(error);
                    }
                }
                if heard.progress.events > 0 {
                    *events = Some((events.map_or(now, |(first, _)| first), now));
                }
            }
        }
    }

    /// Returns true if a close frame of ours may be inserted into the direction of `from`: its
    /// bytes are frames, the last one is complete, and none of them was a close frame.
    pub fn takes_close(&self, from: Peer) -> bool {
        self.reading.as_deref().is_some_and(|reading| {
            let frames = match from {
                Peer::Client => &reading.client,
                Peer::Upstream => &reading.upstream,
            };
            frames.is_between_frames() && !reading.heard.last[from as usize]
        })
    }

    /// Returns true if either side has sent a close frame.
    pub fn is_closing(&self) -> bool {
        self.reading.as_deref().is_some_and(|reading| reading.heard.closed.is_some())
    }

    /// Closes the record.
    ///
    /// After a close frame the session is `complete`, unless the upstream's code reports a failure
    /// or the client closed inside a response. Without one, `end` decides. A complete session has the outcome of its first error if none of
    /// its responses succeeded, and is `truncated` if the upstream ended it inside a response.
    pub fn close(mut self, end: &SessionEnd) {
        let Findings { closed, failure, is_under_way } = self.finish();
        let (outcome, error) = match (closed, end) {
            (Some((Peer::Upstream, close)), _) if close.is_failure() => {
                let code = close.code.unwrap_or_default();
                (Outcome::UpstreamError, Some(format!("the upstream closed with {code}: {}", close.reason)))
            }
            (Some((Peer::Upstream, _)), _) | (None, SessionEnd::Left(Peer::Upstream)) if is_under_way => {
                (Outcome::Truncated, Some("the session ended before a response that had begun".to_owned()))
            }
            (Some((Peer::Client, _)), _) if is_under_way => (Outcome::ClientDisconnected, None),
            (Some(_), _) | (None, SessionEnd::Left(Peer::Upstream)) => {
                (failure.map_or(Outcome::Complete, Outcome::from), None)
            }
            (None, SessionEnd::Left(Peer::Client)) => (Outcome::ClientDisconnected, None),
            (None, SessionEnd::Failed(error)) => (error.outcome(), Some(error.to_string())),
            (None, SessionEnd::Stopped) => {
                (Outcome::Cut, Some("the proxy was stopped before the session ended".to_owned()))
            }
        };
        if let Some(error) = error {
            self.entry.row().error = Some(error.into());
        } else if let Some(refused) = self.refused.take() {
            self.entry.row().error.get_or_insert_with(|| refused.into());
        }
        self.entry.close(outcome);
    }

    /// Puts the result into the record.
    fn finish(&mut self) -> Findings {
        let Some(reading) = self.reading.take() else { return Findings::default() };
        let Reading { client, upstream, heard, events } = *reading;
        let Heard { usage, asked, closed, .. } = heard;
        let findings = Findings { closed, failure: usage.failure(), is_under_way: usage.is_under_way() };
        if let Some(model) = asked.or(self.admitted.take()).and_then(AskedModel::into_model) {
            self.entry.row().model_requested = Some(model.into());
        }
        let mut tally = usage.into_tally();
        tally.skipped += u64::from(client.has_failed()) + u64::from(upstream.has_failed());
        self.entry.row().events = Some(tally.events);
        if let Some((first, last)) = events {
            self.entry.events(first, last);
        }
        self.entry.metered(tally, false);
        findings
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.entry.is_closed() {
            self.finish();
        }
    }
}

impl Heard {
    fn control(&mut self, from: Peer, opcode: Opcode, payload: &[u8]) {
        if opcode == Opcode::Close {
            self.last[from as usize] = true;
            self.closed.get_or_insert_with(|| (from, Close::read(payload)));
        }
    }
}

/// Reads the model and the close frame from the client's messages.
struct FromClient<'a>(&'a mut Heard);

impl FrameHandler for FromClient<'_> {
    fn data(&mut self, _is_text: bool, piece: &[u8]) {
        // Services parse binary messages too.
        if let Some(asked) = &mut self.0.asked {
            asked.data(piece);
        }
        let Heard { ids, named, refusal, .. } = &mut *self.0;
        // Messages that may have to wait are checked when they are admitted.
        if let Some(ids) = ids.as_ref().filter(|ids| !ids.asks_fleet()) {
            named.push(piece, &mut |id| {
                if ids.is_foreign(id) {
                    *refusal = Some(Kind::StoredIdUnknown(id.to_owned()));
                }
            });
            if named.is_refused() && ids.is_bound() {
                refusal.get_or_insert(Kind::BodyNotJson);
            }
        }
    }

    fn message_end(&mut self, _is_text: bool) {
        if let Some(asked) = &mut self.0.asked {
            asked.message_end();
        }
        if self.0.ids.is_some() {
            self.0.named = NamedIdReader::default();
        }
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.0.control(Peer::Client, opcode, payload);
    }
}

struct FromUpstream<'a>(&'a mut Heard);

impl FrameHandler for FromUpstream<'_> {
    fn data(&mut self, _is_text: bool, piece: &[u8]) {
        self.0.usage.data(piece);
        if let Some(ids) = &mut self.0.ids {
            ids.push(piece);
        }
    }

    fn message_end(&mut self, _is_text: bool) {
        let progress = self.0.usage.message_end();
        if let Some(ids) = &mut self.0.ids {
            ids.message_end();
        }
        self.0.progress.add(progress);
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.0.control(Peer::Upstream, opcode, payload);
    }
}

#[cfg(test)]
mod tests;
