//! A request whose body is here as far as it is needed: where it goes.

use bytes::Bytes;
use http::request::Parts;

use super::Routed;
use crate::error::{Error, Result};
use crate::estimate::Shape;
use crate::provider::{Endpoint, Inbound};
use crate::proxy::asking;
use crate::proxy::budget::Reserved;
use crate::proxy::plan::Plan;
use crate::record::Entry;
use crate::rewrite::body::{is_utf16_or_32, metadata_user, peek, without_bom};
use crate::rewrite::upgrade::Upgrade;

/// Of a session that was routed without a model, where there are routes by model.
const MODEL_COMES_LATER: &str = "no route by model could apply: a WebSocket's messages name their model after it is granted; \
                                 its URL may name one (?model=...)";

/// A request whose body is here as far as it is needed.
pub(in crate::proxy) struct Held {
    pub(super) parts: Box<Parts>,
    pub(super) bytes: Bytes,
    /// The client wishes for a WebSocket.
    pub(super) upgrade: Option<Upgrade>,
    /// The model, where the query names it.
    pub(super) query_model: Option<String>,
    /// Gives the body's place in the budget back when the request has been sent.
    pub(super) _reserved: Option<Reserved>,
    /// The same of the head.
    pub(super) _head: Option<Box<Reserved>>,
}

impl Held {
    pub(in crate::proxy) fn route<'a>(&'a self, plan: &'a Plan, entry: &mut Entry) -> Result<Routed<'a>> {
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
        let is_session = self.upgrade.is_some();
        let inbound = Inbound { path: found.rest, query: self.parts.uri.query(), is_session };
        row.stream |= asking::asks_for_stream(&inbound);
        row.upstream = Some(service.name.clone());
        row.provider = Some(service.provider);
        let endpoint = Endpoint::of(inbound.path);
        row.endpoint = Some(endpoint.name.into());
        if endpoint.takes_json_model() && is_utf16_or_32(&self.bytes) {
            return Err(Error::BodyNotUtf8);
        }
        if row.model_requested.is_none() {
            row.model_requested = service.dialect.requested_model(inbound.path).map(Into::into);
        }
        if let Some(peek) = peek.as_ref().filter(|_| row.user.is_none() && endpoint.names_user_in_metadata())
        {
            row.user = metadata_user(&self.bytes, peek).map(Into::into);
        }
        let background = peek.as_ref().map(|peek| peek.background);
        let answers = endpoint.answers(&self.parts.method, inbound.path, background);
        if let Some(shape) = Shape::of(endpoint.name).filter(|_| answers.may_be_own()) {
            entry.may_be_estimated(shape, &without_bom(&self.bytes));
        }
        entry.answers(answers);
        if is_session && by_model && model.is_none() {
            entry.note(MODEL_COMES_LATER);
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
