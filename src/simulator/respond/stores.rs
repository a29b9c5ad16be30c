//! Responses from the state that earlier requests left.

use std::sync::Arc;

use bytes::BytesMut;
use http::Response;
use serde_json::Value;

use super::super::body::{SimulatorBody, Stream, nanoseconds};
use super::super::conversations::missing;
use super::super::error::Failure;
use super::super::play::Play;
use super::super::stored::Look;
use super::super::task::{ConversationTask, FileTask, ResponseTask};
use super::request::detailed;
use super::{Asked, Exchange, Made};

impl Exchange {
    pub(super) fn file(&self, task: FileTask<'_>, asked: &Asked) -> Result<Made, Failure> {
        let mut files = self.shared.files();
        Ok(match task {
            FileTask::Upload => {
                let form = asked.form.as_ref().expect("an upload has a form");
                files.upload(self.number, nanoseconds() / 1_000_000_000, form)?.into()
            }
            FileTask::List => files.list().into(),
            FileTask::Get(id) => files.get(id)?.into(),
            FileTask::Content(id) => {
                Made { content_type: "application/octet-stream", body: files.content(id)?, tokens: None }
            }
            FileTask::Delete(id) => files.delete(id)?.into(),
        })
    }

    pub(super) fn new_conversation(&self, asked: &Asked) -> Result<Made, Failure> {
        let (created, body) = (nanoseconds() / 1_000_000_000, json_of(&asked.body)?);
        let account = self.shared.account;
        Ok(self.shared.conversations().create(account, self.number, created, &body)?.into())
    }

    pub(super) fn conversation(
        &self,
        task: ConversationTask<'_>,
        id: &str,
        asked: &Asked,
    ) -> Result<Made, Failure> {
        let (body, account) = (json_of(&asked.body)?, self.shared.account);
        let mut conversations = self.shared.conversations();
        let json = match task {
            ConversationTask::Get => conversations.get(id),
            ConversationTask::Update => conversations.update(id, &body),
            ConversationTask::Delete => conversations.delete(id),
            ConversationTask::Items => conversations.items(id),
            ConversationTask::Add => conversations.add(account, id, self.number, &body),
            ConversationTask::Item(item) => conversations.item(id, item),
            ConversationTask::DeleteItem(item) => conversations.delete_item(id, item),
        };
        json.map(Made::from)
    }

    /// Adds the turn of a response to its conversation. A named account refuses one that it does not
    /// have.
    pub(super) fn add_turn(&self, id: &str, body: &[u8], play: &Play) -> Result<(), Failure> {
        let mut conversations = self.shared.conversations();
        if !conversations.has(id) {
            return if self.shared.account.is_named() { Err(missing(id)) } else { Ok(()) };
        }
        let mut whole = BytesMut::new();
        play.write_whole(None, &mut whole);
        let response: Value = serde_json::from_slice(&whole).unwrap_or_default();
        conversations.add_turn(id, &json_of(body)?["input"], self.number, &response["output"]);
        Ok(())
    }

    pub(super) fn stored(
        &self,
        task: ResponseTask,
        id: &str,
        query: Option<&str>,
        asked: &Asked,
    ) -> Result<Response<SimulatorBody>, Failure> {
        let mut responses = self.shared.responses();
        let made = match task {
            ResponseTask::Get => {
                if let Some(from) = resumed(query) {
                    let stream =
                        Stream::new(responses.play(id)?, Arc::clone(&self.shared.tally), self.order.clone());
                    return Ok(self.stream(stream.again(from)));
                }
                look(responses.get(id)?)
            }
            ResponseTask::Cancel => look(responses.cancel(id)?),
            ResponseTask::Delete => responses.delete(id)?.into(),
            ResponseTask::InputItems => responses.input_items(id)?.into(),
        };
        Ok(self.whole(made, &asked.directions, asked.dialect))
    }
}

/// The body as JSON; null without a body.
fn json_of(body: &[u8]) -> Result<Value, Failure> {
    if body.is_empty() { Ok(Value::Null) } else { detailed(body) }
}

fn look(look: Look) -> Made {
    Made::json(look.body).reporting(look.tokens)
}

/// The first event of a requested stream: `?stream=true&starting_after=N`.
fn resumed(query: Option<&str>) -> Option<u64> {
    let pairs = || form_urlencoded::parse(query.unwrap_or("").as_bytes());
    let value = |name: &str| pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned());
    value("stream").filter(|stream| stream == "true")?;
    let after = value("starting_after").and_then(|after| after.parse::<u64>().ok());
    Some(after.map_or(0, |after| after.saturating_add(1)))
}
