//! Probes: load balancers and supervisors that ask on the clients' port whether it is served.
//!
//! GET and HEAD of `/`, `/health` and `/healthz` are answered with 200 here. Nothing is recorded of
//! them, and they need no key: they tell no more than that the port is open. A probe that the rules
//! for hosts and web pages refuse is none, but a request like any other, which is refused and
//! recorded. Whether this proxy should get requests at all is said by the admin server's `/readyz`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::respond::ProxyBody;
use crate::browser::Admission;

/// Where probes ask. None is a path of the API.
const PATHS: [&str; 3] = ["/", "/health", "/healthz"];

/// The answer to a request that is a probe.
pub(super) fn respond<B>(request: &Request<B>, admission: &Admission) -> Option<Response<ProxyBody>> {
    let (method, uri) = (request.method(), request.uri());
    if !PATHS.contains(&uri.path()) || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    admission.check(request.version(), uri, request.headers()).ok()?;
    let body = Full::new(Bytes::from_static(b"{\"status\":\"ok\"}\n"));
    let mut response = Response::new(ProxyBody::Whole(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

pin_project! {
    /// A request on its way to an answer: a probe's is here at once.
    #[project = HandledProjection]
    pub(super) enum Handled<F> {
        Probe { response: Option<Response<ProxyBody>> },
        Request { #[pin] response: F },
    }
}

impl<F: Future<Output = Response<ProxyBody>>> Future for Handled<F> {
    type Output = Response<ProxyBody>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            HandledProjection::Probe { response } => {
                Poll::Ready(response.take().expect("polled after it was ready"))
            }
            HandledProjection::Request { response } => response.poll(cx),
        }
    }
}
