//! An upstream on hyper's server: HTTP/1.1, or HTTP/2 if ALPN chooses it.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;

use super::listen::{Accepted, Listening, Peer, listen};

/// The body of a response.
pub type ServiceBody = UnsyncBoxBody<Bytes, Infallible>;

/// The builder of a service: `service().tls(config).run(respond)`.
#[derive(Default)]
pub struct Service {
    tls: Option<Arc<ServerConfig>>,
}

/// A service without TLS, which uses HTTP/1.1.
pub fn service() -> Service {
    Service::default()
}

impl Service {
    /// Uses this TLS configuration, which [`server_config`](super::tls::server_config) makes.
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Responds to each request after its body has arrived.
    pub fn run(
        self,
        response: impl Fn(&request::Parts, &Peer) -> Response<ServiceBody> + Send + Sync + 'static,
    ) -> Listening {
        let response = Arc::new(response);
        listen(self.tls, move |accepted| respond_all(accepted, Arc::clone(&response)))
    }
}

async fn respond_all(
    accepted: Accepted,
    response: Arc<impl Fn(&request::Parts, &Peer) -> Response<ServiceBody> + Send + Sync + 'static>,
) {
    let Accepted { stream, peer, is_http2 } = accepted;
    let service = service_fn(move |request: Request<Incoming>| {
        let (peer, response) = (peer.clone(), Arc::clone(&response));
        async move {
            let (head, body) = request.into_parts();
            body.collect().await?;
            Ok::<_, hyper::Error>(response(&head, &peer))
        }
    });
    // The client may leave at any time.
    let io = TokioIo::new(stream);
    if is_http2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}
