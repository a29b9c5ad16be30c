//! A request that may be served: its body is buffered as far as its fields are needed.

use std::sync::Arc;

use bytes::Bytes;
use http::Version;
use http_body::Body as _;

use super::admitted::check_room;
use super::buffered::Inside;
use super::look::{Look, Whole};
use super::{Buffered, Received};
use crate::codec::head::{KnownName, RequestHead};
use crate::gate::{FoundTags, KnownClient, TagRules};
use crate::llm::provider::{path_model, query_model};
use crate::llm::rewrite::form::Form;
use crate::llm::rewrite::upgrade::WebSocketUpgrade;
use crate::proxy::attempt::SharedBody;
use crate::proxy::budget::{Budget, Reserved};
use crate::proxy::client_body::BodyLimits;
use crate::proxy::decoding::decode;
use crate::proxy::passing::{Passing, Watched};
use crate::proxy::worker::WorkerSnapshot;
use crate::record::Entry;
use crate::record::error::{Kind, Result};
use crate::support::CutSwitch;

/// The longest body that is read before limits are checked, so that a refusal leaves the connection
/// open.
const SMALL_BODY: u64 = 64 << 10;

/// A request that may be served.
pub(in crate::proxy) struct Authenticated(pub(super) Received);

impl Authenticated {
    /// The head of a request whose body is not needed, and its client if that is configured.
    pub(in crate::proxy) fn into_head(self) -> (RequestHead, Option<Arc<KnownClient>>) {
        let Buffered { head, client, .. } = *self.0.request;
        (head, client)
    }

    /// The switch that ends the request, if its key can be revoked.
    pub(in crate::proxy) fn take_cut(&mut self) -> Option<Arc<CutSwitch>> {
        self.0.request.cut.take()
    }

    /// Records the tags of the head and of the client.
    #[cold]
    pub(in crate::proxy) fn read_tags(&self, rules: &TagRules, entry: &mut Entry) {
        let Buffered { head, client, .. } = &*self.0.request;
        let fixed = client.as_ref().and_then(|client| client.tags.as_ref());
        record_tags(rules.in_head(&head.headers, fixed), entry);
    }

    /// Buffers the body if its fields are needed: the model for the route, the deployment or an
    /// edit, and the fields of the record. Any other body is returned as it is, to pass through.
    pub(in crate::proxy) async fn buffer(
        self,
        snapshot: &WorkerSnapshot,
        entry: &mut Entry,
    ) -> Result<(Box<Buffered>, Body)> {
        let Received { request: mut buffered, body, .. } = self.0;
        let head = &mut buffered.head;
        buffered.upgrade = WebSocketUpgrade::take(&head.method, head.version, &mut head.headers);
        let path = head.path();
        buffered.url_model = query_model(path, head.query(), buffered.upgrade.is_some())
            .or_else(|| path_model(&head.method, path, snapshot.has_native_paths));
        let limits = &snapshot.bodies;
        buffered._head = reserve_head(&buffered.head, &limits.budget, &entry.row().client)?;
        if body.is_end_stream() {
            let nothing = if has_length(&buffered.head) { Body::Buffered } else { Body::None };
            return Ok((buffered, nothing));
        }
        let length = body.size_hint().exact();
        if let Some(client) = buffered.client.as_ref().filter(|client| !client.limits.is_empty())
            && length.is_none_or(|length| length > SMALL_BODY)
        {
            check_room(&client.limits, entry.row().started_at).inspect_err(|_| {
                entry.row().endpoint = Some(buffered.endpoint(snapshot).name.into());
            })?;
        }
        let client = Arc::clone(&entry.row().client);
        let needs_model = buffered.client.as_ref().is_some_and(|client| client.needs_body());
        match Look::at(&buffered.head, snapshot, needs_model)? {
            Look::Nothing => {
                let passing = Passing::new(body, limits, entry.count_upload())?;
                Ok((buffered, Body::Passing(Box::new(passing), length)))
            }
            Look::Fields(boundary) => {
                let watched =
                    Watched { form: Form::new(&boundary), notes: entry.note_form(), has_decided: false };
                let passing = Passing::new(body, limits, entry.count_upload())?.watched(watched);
                Ok((buffered, Body::Passing(Box::new(passing), length)))
            }
            Look::Form { boundary, must_name } => {
                let mut form = Form::new(&boundary);
                let beginning = Box::pin(limits.buffer_form(body, &client, &mut form, must_name)).await?;
                entry.row().request_bytes = beginning.bytes.len() as u64;
                buffered.inside = Some(Inside::form(form.fields()));
                buffered.bytes = beginning.bytes;
                buffered._reserved = Some(beginning.reserved);
                let Some(rest) = beginning.rest else { return Ok((buffered, Body::Buffered)) };
                let seen = entry.count_upload();
                seen.set(buffered.bytes.len() as u64);
                let has_decided = form.fields().has_model();
                let watched = Watched { form, notes: entry.note_form(), has_decided };
                let passing = Passing::new(rest, limits, seen)?.watched(watched);
                Ok((buffered, Body::Passing(Box::new(passing), length)))
            }
            Look::Whole(whole) => {
                buffered.came_at_once.set(body.is_whole() && whole.codings.is_empty());
                let (bytes, mut reserved) = limits.buffer(body, &client).await?;
                entry.row().request_bytes = bytes.len() as u64;
                buffered.in_session = whole.in_session;
                if !whole.codings.is_empty() {
                    buffered.inside = Box::pin(whole.decode(&bytes, limits, &mut reserved, &client)).await?;
                }
                buffered.bytes = bytes;
                buffered._reserved = Some(reserved);
                Ok((buffered, Body::Buffered))
            }
        }
    }
}

/// Records the tags of a request, and counts those that were left out.
pub(super) fn record_tags(found: FoundTags, entry: &mut Entry) {
    let FoundTags { tags, dropped } = found;
    if dropped > 0 {
        let row = entry.row();
        tracing::debug!(id = %row.id, client = &*row.client, dropped, "tags are not listed or malformed");
        entry.count_dropped_tags(dropped);
    }
    entry.row().tags = tags;
}

impl Whole {
    /// The fields of an encoded body. `None`: it cannot be decoded, and the model is not needed.
    async fn decode(
        self,
        bytes: &Bytes,
        limits: &BodyLimits,
        reserved: &mut Reserved,
        client: &Arc<str>,
    ) -> Result<Option<Box<Inside>>> {
        match decode(bytes, &self.codings, limits, reserved, client).await {
            Ok(text) => Ok(Some(Inside::decoded(text, self.boundary.as_deref()))),
            Err(error) if *error.kind() == Kind::BodyUndecodable && !self.is_needed => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Takes the memory of a head from the budget over HTTP/2, where one connection has many of them.
/// Over HTTP/1.1 a connection has one head, and `server.max_connections` bounds them.
fn reserve_head(head: &RequestHead, budget: &Budget, client: &Arc<str>) -> Result<Option<Box<Reserved>>> {
    if head.version != Version::HTTP_2 {
        return Ok(None);
    }
    let fields = head.headers.iter().map(|field| field.name().len() + field.value().len());
    let target = head.path().len() + head.query().map_or(0, str::len);
    let mut reserved = Box::new(budget.reserve());
    reserved.grow_to(target + fields.sum::<usize>(), client)?;
    Ok(Some(reserved))
}

/// The place of a request's body.
pub(in crate::proxy) enum Body {
    /// The request has no body.
    None,
    /// The body is in the [`Buffered`] request. It may be empty.
    Buffered,
    /// The client sends the body while it passes; with its declared length.
    Passing(Box<Passing>, Option<u64>),
    /// A body as in [`Body::Passing`], for several attempts.
    Shared(SharedBody, Option<u64>),
}

impl Body {
    /// The body for several attempts.
    pub(super) fn shared(self) -> Self {
        match self {
            Self::Passing(body, length) => Self::Shared(SharedBody::new(body), length),
            body => body,
        }
    }

    /// The body for one of several attempts.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Buffered => Self::Buffered,
            Self::Shared(body, length) => Self::Shared(body.clone(), *length),
            Self::Passing(..) => unreachable!("a body for several attempts is shared"),
        }
    }
}

/// Returns true if the client declared a length, which may be 0.
fn has_length(head: &RequestHead) -> bool {
    head.headers.has(KnownName::ContentLength)
}
