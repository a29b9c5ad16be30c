//! One request answered.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::ask::Ask;
use super::body::{Answer, Broken, Stream, ending, nanoseconds};
use super::content::{self, Part};
use super::directions::{Directions, FaultKind};
use super::error::Failure;
use super::place::{Dialect, Place};
use super::plain;
use super::play::Play;
use super::reel::Plot;
use super::script::{Facts, Script};
use super::shapes::Kind;
use super::tally::{Tally, Tokens};
use super::wire::Order;

/// The largest request body that is read.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// The largest body of which all members are looked at.
const MAX_DETAILED_BYTES: usize = 8 * 1024 * 1024;

/// The header with directions.
const DIRECTIONS: &str = "x-simulate";

/// What all threads share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) api_key: Option<String>,
    pub(super) tally: Arc<Tally>,
}

/// Answers one request. `order` is the connection's.
pub(super) async fn answer(
    shared: Arc<Shared>,
    order: Order,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path();
    if path == "/simulator/tally" {
        return Ok(json(&shared.tally.as_json()));
    }
    let number = shared.tally.request();
    let dialect = Dialect::of(path);
    let exchange = Exchange { shared, order, number };
    let (parts, body) = request.into_parts();
    let mut response = exchange.run(&parts, body).await.unwrap_or_else(|failure| refuse(&failure, dialect));
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

/// What answering one request needs.
struct Exchange {
    shared: Arc<Shared>,
    order: Order,
    /// Of all requests, this one's.
    number: u64,
}

/// What a request can be for.
#[derive(Clone, Copy, Debug)]
enum Task<'a> {
    Echo,
    Models,
    Model(&'a str),
    Embeddings,
    Text(Kind),
    /// How many tokens a request would have; its answer's form.
    Count(Kind),
}

impl<'a> Task<'a> {
    fn of(method: &Method, endpoint: &'a str) -> Option<Self> {
        match (method, endpoint) {
            (_, "simulator/echo") => Some(Self::Echo),
            (&Method::GET, "models") => Some(Self::Models),
            (&Method::GET, _) => endpoint.strip_prefix("models/").map(Self::Model),
            (&Method::POST, "embeddings") => Some(Self::Embeddings),
            (&Method::POST, "responses/input_tokens") => Some(Self::Count(Kind::Responses)),
            (&Method::POST, "messages/count_tokens") => Some(Self::Count(Kind::Messages)),
            (&Method::POST, _) => Kind::of(endpoint).map(Self::Text),
            _ => None,
        }
    }
}

impl Exchange {
    async fn run(&self, parts: &Parts, body: Incoming) -> Result<Response<Answer>, Failure> {
        let path = parts.uri.path();
        let found = Place::of(path, parts.uri.query()).and_then(|place| {
            let task = Task::of(&parts.method, place.endpoint)?;
            Some((place, task))
        });
        let (place, task) = found.ok_or_else(|| Failure::not_found(&parts.method, path))?;
        self.check_key(&parts.headers)?;
        let body = read(body).await?;
        let ask = match task {
            Task::Echo => return Ok(json(&plain::echo(parts, &body))),
            Task::Models | Task::Model(_) => Ask::without_body(),
            Task::Embeddings | Task::Text(_) | Task::Count(_) => parse(&body)?,
        };
        let (model, directions) = directions(&parts.headers, &place, &ask)?;
        self.misbehave(&directions, &ask, &model).await?;
        match task {
            Task::Models => Ok(self.whole(plain::models().to_string(), &directions, place.dialect)),
            Task::Model(id) => Ok(self.whole(plain::one_model(id)?.to_string(), &directions, place.dialect)),
            Task::Embeddings => {
                let body = plain::embeddings(&ask, &escaped(&model))?;
                self.report(&directions, Tokens { input: ask.input_tokens(), output: 0 });
                Ok(self.whole(body, &directions, place.dialect))
            }
            Task::Count(kind) => {
                let body = plain::count(kind, ask.input_tokens());
                Ok(self.whole(body.into_string(), &directions, place.dialect))
            }
            Task::Text(kind) => self.text(kind, place.dialect, &ask, &body, &model, directions),
            Task::Echo => unreachable!("answered above"),
        }
    }

    fn text(
        &self,
        kind: Kind,
        dialect: Dialect,
        ask: &Ask,
        body: &[u8],
        model: &str,
        directions: Directions,
    ) -> Result<Response<Answer>, Failure> {
        check_stream_options(kind, ask)?;
        if !ask.stream() || kind == Kind::Responses {
            directions.fits_in_memory().map_err(|message| Failure::directions(&message))?;
        }
        let include_usage =
            ask.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true));
        let now = nanoseconds();
        let input_tokens = ask.input_tokens();
        let facts =
            Facts { id: self.number, created: now / 1_000_000_000, model: escaped(model), input_tokens };
        let play = match content(kind, ask, body, &directions)? {
            Some(parts) => {
                Play::Reel(Plot::new(kind, dialect, directions, include_usage, facts, parts).reel(kind))
            }
            None => Play::Script(Script::new(kind, dialect, directions, include_usage, facts)),
        };
        if ask.stream() {
            let stream = Stream::new(play, Arc::clone(&self.shared.tally), self.order.clone());
            let mut response = Response::new(Answer::Stream(Box::new(stream)));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            return Ok(response);
        }
        let mut body = BytesMut::with_capacity(2048);
        if let Some(tokens) = play.write_whole(play.directions().stamp.then_some(now), &mut body) {
            self.report(play.directions(), tokens);
        }
        Ok(self.whole(body, play.directions(), dialect))
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(key) = &self.shared.api_key else { return Ok(()) };
        let bearer =
            headers.get(AUTHORIZATION).map(|value| value.as_bytes().strip_prefix(b"Bearer ").unwrap_or(b""));
        let named = headers.get("api-key").or_else(|| headers.get("x-api-key"));
        let given = named.map(HeaderValue::as_bytes).or(bearer);
        if given == Some(key.as_bytes()) { Ok(()) } else { Err(Failure::wrong_key(given.is_some())) }
    }

    /// What comes before the response headers: the delay, the faults, the other status.
    async fn misbehave(&self, directions: &Directions, ask: &Ask, model: &str) -> Result<(), Failure> {
        if !directions.delay.is_zero() {
            tokio::time::sleep(directions.delay).await;
        }
        if let Some(fault) =
            directions.fault.filter(|fault| fault.at.is_none() && fault.kind != FaultKind::Error)
        {
            if let Some(ending) = ending(fault.kind) {
                self.order.give(ending);
            }
            // Until the connection ends, or the other side has had enough.
            pending::<()>().await;
        }
        if let Some(status) = directions.reject.filter(|_| ask.stream_options.is_some()) {
            return Err(Failure::rejected_stream_options(status));
        }
        if directions.status == 200 { Ok(()) } else { Err(Failure::with_status(directions.status, model)) }
    }

    /// An answer that is not streamed, with the fault that was ordered.
    fn whole(&self, body: impl Into<Bytes>, directions: &Directions, dialect: Dialect) -> Response<Answer> {
        let body = body.into();
        match directions.fault {
            None => answered(Answer::Whole(Some(body))),
            Some(fault) if fault.kind == FaultKind::Error => {
                let mut response = refuse(&Failure::with_status(500, ""), dialect);
                *response.status_mut() = StatusCode::OK;
                response
            }
            Some(fault) => {
                let at = fault.at.map_or(0, |at| at.events).min(body.len() as u64) as usize;
                let start = Some(body.slice(..at));
                let length = body.len() as u64;
                answered(Answer::Broken(Broken {
                    start,
                    length,
                    fault: fault.kind,
                    order: self.order.clone(),
                }))
            }
        }
    }

    /// Counts what an unstreamed answer reports. One that does not arrive whole reports nothing.
    fn report(&self, directions: &Directions, tokens: Tokens) {
        if directions.fault.is_none() {
            self.shared.tally.report(None, tokens);
        }
    }
}

async fn read(body: Incoming) -> Result<Bytes, Failure> {
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| Failure::invalid(format!("The body could not be read: {error}")))?;
    Ok(body.to_bytes())
}

fn parse(body: &[u8]) -> Result<Ask, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::invalid(format!("We could not parse the JSON body of your request: {error}"))
    })
}

/// What the answer consists of, where that is not the sentence.
fn content(
    kind: Kind,
    ask: &Ask,
    body: &[u8],
    directions: &Directions,
) -> Result<Option<Vec<Part>>, Failure> {
    if !ask.may_want_content() {
        return Ok(None);
    }
    if body.len() > MAX_DETAILED_BYTES {
        return Err(Failure::invalid(format!("With tools a body may have {MAX_DETAILED_BYTES} bytes.")));
    }
    let body = serde_json::from_slice(body).map_err(|error| Failure::invalid(error.to_string()))?;
    content::of(kind, &body, directions)
}

/// The model that answers, and how. The deployment's name stands for the body's model, as it does at Azure.
fn directions(headers: &HeaderMap, place: &Place<'_>, ask: &Ask) -> Result<(String, Directions), Failure> {
    let name = place.deployment.as_deref().or(ask.model.as_deref());
    let name = name.ok_or_else(|| Failure::parameter("model", None, "you must provide a model parameter"))?;
    // Names of fine-tuned models have colons too, but no `=`.
    let said = name.split_once(':').filter(|(_, directions)| directions.contains('='));
    let (model, in_model) = said.unwrap_or((name, ""));
    let mut directions = Directions::default();
    directions.add(in_model).map_err(|message| Failure::directions(&message))?;
    for value in headers.get_all(DIRECTIONS) {
        let text = value.to_str().map_err(|_| Failure::directions("expected ASCII"))?;
        directions.add(text).map_err(|message| Failure::directions(&message))?;
    }
    Ok((model.to_owned(), directions))
}

/// What the services refuse. A proxy that asks for usage on its client's behalf must not run into these.
fn check_stream_options(kind: Kind, ask: &Ask) -> Result<(), Failure> {
    let Some(options) = &ask.stream_options else { return Ok(()) };
    if !ask.stream() {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Failure::parameter("stream_options", None, message));
    }
    if kind == Kind::Responses && options.include_usage.is_some() {
        let message = "Unknown parameter: 'stream_options.include_usage'.";
        return Err(Failure::parameter("stream_options.include_usage", Some("unknown_parameter"), message));
    }
    Ok(())
}

/// A model's name as it stands between quotes in JSON.
fn escaped(model: &str) -> String {
    let quoted = serde_json::to_string(model).expect("a string is always JSON");
    quoted[1..quoted.len() - 1].to_owned()
}

fn refuse(failure: &Failure, dialect: Dialect) -> Response<Answer> {
    let mut response = json(&failure.as_json(dialect));
    *response.status_mut() = failure.status;
    failure.add_headers(response.headers_mut());
    response
}

fn json(value: &Value) -> Response<Answer> {
    answered(Answer::Whole(Some(value.to_string().into())))
}

fn answered(body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn request_id(number: u64) -> HeaderValue {
    HeaderValue::try_from(format!("req_{number:032x}")).expect("hexadecimal digits are a header value")
}
