//! Stored responses: retrieved, cancelled, deleted; and those in the background, which end later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::error::Failure;
use super::ordered::{Json, Member, object};
use super::play::Play;
use super::reel::response_without_output;
use super::store::{Store, number_of};
use super::tally::Tokens;

/// The largest number of responses, and the total bytes of their requests.
const MAX_RESPONSES: usize = 1_024;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The largest request whose input can be retrieved.
const MAX_INPUT_BYTES: usize = 64 * 1024;

/// The approximate memory of a response besides its request.
const ENTRY_BYTES: usize = 512;

/// All stored responses.
#[derive(Debug)]
pub(super) struct Responses(Store<Stored>);

#[derive(Debug)]
struct Stored {
    play: Arc<Play>,
    /// The request's body, empty if it is too large.
    request: Bytes,
    /// The time at which a response in the background ends.
    due: Option<Instant>,
    is_cancelled: bool,
    /// True if the tally has its counts.
    is_reported: bool,
}

/// The result of retrieving a response.
pub(super) struct Look {
    pub(super) body: Bytes,
    /// The counts, if they were not reported before.
    pub(super) tokens: Option<Tokens>,
}

impl Default for Responses {
    fn default() -> Self {
        Self(Store::new(MAX_RESPONSES, MAX_BYTES))
    }
}

impl Responses {
    /// Keeps a response; `background` is its duration in the background.
    pub(super) fn insert(
        &mut self,
        number: u64,
        play: Arc<Play>,
        request: &Bytes,
        background: Option<Duration>,
    ) {
        let keeps = request.len() <= MAX_INPUT_BYTES;
        let request = if keeps { Bytes::copy_from_slice(request) } else { Bytes::new() };
        let bytes = request.len() + ENTRY_BYTES + play.held_bytes();
        let due = background.map(|time| Instant::now() + time);
        let is_reported = background.is_none();
        self.0.insert(number, Stored { play, request, due, is_cancelled: false, is_reported }, bytes);
    }

    pub(super) fn get(&mut self, id: &str) -> Result<Look, Failure> {
        Ok(self.find(id)?.1.look())
    }

    /// The events to stream again.
    pub(super) fn play(&mut self, id: &str) -> Result<Arc<Play>, Failure> {
        Ok(Arc::clone(&self.find(id)?.1.play))
    }

    pub(super) fn cancel(&mut self, id: &str) -> Result<Look, Failure> {
        let stored = self.find(id)?.1;
        let Some(due) = stored.due else {
            return Err(Failure::invalid("Cannot cancel a synchronous response."));
        };
        // Cancelling a cancelled or finished response has no effect.
        stored.is_cancelled |= Instant::now() < due;
        Ok(stored.look())
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<Json, Failure> {
        let (number, _) = self.find(id)?;
        self.0.remove(number);
        Ok(object! { "id": id, "object": "response.deleted", "deleted": true })
    }

    pub(super) fn input_items(&mut self, id: &str) -> Result<Json, Failure> {
        let (number, stored) = self.find(id)?;
        let request: Value = serde_json::from_slice(&stored.request).unwrap_or_default();
        let items = match &request["input"] {
            Value::String(text) => {
                let content = object! { "type": "input_text", "text": text };
                vec![
                    object! { "type": "message", "status": "completed", "content": [content], "role": "user" },
                ]
            }
            list => list.as_array().into_iter().flatten().map(|item| Json::raw(item.to_string())).collect(),
        };
        let ids: Vec<_> = (0..items.len()).map(|at| format!("msg_{number:020x}{at:04x}")).collect();
        let data: Vec<_> = items.into_iter().zip(&ids).map(|(item, id)| with_id(item, id)).collect();
        Ok(
            object! { "object": "list", "data": data, "first_id": ids.first(), "last_id": ids.last(), "has_more": false },
        )
    }

    fn find(&mut self, id: &str) -> Result<(u64, &mut Stored), Failure> {
        let number = number_of(id, "resp_");
        let found = number.and_then(|number| Some((number, self.0.get_mut(number)?)));
        found.ok_or_else(|| Failure::no_such_object("id", format!("Response with id '{id}' not found.")))
    }
}

/// The item, with an id if it has none.
fn with_id(item: Json, id: &str) -> Json {
    if item.as_str().contains("\"id\":") { item } else { item.with("id", &id as &dyn Member) }
}

impl Stored {
    fn look(&mut self) -> Look {
        let is_running = self.due.is_some_and(|due| Instant::now() < due);
        if self.is_cancelled || is_running {
            let status = if self.is_cancelled { "cancelled" } else { "in_progress" };
            let body = in_background(response_without_output(self.play.facts(), status).as_str());
            return Look { body, tokens: None };
        }
        let mut whole = BytesMut::new();
        let tokens = self.play.write_whole(None, &mut whole);
        let is_news = !std::mem::replace(&mut self.is_reported, true);
        let body = match self.due {
            Some(_) => in_background(&String::from_utf8_lossy(&whole)),
            None => whole.freeze(),
        };
        Look { body, tokens: tokens.filter(|_| is_news) }
    }
}

/// The response to a request for a response in the background.
pub(super) fn queued(play: &Play) -> Bytes {
    in_background(response_without_output(play.facts(), "queued").as_str())
}

/// A response object with `background: true`, which precedes all members of the request's.
fn in_background(response: &str) -> Bytes {
    response.replacen("\"background\":false", "\"background\":true", 1).into()
}
