//! Responds to one request.

use std::convert::Infallible;
use std::fs::File;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde_json::Value;

use super::account::Account;
use super::ask::Ask;
use super::body::{Broken, SimulatorBody, Stream, ending, nanoseconds};
use super::content::Part;
use super::conversations::Conversations;
use super::directions::{Directions, FaultKind};
use super::error::Failure;
use super::files::Files;
use super::form::Form;
use super::ordered::Json;
use super::place::{Dialect, Place};
use super::plain;
use super::play::Play;
use super::reel::Plot;
use super::script::{Facts, Script};
use super::shapes::Kind;
use super::stored::Responses;
use super::tally::{Running, Tally, Tokens};
use super::task::Task;
use super::text;
use super::wire::Order;
use request::{ask, check_stream_options, content, directions, read};

mod media;
mod request;
mod sessions;
mod stores;

/// The state that all threads share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    api_key: Option<String>,
    account: Account,
    tally: Arc<Tally>,
    files: Mutex<Files>,
    responses: Mutex<Responses>,
    conversations: Mutex<Conversations>,
}

impl Shared {
    /// `api_key`: the key that requests must have.
    pub(super) fn new(api_key: Option<String>) -> Self {
        Self { api_key, ..Self::default() }
    }

    pub(super) fn set_account(&mut self, name: &str) {
        self.account = Account::new(name);
    }

    pub(super) fn append_executions_to(&self, file: File) {
        self.tally.append_to(file);
    }

    /// No code can panic with half-changed files: each change is one step.
    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn conversations(&self) -> MutexGuard<'_, Conversations> {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn responses(&self) -> MutexGuard<'_, Responses> {
        self.responses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Responds to one request. `order` controls the connection.
pub(super) async fn respond(
    shared: Arc<Shared>,
    order: Order,
    mut request: Request<Incoming>,
) -> Result<Response<SimulatorBody>, Infallible> {
    let path = request.uri().path();
    if path == "/simulator/tally" {
        return Ok(json(&shared.tally.as_json()));
    }
    if path == "/simulator/executions" {
        return Ok(json(&shared.tally.executions()));
    }
    if path == "/simulator/running" {
        return Ok(json(&shared.tally.running()));
    }
    if let Some(id) = request.headers().get("x-simulate-id").and_then(|id| id.to_str().ok()) {
        shared.tally.execute(id);
    }
    let number = shared.account.number(shared.tally.request());
    let dialect = Dialect::of(path);
    let running = Running::begin(&shared.tally);
    let exchange = Exchange { shared, order, number, running };
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, body) = request.into_parts();
    let response = exchange.run(&parts, body, upgrade).await;
    let mut response = response.unwrap_or_else(|failure| refuse(&failure, dialect));
    let headers = response.headers_mut();
    let id = if dialect == Dialect::Anthropic { "request-id" } else { "x-request-id" };
    headers.insert(id, request_id(number));
    match dialect {
        Dialect::OpenAi => headers.insert("openai-version", HeaderValue::from_static("2020-10-01")),
        Dialect::Azure => headers.insert("x-ms-region", HeaderValue::from_static("Simulator")),
        Dialect::Anthropic => None,
    };
    Ok(response)
}

/// The context of one request.
struct Exchange {
    shared: Arc<Shared>,
    order: Order,
    /// The number of this request among all.
    number: u64,
    running: Arc<Running>,
}

/// A parsed request.
struct Asked {
    dialect: Dialect,
    /// The name without directions.
    model: String,
    directions: Directions,
    ask: Ask,
    form: Option<Form>,
    body: Bytes,
}

/// Adds the utilisation of a provisioned deployment, in percent.
fn utilized(mut response: Response<SimulatorBody>, utilization: Option<u8>) -> Response<SimulatorBody> {
    if let Some(percent) = utilization {
        let value = HeaderValue::from_str(&format!("{percent}%")).expect("digits are a header value");
        response.headers_mut().insert("azure-openai-deployment-utilization", value);
    }
    response
}

/// A response that is not streamed.
struct Made {
    content_type: &'static str,
    body: Bytes,
    tokens: Option<Tokens>,
}

impl Made {
    fn json(body: impl Into<Bytes>) -> Self {
        Self { content_type: "application/json", body: body.into(), tokens: None }
    }

    fn reporting(self, tokens: Option<Tokens>) -> Self {
        Self { tokens, ..self }
    }
}

impl From<Json> for Made {
    fn from(json: Json) -> Self {
        Self::json(json.into_string())
    }
}

impl Exchange {
    async fn run(
        &self,
        parts: &Parts,
        body: Incoming,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<SimulatorBody>, Failure> {
        let path = parts.uri.path();
        let found = Place::of(path, parts.uri.query()).and_then(|place| {
            let task = Task::of(&parts.method, place.endpoint)?;
            Some((place, task))
        });
        let (place, task) = found.ok_or_else(|| Failure::not_found(&parts.method, path))?;
        self.check_key(&parts.headers)?;
        if let Task::Session(session) = task {
            return self.session(session, &place, parts, upgrade);
        }
        let body = read(body).await?;
        if task == Task::Echo {
            return Ok(json(&plain::echo(parts, &body)));
        }
        let (ask, form) = ask(task, &parts.headers, &body)?;
        let (model, directions) = directions(&parts.headers, &place, &ask)?;
        self.misbehave(&directions, &ask, &model).await?;
        let asked = Asked { dialect: place.dialect, model, directions, ask, form, body };
        let made = match task {
            Task::Models => Made::json(plain::models().to_string()),
            Task::Model(id) => Made::json(plain::one_model(id)?.to_string()),
            Task::Embeddings => {
                let tokens = Tokens { input: asked.ask.input_tokens(), output: 0 };
                Made::json(plain::embeddings(&asked.ask, &escaped(&asked.model))?).reporting(Some(tokens))
            }
            Task::Moderations => self.moderation(&asked)?,
            Task::Count(kind) => plain::count(kind, asked.ask.input_tokens()).into(),
            Task::Text(kind) => {
                let utilization = asked.directions.utilization;
                return self.text(kind, asked).map(|response| utilized(response, utilization));
            }
            Task::Speech => return self.speech(asked),
            Task::Transcription { is_translation } => return self.transcription(is_translation, asked),
            Task::Image { is_edit } => return self.image(is_edit, asked),
            Task::Files(task) => self.file(task, &asked)?,
            Task::NewConversation => self.new_conversation(&asked)?,
            Task::Conversation(task, id) => self.conversation(task, id, &asked)?,
            Task::Response(task, id) => return self.stored(task, id, parts.uri.query(), &asked),
            Task::Echo | Task::Session(_) => unreachable!("handled above"),
        };
        Ok(self.whole(made, &asked.directions, asked.dialect))
    }

    fn text(&self, kind: Kind, asked: Asked) -> Result<Response<SimulatorBody>, Failure> {
        let (dialect, is_stream) = (asked.dialect, asked.ask.stream());
        let is_stored = kind == Kind::Responses && asked.ask.store != Some(false);
        let background = asked.ask.background.filter(|background| *background && is_stored);
        let play =
            Arc::new(self.play(kind, dialect, &asked.ask, &asked.body, &asked.model, asked.directions)?);
        let directions = play.directions();
        if let Some(id) = asked.ask.conversation().filter(|_| kind == Kind::Responses) {
            self.add_turn(id, &asked.body, &play)?;
        }
        if is_stored {
            let time = directions.pace.saturating_mul(u32::try_from(directions.events).unwrap_or(u32::MAX));
            let time = background.filter(|_| !is_stream).map(|_| time);
            self.shared.responses().insert(self.number, Arc::clone(&play), &asked.body, time);
        }
        if is_stream {
            return Ok(self.stream(Stream::new(play, Arc::clone(&self.shared.tally), self.order.clone())));
        }
        if background.is_some() {
            return Ok(self.whole(Made::json(super::stored::queued(&play)), directions, dialect));
        }
        let mut body = BytesMut::with_capacity(2048);
        let tokens = play.write_whole(directions.stamp.then(nanoseconds), &mut body);
        Ok(self.whole(Made::json(body).reporting(tokens), directions, dialect))
    }

    /// The response to a request for text.
    fn play(
        &self,
        kind: Kind,
        dialect: Dialect,
        ask: &Ask,
        body: &[u8],
        model: &str,
        directions: Directions,
    ) -> Result<Play, Failure> {
        check_stream_options(kind, ask)?;
        let account = self.shared.account;
        let detailed = if account.is_named() { request::detailed(body)? } else { Value::Null };
        account.check(&detailed)?;
        if !ask.stream() || kind == Kind::Responses {
            directions.fits_in_memory().map_err(|message| Failure::directions(&message))?;
        }
        let include_usage =
            ask.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true));
        let created = nanoseconds() / 1_000_000_000;
        let is_warm_up = ask.generate == Some(false);
        let input_tokens = if is_warm_up { 0 } else { ask.input_tokens() };
        let facts = Facts { id: self.number, created, model: escaped(model), input_tokens };
        let mut parts = if is_warm_up { Some(Vec::new()) } else { content(kind, ask, body, &directions)? };
        if kind == Kind::Responses && includes_encrypted(&detailed) {
            parts.get_or_insert_with(|| vec![Part::Text(text::sentence())]);
        }
        let encrypted = includes_encrypted(&detailed).then(|| account.encrypted(self.number));
        Ok(match parts {
            Some(parts) => {
                let mut plot = Plot::new(kind, dialect, directions, include_usage, facts, parts);
                plot.encrypted = encrypted;
                Play::Reel(plot.reel(kind))
            }
            None => Play::Script(Script::new(kind, dialect, directions, include_usage, facts)),
        })
    }

    fn stream(&self, stream: Stream) -> Response<SimulatorBody> {
        let stream = stream.running(Arc::clone(&self.running));
        let mut response = Response::new(SimulatorBody::Stream(Box::new(stream)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(key) = &self.shared.api_key else { return Ok(()) };
        let bearer =
            headers.get(AUTHORIZATION).map(|value| value.as_bytes().strip_prefix(b"Bearer ").unwrap_or(b""));
        let named = headers.get("api-key").or_else(|| headers.get("x-api-key"));
        let given = named.map(HeaderValue::as_bytes).or(bearer);
        if given == Some(key.as_bytes()) { Ok(()) } else { Err(Failure::wrong_key(given.is_some())) }
    }

    /// Applies the directions that act before the response headers: the delay, the faults, the
    /// other status.
    async fn misbehave(&self, directions: &Directions, ask: &Ask, model: &str) -> Result<(), Failure> {
        let delay = directions.delay_of_one();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Some(fault) =
            directions.fault.filter(|fault| fault.at.is_none() && fault.kind != FaultKind::Error)
        {
            if let Some(ending) = ending(fault.kind) {
                self.order.give(ending);
            }
            // Until the connection ends, or the client gives up.
            pending::<()>().await;
        }
        if let Some(status) = directions.reject.filter(|_| ask.stream_options.is_some()) {
            return Err(Failure::rejected_stream_options(status));
        }
        let Directions { status, limit, after, .. } = *directions;
        if status == 200 { Ok(()) } else { Err(Failure::with_status(status, model).limited(limit, after)) }
    }

    /// A response that is not streamed, with the fault in the directions. Its usage is counted if
    /// it arrives whole.
    fn whole(&self, made: Made, directions: &Directions, dialect: Dialect) -> Response<SimulatorBody> {
        let Made { content_type, body, tokens } = made;
        let response = match directions.fault {
            None => {
                if let Some(tokens) = tokens {
                    self.shared.tally.report(None, tokens);
                }
                SimulatorBody::Whole(Some(body))
            }
            Some(fault) if fault.kind == FaultKind::Error => {
                let mut response = refuse(&Failure::with_status(500, ""), dialect);
                *response.status_mut() = StatusCode::OK;
                return response;
            }
            Some(fault) => {
                let at = fault.at.map_or(0, |at| at.events).min(body.len() as u64) as usize;
                let (start, length) = (Some(body.slice(..at)), body.len() as u64);
                SimulatorBody::Broken(Broken { start, length, fault: fault.kind, order: self.order.clone() })
            }
        };
        let mut response = ok(response);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

/// Returns true if the request asks for encrypted reasoning.
fn includes_encrypted(body: &Value) -> bool {
    let mut included = body["include"].as_array().into_iter().flatten();
    included.any(|name| name == "reasoning.encrypted_content")
}

/// A model's name, escaped for JSON, without quotes.
fn escaped(model: &str) -> String {
    let quoted = serde_json::to_string(model).expect("a string is always JSON");
    quoted[1..quoted.len() - 1].to_owned()
}

fn refuse(failure: &Failure, dialect: Dialect) -> Response<SimulatorBody> {
    let mut response = json(&failure.as_json(dialect));
    *response.status_mut() = failure.status;
    failure.add_headers(response.headers_mut());
    response
}

fn json(value: &Value) -> Response<SimulatorBody> {
    ok(SimulatorBody::Whole(Some(value.to_string().into())))
}

fn ok(body: SimulatorBody) -> Response<SimulatorBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn request_id(number: u64) -> HeaderValue {
    HeaderValue::try_from(format!("req_{number:032x}")).expect("hexadecimal digits are a header value")
}
