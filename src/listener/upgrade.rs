//! What goes on with a client's connection after an answer with status 101.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

/// A client's connection, plain or through TLS.
pub type ClientStream = Box<dyn Duplex>;

/// Takes the connection over, and ends with it.
pub struct Upgrade(Box<dyn FnOnce(ClientStream, Bytes) -> Running>);

type Running = Pin<Box<dyn Future<Output = ()>>>;

impl Upgrade {
    /// `run` gets the connection once the answer is written, and what was read of it beyond the
    /// request. Where the answer never is, the connection is dropped.
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
