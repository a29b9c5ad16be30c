//! A request that may be served: its body is held as far as something in it is needed.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Version, header};
use http_body::Body as _;

use super::{Arrived, Held};
use crate::coding::Codings;
use crate::error::Result;
use crate::provider::{Endpoint, query_model};
use crate::proxy::budget::{Budget, Reserved};
use crate::proxy::client_body::Passing;
use crate::proxy::plan::Plan;
use crate::record::Entry;
use crate::rewrite::upgrade::Upgrade;

/// A request that may be served.
pub(in crate::proxy) struct Known(pub(super) Arrived);

impl Known {
    /// Reads the body if anything in it is needed: the model, for the route or the deployment or to edit it, and what the
    /// record says of it. Any other body comes back as it is, to pass through.
    pub(in crate::proxy) async fn hold(self, plan: &Plan, entry: &mut Entry) -> Result<(Held, Body)> {
        let Arrived { mut parts, body, .. } = self.0;
        let upgrade = Upgrade::take(&parts.method, parts.version, &mut parts.headers);
        let query_model = query_model(parts.uri.path(), parts.uri.query(), upgrade.is_some());
        let limits = &plan.bodies;
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
            let passing = limits.pass(body, entry.count_upload())?;
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
pub(in crate::proxy) enum Body {
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
