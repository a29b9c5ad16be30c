//! A request of which it is known where it goes: written as its upstream is to get it.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::prepared::Unasked;
use super::{Body, Buffered, Prepared};
use crate::config::OnDisconnect;
use crate::error::{Error, Kind, Result};
use crate::h1::BodyFraming;
use crate::provider::{Endpoint, Inbound, IncludeUsage, TargetError};
use crate::proxy::include_usage;
use crate::proxy::snapshot::UpstreamSpec;
use crate::proxy::stream_options::StreamOptionsSupport;
use crate::proxy::worker::WorkerUpstream;
use crate::record::Entry;
use crate::rewrite::body::{Edited, Peek, Splice, ask_for_usage, set_model};
use crate::rewrite::form::Fields;
use crate::upstream::Payload;

/// In which a client says what becomes of its answer when it leaves. As all headers of this proxy's
/// own, it is not forwarded.
static ON_DISCONNECT_HEADER: HeaderName = HeaderName::from_static("x-streamgauge-on-disconnect");

/// A request of which it is known where it goes.
pub(in crate::proxy) struct Routed<'a> {
    pub(super) buffered: &'a Buffered,
    /// What the body says, if it is a JSON object.
    pub(super) peek: Option<Peek<'a>>,
    pub(super) upstream: &'a Rc<WorkerUpstream>,
    pub(super) inbound: Inbound<'a>,
}

impl Routed<'_> {
    /// Writes the request as the upstream is to get it.
    pub(in crate::proxy) fn rewrite(self, body: Body, entry: &Entry) -> Result<Prepared> {
        let Self { buffered, peek, upstream, inbound } = self;
        let (spec, stream_options) = (&*upstream.spec, &upstream.stream_options);
        let parts = &buffered.parts;
        let model = spec.model(buffered.asked(peek.as_ref()));
        let target = spec.dialect.target(&inbound, model).map_err(|error| match error {
            TargetError::UnknownPath => Kind::UnknownPath(parts.uri.path().to_owned()).into(),
            TargetError::UnsafePath => Error::from(Kind::UnsafePath),
            TargetError::ModelRequired => Kind::ModelRequired.at(&*spec.id),
        })?;

        let model_edit = match (buffered.form(), &peek) {
            (Some(form), _) => rename_in_form(form, model, spec, &inbound),
            (None, Some(peek)) => edit_model(buffered.text(), peek, model, spec, &inbound),
            (None, None) => None,
        };
        let mut is_decoded = false;
        let mut asks_for_usage = false;
        let (mut unasked, mut counts_itself) = (None, None);
        let (payload, framing) = match body {
            Body::None => (Payload::Held(Vec::new()), BodyFraming::None),
            Body::Buffered => {
                let asking = peek
                    .as_ref()
                    .filter(|peek| include_usage::may_ask(spec, &parts.method, &inbound, peek))
                    .filter(|_| include_usage::takes_identity(&parts.headers))
                    .and_then(|peek| ask_for_usage(buffered.text(), peek));
                asks_for_usage = asking.is_some();
                if asks_for_usage && spec.include_usage == IncludeUsage::Auto {
                    let of = include_usage::asked_of(&inbound, model);
                    let plain = || Edited::new(buffered.text(), [model_edit.clone()]).into_pieces();
                    let now = Instant::now();
                    counts_itself =
                        stream_options.counts_itself(of, now).then(|| StreamOptionsSupport::hash(of));
                    asks_for_usage = counts_itself.is_none() && !stream_options.has(of, now);
                    unasked = asks_for_usage.then(|| Unasked {
                        of: of.into(),
                        target: target.clone(),
                        pieces: plain(),
                    });
                }
                let edits = [model_edit, asking.filter(|_| asks_for_usage)];
                let is_edited = edits.iter().any(Option::is_some);
                is_decoded = is_edited && buffered.decoded().is_some();
                let body = if is_edited { buffered.text() } else { &buffered.bytes };
                held_payload(Edited::new(body, edits).into_pieces())
            }
            Body::Passing(mut passing, length) => {
                let beginning = Edited::new(&buffered.bytes, [model_edit]);
                let length =
                    length.map(|length| length - buffered.bytes.len() as u64 + beginning.len() as u64);
                passing.begin_with(beginning.into_pieces());
                let payload = Payload::Streamed { body: Box::into_pin(passing), chunked: length.is_none() };
                (payload, length.map_or(BodyFraming::Chunked, BodyFraming::Length))
            }
        };
        let is_stream =
            peek.as_ref().is_some_and(|peek| peek.stream) || buffered.form().is_some_and(|form| form.stream);
        let keep_alive = spec.keep_alive_comments.filter(|_| is_stream);
        let is_streamed = is_stream || buffered.upgrade.is_some() || include_usage::asks_for_stream(&inbound);
        let on_disconnect = on_disconnect(&parts.headers)?.unwrap_or(spec.on_disconnect);
        // A session without its client has nobody who would end it.
        let on_disconnect = if buffered.upgrade.is_some() { OnDisconnect::Cancel } else { on_disconnect };
        let started = entry.started();
        Ok(Prepared {
            target,
            framing,
            payload,
            is_decoded,
            asks_for_usage,
            unasked,
            counts_itself,
            is_streamed,
            started,
            upstream: Rc::clone(upstream),
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
        None => {
            Err(Kind::HeaderValue { name: ON_DISCONNECT_HEADER.as_str(), values: OnDisconnect::VALUES }
                .into())
        }
    }
}

/// Another model for the body, where the upstream must see another: a default, an alias, or a
/// deployment that the URL does not name. Otherwise, and where it has no `model` to edit, the body
/// stays as it is.
fn edit_model(
    bytes: &Bytes,
    peek: &Peek<'_>,
    model: Option<&str>,
    spec: &UpstreamSpec,
    inbound: &Inbound<'_>,
) -> Option<Splice> {
    if spec.dialect.names_deployment(inbound) {
        return None;
    }
    let model = spec.dialect.body_model(inbound, model?);
    let may_edit = match &peek.model {
        Some(asked) => asked != model,
        None => inbound.path.starts_with("/v1/") && Endpoint::of(inbound.path).takes_default_model(),
    };
    if may_edit { set_model(bytes, peek, model) } else { None }
}

/// The same for a form. One that names no model gets none: what it is sent to has a default of its
/// own.
fn rename_in_form(
    form: &Fields,
    model: Option<&str>,
    spec: &UpstreamSpec,
    inbound: &Inbound<'_>,
) -> Option<Splice> {
    let (Some(asked), Some(span)) = (&form.model, &form.model_span) else { return None };
    if spec.dialect.names_deployment(inbound) {
        return None;
    }
    let model = spec.dialect.body_model(inbound, model?);
    // A line break could end the part.
    let may_edit = asked != model && !model.contains(['\r', '\n']);
    may_edit.then(|| Splice::replace(span.clone(), model))
}

pub(super) fn held_payload(pieces: Vec<Bytes>) -> (Payload, BodyFraming) {
    let length = pieces.iter().map(Bytes::len).sum::<usize>();
    (Payload::Held(pieces), BodyFraming::Length(length as u64))
}
