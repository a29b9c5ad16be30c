//! The stations on a request's way, in their order.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Version, header};
use http_body::Body as _;

use super::asking;
use super::budget::{Budget, Reserved};
use super::client_body::Passing;
use super::plan::{Plan, Service};
use crate::auth::{Clients, Unauthorized};
use crate::browser::Admission;
use crate::coding::Codings;
use crate::config::OnDisconnect;
use crate::error::{Error, Result};
use crate::estimate::Shape;
use crate::h1::Upload;
use crate::h1::server::MAX_REQUEST_HEADERS;
use crate::listener::{ClientCertificate, RequestBody};
use crate::provider::{Endpoint, Inbound, IncludeUsage, TargetError, query_model};
use crate::record::Entry;
use crate::rewrite::body::{
    Edited, Peek, Splice, ask_for_usage, is_utf16_or_32, peek, set_model, without_bom,
};
use crate::rewrite::upgrade::Upgrade;
use crate::upstream::{Answer, Call, Payload, Upstream};

/// In which a client says what becomes of its answer when it leaves. As all headers of this proxy's own, it is not forwarded.
static ON_DISCONNECT_HEADER: HeaderName = HeaderName::from_static("x-streamgauge-on-disconnect");

/// A request whose head is here.
pub(super) struct Arrived {
    /// Boxed, as it goes from station to station, and a request's future keeps room for it at each.
    parts: Box<Parts>,
    body: RequestBody,
}

impl Arrived {
    pub(super) fn new(request: Request<RequestBody>) -> Self {
        let (parts, body) = request.into_parts();
        Self { parts: Box::new(parts), body }
    }

    /// Refuses, before the key is looked at, the methods that are for proxies of another kind, and what `admission` does
    /// not let in.
    pub(super) fn check_head(self, admission: &Admission) -> Result<Self> {
        let Parts { method, version, uri, headers, .. } = &*self.parts;
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Err(Error::MethodNotAllowed(method.to_string()));
        }
        // HTTP/1.1's parser has counted already.
        if headers.len() > MAX_REQUEST_HEADERS {
            return Err(Error::HeadTooLarge);
        }
        admission.check(*version, uri, headers)?;
        Ok(self)
    }

    pub(super) fn authenticate(self, clients: &Clients, entry: &mut Entry) -> Result<Known> {
        let certificate = self.parts.extensions.get::<ClientCertificate>();
        match (clients.authenticate(&self.parts.headers), certificate) {
            (Ok(Some(client)), _) => entry.row().client = client,
            // A verified certificate is as good as a key. SDKs send some key in any case, so an unknown one beside it is
            // not held against the client.
            (_, Some(ClientCertificate(name))) => entry.row().client = Arc::clone(name),
            (Ok(None), None) => {}
            (Err(Unauthorized::Missing), None) => return Err(Error::KeyMissing),
            (Err(Unauthorized::Unknown), None) => return Err(Error::KeyUnknown),
        }
        entry.admit();
        Ok(Known(self))
    }
}

/// A request that may be served.
pub(super) struct Known(Arrived);

impl Known {
    /// Reads the body if anything in it is needed: the model, for the route or the deployment or to edit it, and what the
    /// record says of it. Any other body comes back as it is, to pass through.
    pub(super) async fn hold(self, plan: &Plan, entry: &mut Entry) -> Result<(Held, Body)> {
        let Arrived { mut parts, body } = self.0;
        let upgrade = Upgrade::take(&parts.method, parts.version, &mut parts.headers);
        let query_model = query_model(parts.uri.path(), parts.uri.query());
        let limits = &plan.bodies;
        limits.check_length(&body)?;
        let _head = reserve_head(&parts, &limits.budget, &entry.row().client)?;
        if body.is_end_stream() {
            let nothing = if has_length(&parts) { Body::Held } else { Body::None };
            return Ok((
                Held { parts, bytes: Bytes::new(), upgrade, query_model, _reserved: None, _head },
                nothing,
            ));
        }
        if !needs_look(&parts, plan) {
            let length = body.size_hint().exact();
            let passing = Passing::new(body, limits.clone(), entry.count_upload());
            return Ok((
                Held { parts, bytes: Bytes::new(), upgrade, query_model, _reserved: None, _head },
                Body::Passing(passing, length),
            ));
        }
        let client = Arc::clone(&entry.row().client);
        let (bytes, reserved) = limits.hold(body, &client).await?;
        entry.row().request_bytes = bytes.len() as u64;
        Ok((Held { parts, bytes, upgrade, query_model, _reserved: Some(reserved), _head }, Body::Held))
    }
}

/// Takes the room of a head out of the budget where one connection may have many of them. Over HTTP/1.1 it has one, and
/// `server.max_connections` is their bound.
fn reserve_head(parts: &Parts, budget: &Budget, client: &Arc<str>) -> Result<Option<Box<Reserved>>> {
    if parts.version != Version::HTTP_2 {
        return Ok(None);
    }
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let target = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
    let mut reserved = Box::new(budget.reserve());
    reserved.grow_to(target + fields.sum::<usize>(), client)?;
    Ok(Some(reserved))
}

/// Where a request's body is.
pub(super) enum Body {
    /// The request has none.
    None,
    /// In the [`Held`] request; it may be empty.
    Held,
    /// Still with the client; its length, if it was declared.
    Passing(Passing, Option<u64>),
}

/// Whether the client spoke of a body's length, be it 0.
fn has_length(parts: &Parts) -> bool {
    parts.headers.contains_key(header::CONTENT_LENGTH)
}

/// Whether the proxy has to look into the body: where its endpoint takes JSON, as servers parse it whatever its type is said to
/// be, and where routes need the model and it could be JSON. What has a content coding passes unread.
fn needs_look(parts: &Parts, plan: &Plan) -> bool {
    let path = parts.uri.path();
    let takes_json =
        || plan.routes.find(path, None).is_some_and(|found| Endpoint::of(found.rest).takes_json_model());
    Codings::of(&parts.headers) == Codings::Identity
        && ((plan.routes.needs_model(path) && may_be_json(&parts.headers)) || takes_json())
}

/// Whether one of the types that are said of a body could be JSON: of several, servers take either. Curl says
/// `application/x-www-form-urlencoded` of what it is not told of.
fn may_be_json(headers: &HeaderMap) -> bool {
    let is_other = |media_type: &[u8]| {
        ["multipart/", "audio/", "image/", "video/", "application/octet-stream"].iter().any(|other| {
            media_type.get(..other.len()).is_some_and(|start| start.eq_ignore_ascii_case(other.as_bytes()))
        })
    };
    let mut said = headers.get_all(header::CONTENT_TYPE).iter().peekable();
    said.peek().is_none() || said.any(|media_type| !is_other(media_type.as_bytes()))
}

/// A request whose body is here as far as it is needed.
pub(super) struct Held {
    parts: Box<Parts>,
    bytes: Bytes,
    /// The client wishes for a WebSocket.
    upgrade: Option<Upgrade>,
    /// The model, where the query names it.
    query_model: Option<String>,
    /// Gives the body's place in the budget back when the request has been sent.
    _reserved: Option<Reserved>,
    /// The same of the head.
    _head: Option<Box<Reserved>>,
}

impl Held {
    pub(super) fn route<'a>(&'a self, plan: &'a Plan, entry: &mut Entry) -> Result<Routed<'a>> {
        let path = self.parts.uri.path();
        // What is no JSON object passes untouched where nothing in it is needed.
        let peek = peek(&self.bytes).ok();
        let model = peek.as_ref().and_then(|peek| peek.model.as_deref()).or(self.query_model.as_deref());
        let row = entry.row();
        row.model_requested = model.map(Into::into);
        if let Some(peek) = &peek {
            row.stream = peek.stream;
            row.user = peek.user.as_deref().map(Into::into);
        }

        let by_model = plan.routes.needs_model(path);
        let Some(found) = plan.routes.find(path, model) else {
            let model = model.filter(|_| by_model).map(str::to_owned);
            return Err(Error::NoRoute { path: path.to_owned(), model });
        };
        let service = &plan.services[found.upstream];
        let inbound = Inbound { path: found.rest, query: self.parts.uri.query() };
        row.upstream = Some(service.name.clone());
        row.provider = Some(service.provider);
        let endpoint = Endpoint::of(inbound.path);
        row.endpoint = Some(endpoint.name.into());
        if endpoint.takes_json_model() && is_utf16_or_32(&self.bytes) {
            return Err(Error::BodyNotUtf8);
        }
        // What is asked for later (`GET`) was counted when it was made.
        if let Some(shape) = Shape::of(endpoint.name).filter(|_| asking::may_create(&self.parts.method)) {
            entry.may_be_estimated(shape, &without_bom(&self.bytes));
        }

        if peek.as_ref().is_some_and(|peek| peek.model_is_duplicate) {
            let decides = by_model
                || service.dialect.needs_model(&inbound)
                || model != service.model(model)
                || model.is_some_and(|model| service.dialect.body_model(&inbound, model) != model);
            if decides {
                return Err(Error::ModelAmbiguous);
            }
        }
        Ok(Routed { held: self, peek, service, upstream: found.upstream, inbound })
    }
}

/// A request of which it is known where it goes.
pub(super) struct Routed<'a> {
    held: &'a Held,
    /// What the body says, if it is a JSON object.
    peek: Option<Peek<'a>>,
    service: &'a Service,
    /// The service's place among the upstreams.
    upstream: usize,
    inbound: Inbound<'a>,
}

impl Routed<'_> {
    /// Writes the request as the upstream is to get it.
    pub(super) fn rewrite(self, body: Body, entry: &Entry) -> Result<Ready> {
        let Self { held, peek, service, upstream, inbound } = self;
        let parts = &held.parts;
        let asked = peek.as_ref().and_then(|peek| peek.model.as_deref()).or(held.query_model.as_deref());
        let model = service.model(asked);
        let target = service.dialect.target(&inbound, model).map_err(|error| match error {
            TargetError::UnknownPath => Error::UnknownPath(parts.uri.path().to_owned()),
            TargetError::UnsafePath => Error::UnsafePath,
            TargetError::ModelRequired => Error::ModelRequired { upstream: service.name.to_string() },
        })?;

        let mut asks_for_usage = false;
        let mut unasked = None;
        let (payload, framing) = match body {
            Body::None => (Payload::Held(Vec::new()), Upload::None),
            Body::Held => {
                let model_edit =
                    peek.as_ref().and_then(|peek| edit_model(&held.bytes, peek, model, service, &inbound));
                let asking = peek
                    .as_ref()
                    .filter(|peek| asking::may_ask(service, &parts.method, &inbound, peek))
                    .filter(|_| asking::takes_identity(&parts.headers))
                    .and_then(|peek| ask_for_usage(&held.bytes, peek));
                asks_for_usage = asking.is_some();
                if asks_for_usage && service.include_usage == IncludeUsage::Auto {
                    let of = asking::asked_of(&inbound, model);
                    let plain = || Edited::new(&held.bytes, [model_edit.clone()]).into_pieces();
                    asks_for_usage = !service.refusals.has(of, Instant::now());
                    unasked = asks_for_usage.then(|| Unasked {
                        of: of.into(),
                        target: target.clone(),
                        pieces: plain(),
                    });
                }
                held_payload(
                    Edited::new(&held.bytes, [model_edit, asking.filter(|_| asks_for_usage)]).into_pieces(),
                )
            }
            Body::Passing(passing, length) => {
                let payload = Payload::Streamed { body: Box::pin(passing), chunked: length.is_none() };
                (payload, length.map_or(Upload::Chunked, Upload::Length))
            }
        };
        let is_stream = peek.as_ref().is_some_and(|peek| peek.stream);
        let keep_alive = service.keep_alive_comments.filter(|_| is_stream);
        let is_streamed = is_stream || held.upgrade.is_some() || asking::asks_for_stream(&inbound);
        let on_disconnect = on_disconnect(&parts.headers)?.unwrap_or(service.on_disconnect);
        // A session without its client has nobody who would end it.
        let on_disconnect = if held.upgrade.is_some() { OnDisconnect::Cancel } else { on_disconnect };
        let started = entry.started();
        Ok(Ready {
            target,
            framing,
            payload,
            asks_for_usage,
            unasked,
            is_streamed,
            started,
            upstream,
            keep_alive,
            on_disconnect,
        })
    }
}

/// What the client wants to become of its answer when it leaves, if it says so.
fn on_disconnect(headers: &HeaderMap) -> Result<Option<OnDisconnect>> {
    let Some(value) = headers.get(&ON_DISCONNECT_HEADER) else { return Ok(None) };
    match value.to_str().ok().and_then(OnDisconnect::parse) {
        Some(on_disconnect) => Ok(Some(on_disconnect)),
        None => Err(Error::HeaderValue { name: ON_DISCONNECT_HEADER.as_str(), values: OnDisconnect::VALUES }),
    }
}

/// Another model for the body, where the upstream must see another: a default, an alias, or a deployment that the URL does
/// not name. Otherwise, and where it has no `model` to edit, the body stays as it is.
fn edit_model(
    bytes: &Bytes,
    peek: &Peek<'_>,
    model: Option<&str>,
    service: &Service,
    inbound: &Inbound<'_>,
) -> Option<Splice> {
    // An Azure SDK's own paths name the deployment, and so does a URL that was made of the model.
    let elsewhere = !inbound.path.starts_with("/v1/") || service.dialect.needs_model(inbound);
    if elsewhere || !Endpoint::of(inbound.path).takes_json_model() {
        return None;
    }
    let model = service.dialect.body_model(inbound, model?);
    if peek.model.as_deref() == Some(model) { None } else { set_model(bytes, peek, model) }
}

fn held_payload(pieces: Vec<Bytes>) -> (Payload, Upload) {
    let length = pieces.iter().map(Bytes::len).sum::<usize>();
    (Payload::Held(pieces), Upload::Length(length as u64))
}

/// A request as its upstream is to get it.
pub(super) struct Ready {
    target: String,
    framing: Upload,
    payload: Payload,
    /// It asks for usage where the client did not.
    asks_for_usage: bool,
    /// The same without, for an upstream that refuses it.
    unasked: Option<Unasked>,
    is_streamed: bool,
    started: Instant,
    /// The service's place among the upstreams.
    pub(super) upstream: usize,
    /// How long the client of a stream may be left without a word.
    pub(super) keep_alive: Option<Duration>,
    /// What becomes of its answer when the client leaves.
    pub(super) on_disconnect: OnDisconnect,
}

/// A request that does not ask for usage, to be sent if the one that does is refused.
struct Unasked {
    /// What the refusal is remembered for.
    of: Box<str>,
    target: String,
    pieces: Vec<Bytes>,
}

/// An upstream's answer, on its way to a client.
pub(super) struct Answered {
    pub(super) answer: Answer,
    /// Usage was asked for in the client's place: what comes of it is not for the client.
    pub(super) asked_for_usage: bool,
}

impl Ready {
    /// Owns all that it needs, so that it can go on inside the answer's body. `held` is given back when it is sent.
    ///
    /// A request that asks for usage in the client's place is sent once more without, if the upstream refuses that.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    pub(super) fn send(
        self,
        plan: Arc<Plan>,
        upstreams: Rc<[Upstream]>,
        held: Held,
    ) -> impl Future<Output = Result<Answered>> {
        async move {
            // All of it, with its place in the budget.
            let held = &held;
            let service = &plan.services[self.upstream];
            let upstream = &upstreams[self.upstream];
            let call = |target, payload, framing| Call {
                method: &held.parts.method,
                target,
                headers: &service.headers,
                client: &held.parts.headers,
                upgrade: held.upgrade,
                framing,
                payload,
                is_streamed: self.is_streamed,
                started: self.started,
            };
            let mut answer = upstream.send(call(self.target, self.payload, self.framing)).await?;
            let Some(Unasked { of, target, pieces }) = self.unasked else {
                return Ok(Answered { answer, asked_for_usage: self.asks_for_usage });
            };
            if !asking::is_refusal(&mut answer).await {
                return Ok(Answered { answer, asked_for_usage: true });
            }
            let status = answer.head.status.as_u16();
            tracing::debug!(upstream = %service.name, %of, status, "it refuses to be asked for usage; sending once more without");
            drop(answer);
            let (payload, framing) = held_payload(pieces);
            let answer = Box::pin(upstream.send(call(target, payload, framing))).await?;
            if asking::proves_refusal(answer.head.status) {
                service.refusals.note(&of, Instant::now());
            }
            Ok(Answered { answer, asked_for_usage: false })
        }
    }
}
