//! An HTTP/2 upstream on h2's own server, plain or over TLS; and a client on hyper's.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use http_body::Body;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::listen::{Listening, listen};

/// The limits of the server; `Http2::default().run(script)`.
#[derive(Clone, Default)]
pub struct Http2 {
    pub max_streams: Option<u32>,
    /// Sends GOAWAY after this many requests of a connection.
    pub go_away_after: Option<usize>,
    pub tls: Option<Arc<ServerConfig>>,
}

/// One request, and the handle for its response.
pub struct Exchange {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
}

impl Exchange {
    /// The whole body.
    pub async fn body(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(Ok(data)) = self.request.body_mut().data().await {
            let _ = self.request.body_mut().flow_control().release_capacity(data.len());
            all.extend_from_slice(&data);
        }
        all
    }

    /// Sends the head of the response.
    pub fn head(&mut self, status: u16, headers: &[(&str, &str)], last: bool) -> SendStream<Bytes> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        self.respond.send_response(response.body(()).unwrap(), last).unwrap()
    }

    /// Responds with a body.
    pub async fn respond(&mut self, content_type: &str, body: &[u8]) {
        let mut stream = self.head(200, &[("content-type", content_type)], false);
        write(&mut stream, body.to_vec()).await;
        let _ = stream.send_data(Bytes::new(), true);
    }
}

/// Sends as the windows allow. Returns the number of bytes, less if the stream ends.
pub async fn write(stream: &mut SendStream<Bytes>, data: impl Into<Bytes>) -> usize {
    let mut data = data.into();
    let mut sent = 0;
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return sent,
            }
        }
        let piece = data.split_to(stream.capacity().min(data.len()));
        sent += piece.len();
        if stream.send_data(piece, false).is_err() {
            return sent;
        }
    }
    sent
}

impl Http2 {
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Runs `script` for each request, in a task of its own.
    pub fn run<F>(self, script: impl Fn(Exchange) -> F + Send + Sync + 'static) -> Listening
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let script = Arc::new(script);
        listen(self.tls.clone(), move |accepted| self.clone().serve(accepted.stream, Arc::clone(&script)))
    }

    async fn serve<F>(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin,
        script: Arc<impl Fn(Exchange) -> F + Send + Sync + 'static>,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut builder = server::Builder::new();
        if let Some(max) = self.max_streams {
            builder.max_concurrent_streams(max);
        }
        let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
        let mut requests = 0;
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(script(Exchange { request, respond }));
            requests += 1;
            if Some(requests) == self.go_away_after {
                connection.graceful_shutdown();
            }
        }
    }
}

/// A client of the proxy at `address`, and the task that drives its connection.
pub async fn http2_client<B>(address: SocketAddr) -> (SendRequest<B>, JoinHandle<hyper::Result<()>>)
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin + Send + 'static,
{
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
    (sender, tokio::spawn(connection))
}
