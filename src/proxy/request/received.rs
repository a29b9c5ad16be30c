//! A request whose head is here: judged by it, and authenticated, before its body is read.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request};

use super::Authenticated;
use crate::auth::{Clients, QueryKeys, Unauthorized};
use crate::browser::Admission;
use crate::error::{Kind, Result};
use crate::h1::server::MAX_REQUEST_HEADERS;
use crate::listener::{ClientCertificate, RequestBody};
use crate::record::Entry;

/// A request whose head is here.
pub(in crate::proxy) struct Received {
    /// Boxed, as it goes from station to station, and a request's future keeps room for it at each.
    pub(super) parts: Box<Parts>,
    pub(super) body: RequestBody,
    /// What the client put into its query to say who it is. It stands nowhere else any more.
    keys: QueryKeys,
}

impl Received {
    pub(in crate::proxy) fn new(request: Request<RequestBody>) -> Self {
        let (mut parts, body) = request.into_parts();
        let keys = QueryKeys::take(&mut parts.uri);
        Self { parts: Box::new(parts), body, keys }
    }

    /// Refuses, before the key is looked at, the methods that are for proxies of another kind, and
    /// what `admission` does not let in.
    pub(in crate::proxy) fn check_head(self, admission: &Admission) -> Result<Self> {
        let Parts { method, version, uri, headers, .. } = &*self.parts;
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Err(Kind::MethodNotAllowed(method.to_string()).into());
        }
        // HTTP/1.1's parser has counted already.
        if headers.len() > MAX_REQUEST_HEADERS {
            return Err(Kind::HeadTooLarge.into());
        }
        admission.check(*version, uri, headers)?;
        Ok(self)
    }

    pub(in crate::proxy) fn authenticate(
        self,
        clients: &Clients,
        entry: &mut Entry,
    ) -> Result<Authenticated> {
        let certificate = self.parts.extensions.get::<ClientCertificate>();
        match (clients.authenticate(&self.parts.headers, &self.keys), certificate) {
            (Ok(Some(client)), _) => entry.row().client = client,
            // A verified certificate is as good as a key. SDKs send some key in any case, so an
            // unknown one beside it is not held against the client.
            (_, Some(ClientCertificate(name))) => entry.row().client = Arc::clone(name),
            (Ok(None), None) => {}
            (Err(Unauthorized::Missing), None) => return Err(Kind::KeyMissing.into()),
            (Err(Unauthorized::Unknown), None) => return Err(Kind::KeyUnknown.into()),
        }
        entry.admit();
        Ok(Authenticated(self))
    }
}
