//! One session under way: what both sides say, the meter that hears it, and its record.

use std::time::Instant;

use crate::error::Error;
use crate::provider::UsageOwner;
use crate::record::{Entry, Outcome};
use crate::usage::{AskedModel, Progress, SessionMeter};
use crate::websocket::{Close, FrameHandler, Frames, Opcode};

/// Endpoints in whose sessions the client's messages name the model, as far as is known. What is
/// said to the others is sound, mostly.
const MODEL_IS_ASKED: [&str; 2] = ["responses", "other"];

/// A side of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Who asked for it.
    Client,
    /// Who granted it.
    Upstream,
}

/// How a session ends, apart from what its close frames say.
#[derive(Debug)]
pub enum SessionEnd {
    /// This side's connection has ended.
    Left(Peer),
    /// The upstream's connection broke, or a limit was reached.
    Failed(Error),
    /// This process stops.
    Stopped,
}

/// Hears a session and keeps its record: one for all of it, with the sum of what its responses
/// used.
///
/// Dropping it closes the record of a session that did not come to its end.
pub struct Session {
    entry: Entry,
    /// `None` once the record has it.
    reading: Option<Box<Reading>>,
}

/// A WebSocket's two directions.
#[derive(Default)]
struct Reading {
    client: Frames,
    upstream: Frames,
    heard: Heard,
    /// When the first message of the upstream had ended, and the last.
    events: Option<(Instant, Instant)>,
}

#[derive(Default)]
struct Heard {
    usage: SessionMeter,
    /// `None` where the client names its model before the session, and says too much to be read for
    /// it.
    asked: Option<AskedModel>,
    /// What the last bytes brought.
    progress: Progress,
    /// The first close frame.
    closed: Option<(Peer, Close)>,
    /// Whose last frame has been seen.
    last: [bool; 2],
}

impl Session {
    /// Begins with the answer that grants it.
    pub fn new(mut entry: Entry, status: u16) -> Self {
        entry.answered(status, Instant::now());
        // A session makes what it reports, also where a `GET` of its path does not.
        entry.answers(UsageOwner::Own);
        let row = entry.row();
        row.stream = true;
        let names_model = row.endpoint.as_deref().is_some_and(|endpoint| MODEL_IS_ASKED.contains(&endpoint));
        let mut reading = Box::<Reading>::default();
        reading.heard.asked = names_model.then(AskedModel::default);
        Self { entry, reading: Some(reading) }
    }

    /// Hears bytes of one side. What cannot be read passes all the same, and the record says so.
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
                if heard.progress.events > 0 {
                    *events = Some((events.map_or(now, |(first, _)| first), now));
                }
            }
        }
    }

    /// Whether a close frame of this proxy's own may stand in what `from` says: it says frames, is
    /// between two of them, and has not said its last.
    pub fn takes_close(&self, from: Peer) -> bool {
        self.reading.as_deref().is_some_and(|reading| {
            let frames = match from {
                Peer::Client => &reading.client,
                Peer::Upstream => &reading.upstream,
            };
            frames.is_between_frames() && !reading.heard.last[from as usize]
        })
    }

    /// Whether either side has said that the session is over.
    pub fn is_closing(&self) -> bool {
        self.reading.as_deref().is_some_and(|reading| reading.heard.closed.is_some())
    }

    /// Closes the record.
    ///
    /// After a close frame the session is `complete`, unless it is the upstream's and tells of a
    /// failure. Without one, who leaves it is to blame.
    pub fn close(mut self, end: &SessionEnd) {
        let closed = self.finish();
        let (outcome, error) = match (closed, end) {
            (Some((Peer::Upstream, close)), _) if close.is_failure() => {
                let code = close.code.unwrap_or_default();
                (Outcome::UpstreamError, Some(format!("the upstream closed with {code}: {}", close.reason)))
            }
            (Some(_), _) => (Outcome::Complete, None),
            (None, SessionEnd::Left(Peer::Client)) => (Outcome::ClientDisconnected, None),
            (None, SessionEnd::Left(Peer::Upstream)) => (Outcome::Complete, None),
            (None, SessionEnd::Failed(error)) => (error.outcome(), Some(error.to_string())),
            (None, SessionEnd::Stopped) => {
                (Outcome::Truncated, Some("the proxy was stopped before the session ended".to_owned()))
            }
        };
        if let Some(error) = error {
            self.entry.row().error = Some(error.into());
        }
        self.entry.close(outcome);
    }

    /// Takes over what has been heard; says who closed the session, and how.
    fn finish(&mut self) -> Option<(Peer, Close)> {
        let Reading { client, upstream, heard, events } = *self.reading.take()?;
        if let Some(model) = heard.asked.and_then(AskedModel::into_model) {
            self.entry.row().model_requested = Some(model);
        }
        let mut tally = heard.usage.into_tally();
        tally.skipped += u64::from(client.has_failed()) + u64::from(upstream.has_failed());
        self.entry.row().events = Some(tally.events);
        if let Some((first, last)) = events {
            self.entry.events(first, last);
        }
        self.entry.metered(tally, false);
        heard.closed
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

/// What the client says matters only where it ends, and where it names its model.
struct FromClient<'a>(&'a mut Heard);

impl FrameHandler for FromClient<'_> {
    fn data(&mut self, is_text: bool, piece: &[u8]) {
        if let Some(asked) = self.0.asked.as_mut().filter(|_| is_text) {
            asked.text(piece);
        }
    }

    fn message_end(&mut self, _is_text: bool) {
        if let Some(asked) = &mut self.0.asked {
            asked.message_end();
        }
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.0.control(Peer::Client, opcode, payload);
    }
}

struct FromUpstream<'a>(&'a mut Heard);

impl FrameHandler for FromUpstream<'_> {
    fn data(&mut self, is_text: bool, piece: &[u8]) {
        if is_text {
            self.0.usage.text(piece);
        }
    }

    fn message_end(&mut self, _is_text: bool) {
        let progress = self.0.usage.message_end();
        self.0.progress.add(progress);
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.0.control(Peer::Upstream, opcode, payload);
    }
}

#[cfg(test)]
mod tests;
