//! A request whose body is buffered as far as it is needed: it can be routed.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::Routed;
use super::admitted::Admitted;
use super::authenticated::record_tags;
use super::granted::GrantTime;
use crate::balance::{PinAsk, Target, UpstreamGroup};
use crate::codec::head::RequestHead;
use crate::gate::{FoundTags, KnownClient, TagRules};
use crate::llm::estimate::Shape;
use crate::llm::price::Prices;
use crate::llm::provider::{Endpoint, Inbound, query_models};
use crate::llm::rewrite::body::{
    Peek, is_utf16_or_32, metadata_members, metadata_user, peek, peek_session, without_bom,
};
use crate::llm::rewrite::form::{Fields, Form};
use crate::llm::rewrite::upgrade::WebSocketUpgrade;
use crate::llm::route::Match;
use crate::proxy::budget::Reserved;
use crate::proxy::include_usage;
use crate::proxy::stored_ids::NamedState;
use crate::proxy::worker::{WorkerSnapshot, WorkerUpstream};
use crate::record::error::{Kind, Result};
use crate::record::{Entry, Note};
use crate::support::{CutSwitch, Live};

/// A request whose body is buffered as far as it is needed.
pub(in crate::proxy) struct Buffered {
    pub(in crate::proxy) head: RequestHead,
    /// The body as the client sent it.
    pub(super) bytes: Bytes,
    pub(super) inside: Option<Box<Inside>>,
    /// The model is in the object `session`.
    pub(super) in_session: bool,
    /// The rules of the client, if there are any.
    pub(super) client: Option<Arc<KnownClient>>,
    /// Thrown when the request must end, since its key was revoked.
    pub(super) cut: Option<Arc<CutSwitch>>,
    /// The client asks for a WebSocket.
    pub(in crate::proxy) upgrade: Option<WebSocketUpgrade>,
    /// The model that the query or the path names.
    pub(super) url_model: Option<String>,
    /// The body came with its head, and no time has passed since.
    pub(super) came_at_once: Cell<bool>,
    /// The time that it has waited for grants.
    pub(super) grants: GrantTime,
    /// The stored state that the request names.
    pub(in crate::proxy) state: NamedState,
    /// The body's memory, until no further attempt is possible.
    pub(super) _reserved: Option<Reserved>,
    /// The head's memory.
    pub(super) _head: Option<Box<Reserved>>,
}

/// A body that is not plain JSON.
pub(super) struct Inside {
    /// The body without its content coding.
    text: Option<Bytes>,
    /// The fields of a form, as far as it is buffered.
    form: Option<Fields>,
}

impl Buffered {
    /// The prices by which the client gets the cost of the response. `None`: it does not.
    pub(in crate::proxy) fn response_cost(&self) -> Option<&Arc<Live<Prices>>> {
        self.client.as_ref()?.response_cost.as_ref()
    }
}

impl Inside {
    pub(super) fn form(fields: &Fields) -> Box<Self> {
        Box::new(Self { text: None, form: Some(fields.clone()) })
    }

    /// `boundary`: that of a form.
    pub(super) fn decoded(text: Bytes, boundary: Option<&[u8]>) -> Box<Self> {
        let form = boundary.map(|boundary| {
            let mut form = Form::new(boundary);
            form.push(&text);
            form.end();
            form.fields().clone()
        });
        Box::new(Self { text: Some(text), form })
    }
}

impl Buffered {
    /// A request of whose body nothing is read.
    pub(super) fn unread(head: RequestHead) -> Self {
        Self {
            head,
            bytes: Bytes::new(),
            inside: None,
            in_session: false,
            client: None,
            cut: None,
            upgrade: None,
            url_model: None,
            came_at_once: Cell::new(false),
            grants: GrantTime::default(),
            state: NamedState::default(),
            _reserved: None,
            _head: None,
        }
    }

    /// Finds the stored state that the request names, which decides before routes do. Returns the
    /// question to the fleet about ids that are not known here.
    ///
    /// # Errors
    /// Fails if it is another client's.
    pub(in crate::proxy) fn find_state(
        &mut self,
        snapshot: &WorkerSnapshot,
        entry: &mut Entry,
    ) -> Result<Option<Arc<PinAsk>>> {
        self.find_state_asking(snapshot, entry, true)
    }

    pub(super) fn find_state_asking(
        &mut self,
        snapshot: &WorkerSnapshot,
        entry: &mut Entry,
        asks: bool,
    ) -> Result<Option<Arc<PinAsk>>> {
        let Some(stored) = &snapshot.stored_ids else { return Ok(None) };
        let (state, ask) = stored.named_by(self, self.endpoint(snapshot), &entry.row().client, asks)?;
        self.state = state;
        Ok(ask)
    }

    /// The endpoint of the path without its route's prefix.
    pub(in crate::proxy) fn endpoint(&self, snapshot: &WorkerSnapshot) -> Endpoint {
        snapshot.routes.first(self.head.path()).map_or(Endpoint::OTHER, |(_, rest)| Endpoint::of(rest))
    }

    /// The body without its content coding.
    pub(in crate::proxy) fn text(&self) -> &Bytes {
        self.decoded().unwrap_or(&self.bytes)
    }

    /// The decoded body, if it has a content coding.
    pub(super) fn decoded(&self) -> Option<&Bytes> {
        self.inside.as_ref()?.text.as_ref()
    }

    /// The fields of a form.
    pub(in crate::proxy) fn form(&self) -> Option<&Fields> {
        self.inside.as_ref()?.form.as_ref()
    }

    /// The fields of the body, if it is a JSON object.
    pub(in crate::proxy) fn peek(&self) -> Option<Peek<'_>> {
        if self.form().is_some() {
            return None;
        }
        if self.in_session { peek_session(self.text()).ok() } else { peek(self.text()).ok() }
    }

    /// The model in the request.
    pub(super) fn asked<'a>(&'a self, peek: Option<&'a Peek<'_>>) -> Option<&'a str> {
        peek.and_then(|peek| peek.model.as_deref())
            .or_else(|| self.form()?.model.as_deref())
            .or(self.url_model.as_deref())
    }

    /// Returns true if the body names several models, of which servers use different ones.
    pub(super) fn names_model_twice(&self, peek: Option<&Peek<'_>>) -> bool {
        peek.is_some_and(|peek| peek.model_is_duplicate)
            || self.form().is_some_and(|form| form.model_is_duplicate)
    }

    pub(in crate::proxy) fn route<'a>(
        &'a self,
        snapshot: &'a WorkerSnapshot,
        entry: &mut Entry,
    ) -> Result<Routed<'a>> {
        // A body that is not a JSON object passes unchanged if its fields are not needed.
        let peek = self.peek();
        if let Some(rules) = snapshot.tags.as_ref().filter(|rules| rules.reads_metadata())
            && let Some(peek) = &peek
        {
            self.read_metadata_tags(rules, peek, entry);
        }
        let model = self.asked(peek.as_ref());
        let row = entry.row();
        row.model_requested = model.map(Into::into);
        if let Some(peek) = &peek {
            row.stream = peek.asks_for_stream();
            row.user = peek.user.as_deref().map(Into::into);
        }
        if let Some(form) = self.form() {
            row.stream = form.stream;
            row.user = form.user().map(Into::into);
        }

        let by_model = || snapshot.routes.needs_model(self.head.path());
        // A model that cannot be read matches no route.
        let mut routed = self.find(snapshot, peek).map_err(|error| {
            if by_model() && is_utf16_or_32(self.text()) { Kind::BodyNotUtf8.into() } else { error }
        })?;
        let Routed { peek, target, inbound, .. } = &routed;
        let (spec, is_session) = (&*target.first().spec, inbound.is_session);
        let model = self.asked(peek.as_ref());
        row.stream |= include_usage::asks_for_stream(inbound);
        row.upstream = Some(Arc::clone(spec.id.name()));
        row.provider = Some(spec.provider);
        let endpoint = Endpoint::of(inbound.path);
        row.endpoint = Some(endpoint.name.into());
        if endpoint.takes_json_model() && is_utf16_or_32(self.text()) {
            return Err(Kind::BodyNotUtf8.into());
        }
        if let Some(client) = self.client.as_deref().filter(|client| client.is_restricted()) {
            routed.permit(client, endpoint)?;
        }
        if row.model_requested.is_none() {
            row.model_requested = spec.dialect.requested_model(inbound.path).map(Into::into);
        } else if is_session
            && let [(true, deployment)] = &query_models(inbound.query.unwrap_or_default())[..]
        {
            row.model_requested = Some(spec.dialect.listed_model(deployment).into());
        }
        if let Some(peek) = peek.as_ref().filter(|_| row.user.is_none() && endpoint.names_user_in_metadata())
        {
            row.user = metadata_user(self.text(), peek).map(Into::into);
        }
        let background = peek.as_ref().map(|peek| peek.background);
        let owner = endpoint.usage_owner(&self.head.method, inbound.path, background);
        if let Some(shape) = Shape::of(endpoint.name).filter(|_| owner.may_be_own()) {
            entry.keep_estimate_input(shape, &without_bom(self.text()));
        }
        entry.set_usage_owner(owner);
        if is_session && model.is_none() && by_model() {
            entry.note(Note::ModelComesLater);
        }

        if self.names_model_twice(peek.as_ref()) {
            let decides = |member| {
                let (dialect, asked) = (&routed.target.member(member).spec.dialect, routed.model(member));
                dialect.needs_model(inbound)
                    || model != asked
                    || model.is_some_and(|model| dialect.body_model(inbound, model) != model)
            };
            if by_model() || (0..routed.target.len()).any(decides) {
                return Err(Kind::ModelAmbiguous.into());
            }
        }
        if let Some(client) = self.client.as_deref().filter(|client| !client.limits.is_empty()) {
            routed.admitted = routed.admit(client, endpoint, entry)?;
        }
        Ok(routed)
    }

    /// Adds the tags of `metadata` to those of the head.
    #[cold]
    fn read_metadata_tags(&self, rules: &TagRules, peek: &Peek<'_>, entry: &mut Entry) {
        let mut found = FoundTags::default();
        metadata_members(self.text(), peek, |key, value| rules.add_member(&mut found, key, value));
        record_tags(found.beneath(entry.row().tags.take()), entry);
    }

    /// Finds the target: the same one each time for the same snapshot.
    pub(in crate::proxy) fn find<'a>(
        &'a self,
        snapshot: &'a WorkerSnapshot,
        peek: Option<Peek<'a>>,
    ) -> Result<Routed<'a>> {
        let (path, query) = (self.head.path(), self.head.query());
        let model = self.asked(peek.as_ref());
        let found = snapshot.routes.find(path, model);
        let holder = snapshot.stored_ids.as_ref().and_then(|stored| stored.target(self.state));
        let found = match holder {
            Some(holder) => at_holder(found, holder, snapshot.routes.first(path).map(|(_, rest)| rest)),
            None => found,
        };
        let holder = holder.map(|holder| &holder.first().spec.id);
        let Some(Match { target, rest }) = found else {
            let model = model.filter(|_| snapshot.routes.needs_model(path)).map(str::to_owned);
            return Err(Kind::NoRoute { path: path.to_owned(), model }.into());
        };
        let inbound = Inbound { path: rest, query, is_session: self.upgrade.is_some() };
        Ok(Routed {
            buffered: self,
            peek,
            target,
            inbound,
            holder,
            admitted: Admitted::default(),
            is_new: self.came_at_once.get(),
        })
    }
}

/// The route of a request for state that `holder` has: a group with it, else the holder alone.
fn at_holder<'t, 'p>(
    found: Option<Match<'t, 'p, Target<Rc<WorkerUpstream>>>>,
    holder: &'t Target<Rc<WorkerUpstream>>,
    rest: Option<&'p str>,
) -> Option<Match<'t, 'p, Target<Rc<WorkerUpstream>>>> {
    let id = &holder.first().spec.id;
    let has_it = |group: &Arc<UpstreamGroup>| group.member_of(id).is_some();
    match found {
        Some(found) if found.target.as_group().is_some_and(has_it) => Some(found),
        found => {
            let rest = found.map(|found| found.rest).or(rest)?;
            Some(Match { target: holder, rest })
        }
    }
}
