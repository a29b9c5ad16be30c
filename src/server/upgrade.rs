//! A client's connection after a response with status 101.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

/// A client's connection, with or without TLS.
pub type ClientStream = Box<dyn Duplex>;

/// Serves an upgraded connection until it ends.
pub struct Upgrade(Box<dyn FnOnce(ClientStream, Bytes) -> Running>);

type Running = Pin<Box<dyn Future<Output = ()>>>;

impl Upgrade {
    /// `run` gets the connection after the response is written, with the bytes that were read
    /// behind the request. The connection is dropped if the response is never written.
    pub fn new<F: Future<Output = ()> + 'static>(
        run: impl FnOnce(ClientStream, Bytes) -> F + 'static,
    ) -> Self {
        Self(Box::new(|stream, first| Box::pin(run(stream, first))))
    }

    pub(super) async fn run(self, stream: ClientStream, first: Bytes) {
        (self.0)(stream, first).await;
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}
