//! Probes of load balancers and supervisors on the clients' port.
//!
//! `GET` and `HEAD` of `/`, `/health` and `/healthz` get 200. They need no key and have no record,
//! since they tell only that the port is open. A probe that the rules for hosts and web pages
//! refuse is handled like any request: refused and recorded. Readiness is the admin server's
//! `/readyz`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::respond::ProxyBody;
use crate::gate::browser::Admission;

/// None of these is a path of the API.
const PATHS: [&str; 3] = ["/", "/health", "/healthz"];

/// The response to a probe; `None`: the request is none.
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
    /// A request's future; the response to a probe is ready at once.
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
