//! Decides how much of a request's body is buffered before it is sent.
//!
//! One table has the place of the model for each endpoint ([`Endpoint`]). The model read there is
//! the one that routes match, that aliases and deployments rename, and that is recorded.
//!
//! * JSON is buffered whole, in its content coding.
//! * A form whose model decides the route, or may be renamed, is buffered up to the model, which
//!   clients put before or after the file. After `server.max_request_bytes` without a model the
//!   request is refused with 413 `model_too_late`. Any other form is not buffered; its fields are
//!   read for the record while it passes.
//! * An unknown content coding is refused with 415 if the body must be read, and otherwise passes
//!   unread.
//!
//! If ids of stored state are bound to clients, a body that may name them must be read, whatever
//! media type it declares: services differ in which ones they take for JSON.

use std::rc::Rc;
use std::sync::Arc;

use crate::balance::{Target, UpstreamGroup};
use crate::codec::coding::{Coding, Codings};
use crate::codec::head::{Headers, KnownName, RequestHead};
use crate::llm::provider::{Endpoint, Inbound};
use crate::llm::rewrite::form::boundary;
use crate::proxy::worker::{WorkerSnapshot, WorkerUpstream};
use crate::record::error::{Kind, Result};

/// The part of a body that is read before it is sent.
pub(super) enum Look {
    /// Nothing: the body passes through.
    Nothing,
    /// The fields of a form, while it passes; its boundary.
    Fields(Vec<u8>),
    /// A form up to its model.
    Form { boundary: Vec<u8>, must_name: bool },
    /// The whole body.
    Whole(Whole),
}

/// A body that is buffered whole.
pub(super) struct Whole {
    /// Its content codings, in the order in which they were applied.
    pub(super) codings: Vec<Coding>,
    /// The boundary of a form.
    pub(super) boundary: Option<Vec<u8>>,
    /// The model is in the object `session`.
    pub(super) in_session: bool,
    /// The model decides the route or may be renamed, or ids are bound to clients.
    pub(super) is_needed: bool,
}

/// The longest name of a coding in a message, in bytes.
const MAX_SHOWN: usize = 64;

impl Look {
    /// `needs_model`: the model decides whether the client may send the request, or which limits
    /// apply. A model that cannot be read is refused later.
    ///
    /// # Errors
    /// Returns an error if the body must be read, and the content coding is unknown.
    pub(super) fn at(head: &RequestHead, snapshot: &WorkerSnapshot, needs_model: bool) -> Result<Self> {
        let (path, headers) = (head.path(), &head.headers);
        let Some((first, first_rest)) = snapshot.routes.first(path) else { return Ok(Self::Nothing) };
        let by_model = first.model.is_some();
        let (target, rest) = match &first.model {
            None => (Some(&first.target), first_rest),
            Some(_) => match snapshot.routes.find(path, None) {
                Some(found) => (Some(found.target), found.rest),
                None => (None, first_rest),
            },
        };
        let endpoint = Endpoint::of(rest);
        let inbound = Inbound { path: rest, query: head.query(), is_session: false };
        let target_needs_model = |target: &Target<Rc<WorkerUpstream>>| {
            let renames =
                |group: &Arc<UpstreamGroup>| group.members().iter().any(|member| member.model.is_some());
            (0..target.len()).any(|member| target.member(member).spec.needs_model(&inbound))
                || target.as_group().is_some_and(renames)
        };
        let is_needed = by_model || target.is_some_and(target_needs_model);
        let is_unknown = endpoint == Endpoint::OTHER;
        let is_read = is_needed || (needs_model && !is_unknown);

        let is_bound = snapshot.stored_ids.as_ref().is_some_and(|ids| ids.is_bound());
        let is_checked = is_bound && endpoint.may_name_state();
        let may_name_ids =
            is_checked || (snapshot.stored_ids.is_some() && !is_unknown && endpoint.often_names_state());

        let boundary =
            if endpoint.takes_form() || (is_unknown && by_model) { boundary(headers) } else { None };
        let takes_json = if endpoint.takes_form() {
            boundary.is_none() && (says_json(headers) || ((is_read || is_checked) && may_be_json(headers)))
        } else {
            endpoint.takes_json_model()
                || ((may_name_ids || by_model || (is_unknown && is_needed)) && may_be_json(headers))
        };
        if boundary.is_none() && !takes_json {
            return Ok(Self::Nothing);
        }
        let in_session = endpoint.names_model_in_session();
        let is_needed = is_needed || (is_checked && boundary.is_none());
        match (Codings::of(headers), boundary) {
            (Codings::Identity, Some(boundary)) if is_read => {
                Ok(Self::Form { boundary, must_name: !is_unknown })
            }
            (Codings::Identity, Some(boundary)) => Ok(Self::Fields(boundary)),
            (Codings::Identity, boundary) => {
                Ok(Self::Whole(Whole { codings: Vec::new(), boundary, in_session, is_needed }))
            }
            (Codings::Known(_), Some(_)) if !is_read => Ok(Self::Nothing),
            (Codings::Known(codings), boundary) => {
                Ok(Self::Whole(Whole { codings, boundary, in_session, is_needed }))
            }
            (Codings::Unknown, _) if is_needed => Err(Kind::CodingUnknown(coding_name(headers)).into()),
            (Codings::Unknown, _) => Ok(Self::Nothing),
        }
    }
}

fn coding_name(headers: &Headers) -> String {
    let names: Vec<_> = headers.values(KnownName::ContentEncoding).map(String::from_utf8_lossy).collect();
    let mut names = names.join(", ");
    names.truncate(names.floor_char_boundary(MAX_SHOWN));
    names
}

/// Returns true if a media type declares JSON.
fn says_json(headers: &Headers) -> bool {
    let mut said = headers.values(KnownName::ContentType);
    said.any(|media_type| media_type.windows(4).any(|word| word.eq_ignore_ascii_case(b"json")))
}

/// Returns true if one of the media types may be JSON: servers use any one of several. curl
/// declares `application/x-www-form-urlencoded` unless it is given a type.
fn may_be_json(headers: &Headers) -> bool {
    let is_other = |media_type: &[u8]| {
        ["multipart/", "audio/", "image/", "video/", "application/octet-stream"].iter().any(|other| {
            media_type.get(..other.len()).is_some_and(|start| start.eq_ignore_ascii_case(other.as_bytes()))
        })
    };
    let mut said = headers.values(KnownName::ContentType).peekable();
    said.peek().is_none() || said.any(|media_type| !is_other(media_type))
}
