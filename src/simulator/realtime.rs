//! `realtime`: a session over a WebSocket that responds to `response.create` with the sentence, as
//! text.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ask::Words;
use super::directions::{Directions, FaultKind};
use super::ordered::{Json, object};
use super::socket::WebSocket;
use super::tally::{Tally, Tokens};
use super::text;

/// One session.
pub(super) struct Realtime {
    pub(super) number: u64,
    pub(super) model: String,
    pub(super) directions: Directions,
    pub(super) tally: Arc<Tally>,
    /// Words of all items so far: the input of the next response.
    words: u64,
    responses: u64,
    events: u64,
    reported: Option<Tokens>,
}

impl Realtime {
    pub(super) fn new(number: u64, model: String, directions: Directions, tally: Arc<Tally>) -> Self {
        Self { number, model, directions, tally, words: 0, responses: 0, events: 0, reported: None }
    }

    /// Runs the session to its end.
    pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        mut socket: WebSocket<S>,
    ) -> io::Result<()> {
        let session = self.session();
        self.send(&mut socket, "session.created", |event| event.with("session", &session)).await?;
        while let Some(message) = socket.receive().await? {
            let event: Value = serde_json::from_str(&message).unwrap_or_default();
            match event["type"].as_str().unwrap_or("") {
                "session.update" => {
                    let session = self.session();
                    self.send(&mut socket, "session.updated", |event| event.with("session", &session))
                        .await?;
                }
                "conversation.item.create" => self.add(&mut socket, &event["item"]).await?,
                "input_audio_buffer.append" => {}
                "input_audio_buffer.commit" => {
                    self.send(&mut socket, "input_audio_buffer.committed", |event| event).await?;
                }
                "response.create" => self.respond(&mut socket).await?,
                kind => {
                    let message = format!("Invalid value: '{kind}'.");
                    let error = object! {
                        "type": "invalid_request_error", "code": "invalid_value", "message": message, "param": "type",
                        "event_id": (),
                    };
                    self.send(&mut socket, "error", |event| event.with("error", &error)).await?;
                }
            }
        }
        Ok(())
    }

    fn session(&self) -> Json {
        object! {
            "type": "realtime", "object": "realtime.session", "id": format!("sess_{:024x}", self.number),
            "model": self.model, "output_modalities": [Json::raw("\"text\"")], "instructions": "", "tools": Vec::new(),
            "tool_choice": "auto", "max_output_tokens": "inf", "tracing": (), "truncation": "auto", "prompt": (),
            "expires_at": 0_u64, "audio": object! {}, "include": (),
        }
    }

    async fn add<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut WebSocket<S>,
        item: &Value,
    ) -> io::Result<()> {
        let words: Words = serde_json::from_value(item["content"].clone()).unwrap_or_default();
        self.words += words.count;
        for name in ["conversation.item.added", "conversation.item.done"] {
            self.send(socket, name, |event| event.with("previous_item_id", &()).with("item", item)).await?;
        }
        Ok(())
    }

    async fn respond<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut WebSocket<S>,
    ) -> io::Result<()> {
        self.responses += 1;
        let ids = [
            format!("resp_{:x}_{}", self.number, self.responses),
            format!("item_{:x}_{}", self.number, self.responses),
        ];
        let [id, item_id] = &ids;
        let begun = response(id, "in_progress", &[], None);
        self.send(socket, "response.created", |event| event.with("response", &begun)).await?;
        let place = |event: Json| event.with("response_id", id).with("output_index", &0_u64);
        let started = item(item_id, "in_progress", None);
        self.send(socket, "response.output_item.added", |event| place(event).with("item", &started)).await?;
        let at = |event: Json| place(event).with("item_id", item_id).with("content_index", &0_u64);
        self.send(socket, "response.content_part.added", |event| at(event).with("part", &part(""))).await?;
        let mut said = String::new();
        for index in 0..self.directions.events {
            let mut word = BytesMut::new();
            text::write(index, self.directions.size, &mut word);
            let word = String::from_utf8_lossy(&word).into_owned();
            self.send(socket, "response.output_text.delta", |event| at(event).with("delta", &word)).await?;
            said.push_str(&word);
        }
        self.send(socket, "response.output_text.done", |event| at(event).with("text", &said)).await?;
        self.send(socket, "response.content_part.done", |event| at(event).with("part", &part(&said))).await?;
        let done = item(item_id, "completed", Some(&said));
        self.send(socket, "response.output_item.done", |event| place(event).with("item", &done)).await?;
        let tokens = Tokens { input: self.words, output: self.directions.events };
        let whole = response(id, "completed", &[done], Some(self.usage(tokens)));
        // The model's output is input from now on.
        self.words += self.directions.events;
        // Counts of one session are added up.
        let before = self.reported.unwrap_or_default();
        let all = Tokens { input: before.input + tokens.input, output: before.output + tokens.output };
        self.tally.report(self.reported.replace(all), all);
        self.send(socket, "response.done", |event| event.with("response", &whole)).await
    }

    fn usage(&self, tokens: Tokens) -> Json {
        let cached = self.directions.cached;
        let details = object! { "text_tokens": cached, "audio_tokens": 0_u64, "image_tokens": 0_u64 };
        object! {
            "total_tokens": tokens.input + tokens.output, "input_tokens": tokens.input, "output_tokens": tokens.output,
            "input_token_details": object! {
                "text_tokens": tokens.input, "audio_tokens": 0_u64, "image_tokens": 0_u64, "cached_tokens": cached,
                "cached_tokens_details": details,
            },
            "output_token_details": object! { "text_tokens": tokens.output, "audio_tokens": 0_u64 },
        }
    }

    /// Sends an event at its time, or executes the fault in its place.
    async fn send<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut WebSocket<S>,
        name: &str,
        members: impl FnOnce(Json) -> Json,
    ) -> io::Result<()> {
        pause(&self.directions, self.events).await?;
        let start = object! { "type": name, "event_id": format!("event_{:x}_{}", self.number, self.events) };
        self.events += 1;
        socket.send(members(start).as_str()).await
    }
}

/// Waits for the pace before an event, or executes the fault in its place.
pub(super) async fn pause(directions: &Directions, sent: u64) -> io::Result<()> {
    if !directions.pace.is_zero() && sent > 0 {
        tokio::time::sleep(directions.pace).await;
    }
    match directions.fault {
        Some(fault) if fault.at.is_some_and(|at| at.events == sent) => match fault.kind {
            FaultKind::Silence => std::future::pending().await,
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        },
        _ => Ok(()),
    }
}

fn response(id: &str, status: &str, output: &[Json], usage: Option<Json>) -> Json {
    object! {
        "object": "realtime.response", "id": id, "status": status, "status_details": (), "output": output,
        "conversation_id": "conv_simulator", "output_modalities": [Json::raw("\"text\"")], "max_output_tokens": "inf",
        "usage": usage, "metadata": (),
    }
}

fn item(id: &str, status: &str, text: Option<&str>) -> Json {
    let content: Vec<_> = text.map(part).into_iter().collect();
    object! { "id": id, "type": "message", "status": status, "role": "assistant", "content": content }
}

fn part(text: &str) -> Json {
    object! { "type": "output_text", "text": text }
}
