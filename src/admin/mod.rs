//! Pages for operators, on an address of their own: health and metrics.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::drain::{Phase, Stop};
use crate::error::Error;
use crate::listener::Handler;
use crate::metrics::Metrics;

/// What OpenMetrics text is called (OpenMetrics 1.0, section on negotiation).
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `/healthz`, `/readyz` and `/metrics`.
pub struct Admin {
    stop: Stop,
    metrics: Arc<Metrics>,
}

impl Admin {
    /// `stop` is the proxy's: a proxy that drains is not ready.
    pub fn new(stop: Stop, metrics: Arc<Metrics>) -> Self {
        Self { stop, metrics }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.stop.phase() == Phase::Running => text(StatusCode::OK, "ready\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            "/metrics" => {
                let mut response = text(StatusCode::OK, self.metrics.encode());
                let kind = HeaderValue::from_static(OPENMETRICS);
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            _ => text(StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n"),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

impl Handler for Admin {
    type Body = Full<Bytes>;

    async fn handle(self: Rc<Self>, request: Request<Incoming>) -> Response<Self::Body> {
        self.answer(request.method(), request.uri().path())
    }

    fn refuse(&self, error: Error) -> Vec<u8> {
        error.to_http1(&HeaderValue::from_static("none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Journal;

    fn admin() -> Admin {
        Admin::new(Stop::default(), Arc::new(Metrics::new(Journal::new(1), Arc::default(), Arc::default())))
    }

    #[test]
    fn a_proxy_that_drains_is_alive_and_not_ready() {
        let admin = admin();
        assert_eq!(admin.answer(&Method::GET, "/readyz").status(), StatusCode::OK);
        admin.stop.drain();
        assert_eq!(admin.answer(&Method::GET, "/readyz").status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(admin.answer(&Method::GET, "/healthz").status(), StatusCode::OK);
    }

    #[test]
    fn metrics_say_what_they_are() {
        let response = admin().answer(&Method::GET, "/metrics");
        assert_eq!(response.headers()[header::CONTENT_TYPE], OPENMETRICS);
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_what_may_not_be_done() {
        assert_eq!(admin().answer(&Method::GET, "/").status(), StatusCode::NOT_FOUND);
        assert_eq!(admin().answer(&Method::POST, "/metrics").status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
