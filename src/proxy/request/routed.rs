//! A request whose target is known: it can be written for any member of the target, as often as
//! there are attempts.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::admitted::Admitted;
use super::prepared::Outbound;
use super::{Body, Buffered, Prepared};
use crate::balance::{Attempt, Attempts, Target, Variant};
use crate::codec::h1::BodyFraming;
use crate::codec::head::{Headers, KnownName, visible};
use crate::config::OnDisconnect;
use crate::llm::provider::{Endpoint, Inbound, TargetError, renamed_path};
use crate::llm::rewrite::body::{Edited, Peek, Splice, ask_for_usage, set_model};
use crate::llm::rewrite::form::Fields;
use crate::llm::rewrite::headers;
use crate::proxy::attempt::GroupRequest;
use crate::proxy::include_usage::{self, UsageOption};
use crate::proxy::meter::MemberPermit;
use crate::proxy::snapshot::UpstreamSpec;
use crate::proxy::worker::WorkerUpstream;
use crate::record::Entry;
use crate::record::error::{Error, Kind, Result};
use crate::support::UpstreamId;
use crate::upstream::{ClientBody, Payload};

/// A client's choice for a response that it leaves. Like all headers of streamgauge's own, it is
/// not forwarded.
const ON_DISCONNECT: KnownName = KnownName::XStreamgaugeOnDisconnect;

/// A request whose target is known.
pub(in crate::proxy) struct Routed<'a> {
    pub(super) buffered: &'a Buffered,
    /// The body's fields, if it is a JSON object.
    pub(super) peek: Option<Peek<'a>>,
    pub(in crate::proxy) target: &'a Target<Rc<WorkerUpstream>>,
    pub(super) inbound: Inbound<'a>,
    /// The upstream that has the stored state that the request names.
    pub(super) holder: Option<&'a UpstreamId>,
    /// The result of the admission. Nothing before it.
    pub(super) admitted: Admitted,
    /// No time has passed for the request, which came at once.
    pub(super) is_new: bool,
}

impl Routed<'_> {
    /// Returns true if the request has to wait for limits before it is prepared.
    pub(in crate::proxy) fn has_to_wait(&self) -> bool {
        self.admitted.wait.is_some()
    }

    /// Waits for the limits, and prepares the first attempt.
    ///
    /// # Errors
    /// Fails if a limit has no room in time.
    pub(in crate::proxy) async fn prepare_after_wait(
        mut self,
        body: Body,
        entry: &mut Entry,
    ) -> Result<Prepared> {
        if let Some(wait) = self.admitted.wait.take() {
            self.is_new = false;
            wait.wait(&self.buffered.head.headers, entry).await?;
        }
        self.prepare(body, entry)
    }

    /// Prepares the first attempt.
    pub(in crate::proxy) fn prepare(&self, body: Body, entry: &mut Entry) -> Result<Prepared> {
        if let Some(group) = self.target.as_group() {
            return self.prepare_for(group, body, entry);
        }
        let attempts = Attempts::new(0, entry.started());
        let Attempt { member, variant } = attempts.current();
        let upstream = self.target.member(member);
        if let Some(places) = &upstream.places {
            let place = places.enter().ok_or_else(|| Kind::UpstreamBusy.at(&*upstream.spec.id))?;
            entry.keep(Arc::new(place));
        }
        let outbound = self.write(member, variant, body)?;
        self.prepared(attempts, Rc::clone(upstream), outbound, None, None)
    }

    /// The request with its first attempt.
    pub(super) fn prepared(
        &self,
        attempts: Attempts,
        upstream: Rc<WorkerUpstream>,
        outbound: Outbound,
        permit: Option<Box<MemberPermit>>,
        group: Option<Box<GroupRequest>>,
    ) -> Result<Prepared> {
        let Self { buffered, peek, inbound, .. } = self;
        let is_stream = peek.as_ref().is_some_and(Peek::asks_for_stream)
            || buffered.form().is_some_and(|form| form.stream);
        let on_disconnect = on_disconnect(&buffered.head.headers)?.unwrap_or(upstream.spec.on_disconnect);
        Ok(Prepared {
            attempts,
            outbound,
            is_new: self.is_new,
            is_streamed: is_stream || buffered.upgrade.is_some() || include_usage::asks_for_stream(inbound),
            takes_comments: is_stream,
            // A WebSocket is never drained: without its client nothing would ever close it.
            on_disconnect: if buffered.upgrade.is_some() { OnDisconnect::Cancel } else { on_disconnect },
            state: None,
            ids: None,
            upstream,
            permit,
            group,
        })
    }

    /// Writes the request for one attempt. A body that passes through is moved out.
    pub(in crate::proxy) fn write(&self, member: usize, variant: Variant, body: Body) -> Result<Outbound> {
        let Self { buffered, peek, inbound, .. } = self;
        let (spec, head) = (&*self.target.member(member).spec, &buffered.head);
        let model = self.model(member);
        let target = self.target_at(member)?;

        let model_edit = match (buffered.form(), peek) {
            (Some(form), _) => rename_in_form(form, model, spec, inbound),
            (None, Some(peek)) => edit_model(buffered.text(), peek, model, spec, inbound),
            (None, None) => None,
        };
        let (mut usage, mut decoded_headers) = (UsageOption::Untouched, None);
        let (payload, framing) = match body {
            Body::None => (Payload::default(), BodyFraming::None),
            Body::Buffered => {
                let usage_edit;
                (usage, usage_edit) = self.usage_option(member, variant);
                let is_edited = model_edit.is_some() || usage_edit.is_some();
                // The variant is the same body as before except for the one field.
                let is_decoded = is_edited || variant == Variant::WithoutStreamOptions;
                let body = if is_decoded { buffered.text() } else { &buffered.bytes };
                if is_decoded && buffered.decoded().is_some() {
                    headers::decoded(decoded_headers.insert(head.headers.clone()));
                }
                let edited = Edited::new(body, [model_edit, usage_edit]);
                let length = edited.len() as u64;
                (Payload::Held(edited), BodyFraming::Length(length))
            }
            Body::Passing(mut passing, length) => {
                let (beginning, length) = self.beginning(model_edit, length);
                passing.begin_with(beginning.pieces());
                streamed(Box::into_pin(passing), length)
            }
            Body::Shared(shared, length) => {
                let (beginning, length) = self.beginning(model_edit, length);
                shared.begin_with(beginning.pieces());
                streamed(Box::pin(shared), length)
            }
        };
        Ok(Outbound { target, framing, payload, decoded_headers, usage })
    }

    /// The path and query of the request to a member.
    pub(super) fn target_at(&self, member: usize) -> Result<String> {
        let WorkerUpstream { spec, connections, .. } = &**self.target.member(member);
        let (head, inbound, model) = (&self.buffered.head, &self.inbound, self.model(member));
        let renamed = model.and_then(|model| renamed_path(&head.method, inbound.path, model));
        let inbound = &Inbound { path: renamed.as_deref().unwrap_or(inbound.path), ..*inbound };
        let memory = connections.take_target();
        spec.dialect.target_in(memory, inbound, model).map_err(|error| match error {
            TargetError::UnknownPath => Kind::UnknownPath(head.path().to_owned()).into(),
            TargetError::UnsafePath => Error::from(Kind::UnsafePath),
            TargetError::ModelRequired => Kind::ModelRequired.at(&*spec.id),
        })
    }

    /// The buffered beginning of a body that passes through, after its edit; and the length of the
    /// whole, after `length` before it.
    fn beginning(&self, edit: Option<Splice>, length: Option<u64>) -> (Edited, Option<u64>) {
        let held = &self.buffered.bytes;
        let beginning = Edited::new(held, [edit]);
        let length = length.map(|length| length - held.len() as u64 + beginning.len() as u64);
        (beginning, length)
    }

    /// The model that the request names.
    pub(super) fn asked(&self) -> Option<&str> {
        self.buffered.asked(self.peek.as_ref())
    }

    /// The model to ask a member for.
    pub(super) fn model(&self, member: usize) -> Option<&str> {
        let own = self.target.as_group().and_then(|group| group.members()[member].model.as_deref());
        own.or_else(|| self.target.member(member).spec.model(self.asked()))
    }

    /// The name under which a member's support of `stream_options` is remembered.
    pub(in crate::proxy) fn support_name(&self, member: usize) -> &str {
        include_usage::support_name(&self.inbound, self.model(member))
    }

    /// The handling of `stream_options.include_usage` in the attempt, and the edit that adds it.
    fn usage_option(&self, member: usize, variant: Variant) -> (UsageOption, Option<Splice>) {
        let Self { buffered, peek, inbound, target, .. } = self;
        let upstream = target.member(member);
        let (spec, head) = (&*upstream.spec, &buffered.head);
        let edit = peek
            .as_ref()
            .filter(|_| variant == Variant::Standard)
            .filter(|peek| include_usage::may_ask(spec, &head.method, inbound, peek))
            .filter(|_| include_usage::takes_identity(&head.headers))
            .and_then(|peek| ask_for_usage(buffered.text(), peek));
        if edit.is_none() {
            return (UsageOption::Untouched, None);
        }
        let support = &upstream.stream_options;
        let option = support.option(spec.include_usage, self.support_name(member), Instant::now());
        (option, edit.filter(|_| option.is_added()))
    }
}

/// A payload of this length, or in chunks.
fn streamed(body: ClientBody, length: Option<u64>) -> (Payload, BodyFraming) {
    let payload = Payload::Streamed { body, chunked: length.is_none() };
    (payload, length.map_or(BodyFraming::Chunked, BodyFraming::Length))
}

/// The client's choice, if it made one.
fn on_disconnect(headers: &Headers) -> Result<Option<OnDisconnect>> {
    let Some(value) = headers.get(ON_DISCONNECT) else { return Ok(None) };
    match visible(value).and_then(OnDisconnect::parse) {
        Some(on_disconnect) => Ok(Some(on_disconnect)),
        None => Err(Kind::HeaderValue { name: ON_DISCONNECT.as_str(), values: OnDisconnect::VALUES }.into()),
    }
}

/// The edit of the body's model, if the upstream needs another: a default, an alias, or a
/// deployment that the URL does not name. `None`: the body stays unchanged.
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

/// The edit of a form's model. A form without a model stays unchanged, since the endpoint has a
/// default of its own.
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
