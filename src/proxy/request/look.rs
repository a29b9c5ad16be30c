//! What of a request's body has to be looked at before it is sent.
//!
//! One table says where an endpoint names its model ([`Endpoint`]). What is read there is what
//! routes match, what aliases and deployments rename, and what the record says: all three, or none.
//!
//! * JSON is held whole, in its content coding if it has one.
//! * A form whose model decides where it goes, or may be renamed, is held up to the model, which
//!   clients put before the file or behind it. Where more than `server.max_request_bytes` come
//!   before it, the request is refused with 413 `model_too_late`. Of any other form the fields are
//!   read for the record while it passes, and nothing is held.
//! * A content coding that is not known is refused with 415 where the model must be known, and
//!   passes unread elsewhere.

use http::request::Parts;
use http::{HeaderMap, header};

use crate::coding::{Coding, Codings};
use crate::error::{Kind, Result};
use crate::provider::{Endpoint, Inbound};
use crate::proxy::worker::WorkerSnapshot;
use crate::rewrite::form::boundary;

/// What has to be looked at.
pub(super) enum Look {
    /// Nothing: the body passes.
    Nothing,
    /// A form's small fields while it passes; its boundary.
    Fields(Vec<u8>),
    /// A form up to its model.
    Form { boundary: Vec<u8>, must_name: bool },
    /// All of it.
    Whole(Whole),
}

/// A body that is held whole.
pub(super) struct Whole {
    /// What it is encoded with, in the order in which it was applied.
    pub(super) codings: Vec<Coding>,
    /// The boundary of a form.
    pub(super) boundary: Option<Vec<u8>>,
    /// Its model is that of its object `session`.
    pub(super) in_session: bool,
    /// The model in it decides where it goes or may be renamed.
    pub(super) is_needed: bool,
}

/// The longest name of a coding that a message repeats, in bytes.
const MAX_SHOWN: usize = 64;

impl Look {
    /// # Errors
    /// The model must be known, and the body is in a coding that is not.
    pub(super) fn at(parts: &Parts, snapshot: &WorkerSnapshot) -> Result<Self> {
        let (path, headers) = (parts.uri.path(), &parts.headers);
        let by_model = snapshot.routes.needs_model(path);
        let found = snapshot.routes.find(path, None);
        let Some(rest) = found.as_ref().map(|found| found.rest).or_else(|| snapshot.routes.rest(path)) else {
            return Ok(Self::Nothing);
        };
        let endpoint = Endpoint::of(rest);
        let inbound = Inbound { path: rest, query: parts.uri.query(), is_session: false };
        let spec = found.map(|found| &found.target.first().spec);
        let is_needed = by_model || spec.is_some_and(|spec| spec.needs_model(&inbound));
        let is_unknown = endpoint == Endpoint::OTHER;

        let boundary =
            if endpoint.takes_form() || (is_unknown && by_model) { boundary(headers) } else { None };
        let takes_json = if endpoint.takes_form() {
            boundary.is_none() && (says_json(headers) || (is_needed && may_be_json(headers)))
        } else {
            endpoint.takes_json_model() || ((by_model || (is_unknown && is_needed)) && may_be_json(headers))
        };
        if boundary.is_none() && !takes_json {
            return Ok(Self::Nothing);
        }
        let in_session = endpoint.names_model_in_session();
        match (Codings::of(headers), boundary) {
            (Codings::Identity, Some(boundary)) if is_needed => {
                Ok(Self::Form { boundary, must_name: !is_unknown })
            }
            (Codings::Identity, Some(boundary)) => Ok(Self::Fields(boundary)),
            (Codings::Identity, boundary) => {
                Ok(Self::Whole(Whole { codings: Vec::new(), boundary, in_session, is_needed }))
            }
            (Codings::Known(_), Some(_)) if !is_needed => Ok(Self::Nothing),
            (Codings::Known(codings), boundary) => {
                Ok(Self::Whole(Whole { codings, boundary, in_session, is_needed }))
            }
            (Codings::Unknown, _) if is_needed => Err(Kind::CodingUnknown(coding_as_said(headers)).into()),
            (Codings::Unknown, _) => Ok(Self::Nothing),
        }
    }
}

fn coding_as_said(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let said: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let mut said = said.join(", ");
    said.truncate(said.floor_char_boundary(MAX_SHOWN));
    said
}

/// Whether the body is said to be JSON.
fn says_json(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(header::CONTENT_TYPE).iter();
    said.any(|media_type| media_type.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"json")))
}

/// Whether one of the types that are said of a body could be JSON: of several, servers take either.
/// Curl says `application/x-www-form-urlencoded` of what it is not told of.
fn may_be_json(headers: &HeaderMap) -> bool {
    let is_other = |media_type: &[u8]| {
        ["multipart/", "audio/", "image/", "video/", "application/octet-stream"].iter().any(|other| {
            media_type.get(..other.len()).is_some_and(|start| start.eq_ignore_ascii_case(other.as_bytes()))
        })
    };
    let mut said = headers.get_all(header::CONTENT_TYPE).iter().peekable();
    said.peek().is_none() || said.any(|media_type| !is_other(media_type.as_bytes()))
}
