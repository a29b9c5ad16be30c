//! Probes of load balancers and supervisors on the clients' port.
//!
//! `GET` and `HEAD` of `/`, `/health` and `/healthz` get 200. They need no key and have no record,
//! since they tell only that the port is open. A probe that the rules for hosts and web pages
//! refuse is handled like any request: refused and recorded. Readiness is the admin server's
//! `/readyz`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::proxy_body::ProxyBody;
use crate::codec::head::{KnownName, RequestHead, ResponseHead};
use crate::gate::browser::Admission;
use crate::server::ClientResponse;

/// None of these is a path of the API.
const PATHS: [&str; 3] = ["/", "/health", "/healthz"];

/// The response to a probe, or `None` for any other request.
pub(super) fn respond(request: &RequestHead, admission: &Admission) -> Option<ClientResponse<ProxyBody>> {
    if !matches!(request.method, Method::GET | Method::HEAD) || !PATHS.contains(&request.path()) {
        return None;
    }
    admission.check(request).ok()?;
    let mut head = ResponseHead::new(StatusCode::OK);
    head.headers.set(KnownName::ContentType, b"application/json");
    head.headers.set(KnownName::CacheControl, b"no-store");
    let body = Full::new(Bytes::from_static(b"{\"status\":\"ok\"}\n"));
    Some(ClientResponse { head, body: ProxyBody::Whole(body) })
}

pub(super) type Rare = Pin<Box<dyn Future<Output = ClientResponse<ProxyBody>>>>;

pin_project! {
    /// A request's future; the response to a probe is ready at once. That of a rare request is
    /// boxed.
    #[project = HandledProjection]
    pub(super) enum Handled<F> {
        Probe { response: Option<ClientResponse<ProxyBody>> },
        Request { #[pin] response: F },
        Rare { response: Rare },
    }
}

impl<F: Future<Output = ClientResponse<ProxyBody>>> Future for Handled<F> {
    type Output = ClientResponse<ProxyBody>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            HandledProjection::Probe { response } => {
                Poll::Ready(response.take().expect("polled after it was ready"))
            }
            HandledProjection::Request { response } => response.poll(cx),
            HandledProjection::Rare { response } => response.as_mut().poll(cx),
        }
    }
}
