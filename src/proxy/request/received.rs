//! A request whose head has arrived: it is checked and authenticated before its body is read.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;

use super::{Authenticated, Buffered, limit_time};
use crate::codec::h1::server::MAX_REQUEST_HEADERS;
use crate::gate::browser::{Admission, Refusal};
use crate::gate::{Clients, KeySource, Known, Models, QueryKeys, Unauthorized};
use crate::proxy::respond::SLOWED_BY;
use crate::record::Entry;
use crate::record::error::{Error, Kind, Result};
use crate::server::{ClientRequest, RequestBody};
use crate::tls::ClientCertificate;

/// A request whose head has arrived.
pub(in crate::proxy) struct Received {
    /// The request, of whose body nothing is read. It stays in its box through all stages.
    pub(super) request: Box<Buffered>,
    pub(super) body: RequestBody,
    certificate: Option<ClientCertificate>,
    /// The keys of the query, which were removed from it.
    keys: QueryKeys,
    from: KeySource,
}

impl Received {
    pub(in crate::proxy) fn new(request: ClientRequest, from: Option<SocketAddr>) -> Self {
        let ClientRequest { mut head, body, certificate } = request;
        let keys = QueryKeys::take(&mut head);
        let from = from.map(|address| address.ip().into()).unwrap_or_default();
        Self { request: Box::new(Buffered::unread(head)), body, certificate, keys, from }
    }

    /// Refuses `CONNECT` and `TRACE`, and hosts and web pages that `admission` does not allow.
    pub(in crate::proxy) fn check_head(self, admission: &Admission) -> Result<Self> {
        if matches!(self.request.head.method, Method::CONNECT | Method::TRACE) {
            return Err(Kind::MethodNotAllowed(self.request.head.method.to_string()).into());
        }
        // The HTTP/1.1 parser counts headers itself.
        if self.request.head.headers.len() > MAX_REQUEST_HEADERS {
            return Err(Kind::HeadTooLarge.into());
        }
        admission.check(&self.request.head)?;
        Ok(self)
    }

    /// Returns true if the request is of a client that may not ask for all models. Nothing is
    /// decided here: another stage refuses an unknown client.
    pub(in crate::proxy) fn is_of_limited_models(&self, clients: &Clients, now: Timestamp) -> bool {
        let certificate = self.certificate.as_ref().and_then(ClientCertificate::name);
        let known = clients.authenticate(&self.request.head.headers, &self.keys, now);
        let by_key = known.ok().flatten().map(|known| known.client);
        let client = by_key.or_else(|| clients.named(certificate?).cloned());
        client.is_some_and(|client| client.models != Models::All)
    }

    /// A certificate counts while the authorities in use trust it, which may change during its
    /// connection.
    pub(in crate::proxy) fn authenticate(
        mut self,
        clients: &Clients,
        requires_certificates: bool,
        entry: &mut Entry,
    ) -> Result<Authenticated> {
        let certificate = self.certificate.as_ref().and_then(ClientCertificate::name);
        if requires_certificates && certificate.is_none() {
            return Err(Kind::CertificateNotTrusted.into());
        }
        let row = entry.row();
        let known = clients.authenticate(&self.request.head.headers, &self.keys, row.started_at);
        match (known, certificate) {
            (Ok(Some(Known { client, key_id, cut })), _) => {
                row.client = Arc::clone(&client.name);
                row.key_id = key_id;
                self.request.client = Some(client);
                self.request.cut = cut;
            }
            // A verified certificate is sufficient. SDKs always send a key, so that an unknown key
            // next to the certificate is ignored.
            (_, Some(name)) => {
                row.client = Arc::clone(name);
                self.request.client = clients.named(name).or(clients.others()).cloned();
            }
            (Ok(None), None) => self.request.client = clients.others().cloned(),
            (Err(Unauthorized::Missing), None) => return Err(Kind::KeyMissing.into()),
            (Err(Unauthorized::Unknown), None) => {
                return Err(Kind::KeyUnknown { is_slowed: count_unknown(clients, self.from) }.into());
            }
            (Err(Unauthorized::Mistyped), None) => {
                return Err(Kind::KeyMistyped { is_slowed: count_unknown(clients, self.from) }.into());
            }
            (Err(Unauthorized::Expired), None) => return Err(Kind::KeyExpired.into()),
        }
        entry.admit();
        Ok(Authenticated(self))
    }
}

/// Counts an unknown key. Returns true if its refusal waits.
fn count_unknown(clients: &Clients, from: KeySource) -> bool {
    let counted = clients.unknown_keys().count(from, limit_time().nanos / NANOS_PER_SECOND);
    if counted.is_first {
        tracing::warn!(%from, "many unknown keys: their refusals wait for {SLOWED_BY:?}");
    }
    counted.is_slowed
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Host(fault) => fault.into(),
            Refusal::ForeignHost(host) => Kind::HostNotAllowed(host).into(),
            Refusal::ForeignOrigin(origin) => Kind::OriginNotAllowed(origin).into(),
            Refusal::CrossSite(site) => Kind::CrossSite(site).into(),
        }
    }
}
