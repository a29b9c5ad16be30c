//! One HTTP/1.1 connection: reads, handles and responds to one request after another.
//!
//! Every byte of a client passes here, so the server half is our own
//! ([`crate::codec::h1::server`]): unlike hyper's, it holds no buffer while a stream waits, and
//! passes requests and responses on without a channel.

mod bell;
mod body;
mod buffers;
mod peer;
mod response;
mod unsent;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::conn_state::{ConnCommand, ConnState};
use super::connection::WorkerContext;
use super::disconnect::{Socket, has_bytes};
use super::in_flight::{Guard, InFlightBody};
use super::{ClientRequest, Handler, RequestBody, Upgrade, http2};
use crate::codec::h1::server::{BadRequest, RequestFraming};
use crate::record::error::{Error, Kind};
use crate::support::flow::Limit;
use crate::tls::ClientCertificate;
pub use body::Http1RequestBody;
pub(super) use buffers::Buffers;
use peer::{Peer, read_once};
use response::{Cut, ResponseWriter};

/// The time for which the bytes of a client that still sends when its connection is closed are read
/// and discarded, so that it can read its response (RFC 9112 section 9.6): many clients send their
/// whole body first. The connection keeps its place meanwhile, and is among the first to be
/// evicted. This and the next constant are nginx's `lingering_time` and `lingering_timeout`.
const LINGER: Duration = Duration::from_secs(30);

/// The longest silence of such a client.
const LINGER_SILENCE: Duration = Duration::from_secs(5);

/// The time for writing the rest of a cut response and discarding the client's bytes.
const CUT: Duration = Duration::from_secs(2);

/// The time for the client to read the last bytes before the connection is reset.
const BEFORE_RESET: Duration = Duration::from_millis(100);

/// Size of the first read, which usually has the whole first head.
const FIRST_READ: usize = 2048;

/// The HTTP/2 connection preface (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client's connection, which may turn out to speak HTTP/2. Every waiting stream has one.
pub(super) struct Connection<S, H> {
    peer: Peer<S>,
    certificate: Option<ClientCertificate>,
    context: Rc<WorkerContext<H>>,
}

/// The next input of a client.
enum Next {
    Request {
        request: ClientRequest,
        framing: RequestFraming,
        /// The client may send another request.
        keep_alive: bool,
    },
    End(End),
}

/// The end of a connection after its last request.
pub(super) enum End {
    /// `lingers`: the client may still be sending.
    Close { lingers: bool },
    /// A head that cannot be accepted.
    Refuse(Error),
    /// The response ended early.
    Cut(Cut),
    /// HTTP has ended on the connection. The last request runs until the upgraded connection ends.
    Upgraded(Upgrade, Guard),
}

impl<S: AsyncRead + AsyncWrite + Socket + Unpin + 'static, H: Handler> Connection<S, H> {
    pub(super) fn new(
        io: S,
        certificate: Option<ClientCertificate>,
        state: Rc<ConnState>,
        context: Rc<WorkerContext<H>>,
    ) -> Self {
        let peer = Peer::new(io, state, Rc::clone(&context.buffers));
        Self { peer, certificate, context }
    }

    /// Reads until the protocol is known, unless ALPN `agreed` on it. Returns whether it is HTTP/2.
    /// `None`: the client has left, or a command ended the connection.
    pub(super) async fn tell_protocol(&mut self, agreed: Option<bool>) -> io::Result<Option<bool>> {
        let Self { peer: Peer { io, state, buffers, unread, .. }, .. } = self;
        poll_fn(|cx| {
            // One task polls a connection for its whole life.
            state.wake_me(cx);
            if state.command().is_some_and(|command| command != ConnCommand::Finish) {
                return Poll::Ready(Ok(None));
            }
            loop {
                let mut buf = buffers.read();
                let read = match read_once(io, cx, &mut buf[..FIRST_READ])? {
                    Poll::Ready(read) => read,
                    Poll::Pending if state.must_end() && !has_bytes(io.tcp()) => {
                        return Poll::Ready(Ok(None));
                    }
                    Poll::Pending => return Poll::Pending,
                };
                unread.extend_from_slice(&buf[..read]);
                if unread.is_empty() {
                    return Poll::Ready(Ok(None));
                }
                if agreed.is_some() {
                    return Poll::Ready(Ok(agreed));
                }
                let seen = unread.len().min(HTTP2_PREFACE.len());
                let is_preface = unread[..seen] == HTTP2_PREFACE[..seen];
                if read == 0 || !is_preface || seen == HTTP2_PREFACE.len() {
                    return Poll::Ready(Ok(Some(is_preface && seen == HTTP2_PREFACE.len())));
                }
            }
        })
        .await
    }

    /// The memory for bytes that are not read yet.
    #[cfg(test)]
    pub(super) fn unread_capacity(&self) -> usize {
        self.peer.unread.capacity()
    }

    /// Serves the connection over HTTP/2.
    pub(super) async fn serve_http2(self) {
        let Self { peer, certificate, context } = self;
        let Peer { io, state, unread, .. } = peer;
        http2::serve(io, unread, certificate, state, context).await;
    }

    /// Handles request after request.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    pub(super) fn run(&mut self) -> impl Future<Output = io::Result<End>> {
        async move {
            loop {
                let (mut handled, running, framing, keep_alive) = {
                    match poll_fn(|cx| self.poll_next(cx)).await? {
                        Next::Request { request, framing, keep_alive } => {
                            let running = self.context.begin(&self.peer.state);
                            let from = self.peer.state.address();
                            let handled = Rc::clone(&self.context.handler).handle(request, from);
                            // Boxed, as a connection reserves space for the largest future that
                            // it ever polled, and streams wait long without one.
                            (self.context.buffers.place(handled), running, framing, keep_alive)
                        }
                        Next::End(end) => return Ok(end),
                    }
                };
                let response = poll_fn(|cx| self.poll_handled(cx, (*handled).as_mut())).await?;
                self.context.buffers.give_back_place(handled);

                let response = response.map(|body| InFlightBody::new(body, running, &self.peer.state));
                let mut writer = ResponseWriter::new(response, framing, keep_alive);
                let switches = writer.switches();
                poll_fn(|cx| self.poll_relay(cx, &mut writer)).await?;
                if switches && let Some((upgrade, running)) = writer.take_upgrade() {
                    return Ok(End::Upgraded(upgrade, running));
                }
                let (kept, cut) = (writer.keeps_connection(), writer.cut());
                drop(writer);
                if let Some(cut) = cut {
                    return Ok(End::Cut(cut));
                }
                let is_read = poll_fn(|cx| Poll::Ready(self.peer.poll_discard_body(cx))).await?;
                if !(kept && is_read) {
                    return Ok(End::Close { lingers: !is_read || !self.peer.unread.is_empty() });
                }
            }
        }
    }

    /// # Errors
    /// The connection is dropped by command, of which its task is notified already.
    fn obey_drop(&self) -> io::Result<()> {
        match self.peer.state.command() {
            Some(ConnCommand::Drop) => Err(io::Error::other("the connection is dropped by command")),
            _ => Ok(()),
        }
    }

    /// Waits for the next head, and reads the part of the body that came with it.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        self.obey_drop()?;
        let end = |end| Poll::Ready(Ok(Next::End(end)));
        let peer = &mut self.peer;
        let mut found = peer.head_in_unread();
        loop {
            match found {
                Ok(None) if peer.state.is_short_of_memory() => {
                    self.context.places.count(Limit::Memory);
                    return end(End::Refuse(Kind::MemoryFull.into()));
                }
                Ok(None) => {}
                Ok(Some((parsed, body))) => {
                    let (framing, keep_alive) = (RequestFraming::new(&parsed.head), parsed.keep_alive);
                    let body = RequestBody::Http1(body);
                    let certificate = self.certificate.clone();
                    let request = ClientRequest { head: parsed.head, body, certificate };
                    return Poll::Ready(Ok(Next::Request { request, framing, keep_alive }));
                }
                Err(error) => return end(End::Refuse(refusal(error))),
            }
            match peer.state.command() {
                Some(ConnCommand::RefuseHead) => {
                    let limit = self.context.limits.get().header_timeout;
                    return end(End::Refuse(Kind::HeadTimeout(limit).into()));
                }
                Some(ConnCommand::Finish) | None => {}
                Some(_) if peer.unread.is_empty() => return end(End::Close { lingers: false }),
                Some(_) => {}
            }
            let mut buf = self.context.buffers.read();
            let read = match peer.poll_read(cx, &mut buf)? {
                Poll::Ready(read) => read,
                // A request that has arrived already is served.
                Poll::Pending
                    if peer.unread.is_empty() && peer.state.must_end() && !has_bytes(peer.io.tcp()) =>
                {
                    return end(End::Close { lingers: false });
                }
                Poll::Pending => return Poll::Pending,
            };
            if read == 0 {
                return end(End::Close { lingers: false });
            }
            found = peer.head_in(&mut buf[..read]);
        }
    }

    /// Polls the handler, and the client meanwhile.
    fn poll_handled<F: Future>(
        &mut self,
        cx: &mut Context<'_>,
        mut handled: Pin<&mut Option<F>>,
    ) -> Poll<io::Result<F::Output>> {
        self.obey_drop()?;
        loop {
            let future = handled.as_mut().as_pin_mut().expect("it is taken back after it was ready");
            if let Poll::Ready(response) = future.poll(cx) {
                return Poll::Ready(Ok(response));
            }
            if self.peer.state.command() == Some(ConnCommand::Stop) {
                return Poll::Ready(Err(io::Error::other("the process is stopping")));
            }
            ready!(self.peer.poll_client(cx))?;
        }
    }

    /// Writes a response as its body comes, and polls the client meanwhile.
    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut ResponseWriter<H::Body>,
    ) -> Poll<io::Result<()>> {
        self.obey_drop()?;
        let peer = &mut self.peer;
        loop {
            if peer.poll_unsent(cx)?.is_pending() {
                ready!(peer.poll_client(cx))?;
                continue;
            }
            if writer.is_gathered() {
                // The rest of a cut response is written within a limit of its own.
                if writer.cut().is_none() {
                    ready!(peer.poll_flush(cx))?;
                }
                return Poll::Ready(Ok(()));
            }
            let mut out = self.context.buffers.take();
            if writer.begins() {
                peer.on_response_start();
                let is_distrusted = self.certificate.as_ref().is_some_and(|shown| shown.name().is_none());
                let closes = is_distrusted || peer.state.command().is_some() || !peer.poll_reusable(cx)?;
                writer.write_head(&mut out, closes);
            }
            let (data, behind) = writer.gather(cx, &mut out, self.context.buffers.gathered());
            let written = peer.poll_write(cx, &out, data, behind);
            self.context.buffers.give_back(out);
            if written?.is_ready() && writer.pauses() {
                // A stream that cannot be flushed has more to write, which wakes this task.
                let _ = peer.poll_flush(cx)?;
                ready!(peer.poll_client(cx))?;
            }
        }
    }

    /// Ends the connection, unless it is dropped by command.
    pub(super) async fn finish(self, end: io::Result<End>) {
        let state = Rc::clone(&self.peer.state);
        let mut finished = pin!(self.finished(end));
        let ended = poll_fn(|cx| match state.command() {
            Some(ConnCommand::Drop) => Poll::Ready(Ok(())),
            _ => finished.as_mut().poll(cx),
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "client connection ended");
        }
    }

    async fn finished(mut self, end: io::Result<End>) -> io::Result<()> {
        match end? {
            End::Close { lingers } => self.close(lingers).await,
            End::Refuse(error) => self.refuse(error).await,
            End::Cut(cut) => self.cut(cut).await,
            End::Upgraded(upgrade, _running) => {
                let (io, first) = self.peer.into_parts();
                upgrade.run(io, first).await;
                Ok(())
            }
        }
    }

    /// Responds to an unacceptable head, and closes the connection.
    async fn refuse(&mut self, error: Error) -> io::Result<()> {
        self.peer.discard_unread();
        let refusal = Bytes::from(self.context.handler.reject_head(error, self.peer.state.address()));
        let refused = poll_fn(|cx| Poll::Ready(self.peer.poll_write(cx, b"", refusal.clone(), b"")));
        let _ = refused.await?;
        self.close(true).await
    }

    /// Ends the connection after a response that ended early. A client that does not take the rest
    /// in time loses it.
    async fn cut(&mut self, cut: Cut) -> io::Result<()> {
        match cut {
            Cut::Close => {
                let _ = timeout(CUT, self.close(true)).await;
            }
            Cut::Reset => {
                let _ = timeout(CUT, poll_fn(|cx| self.peer.poll_flush(cx))).await;
                // A reset discards bytes in flight.
                sleep(BEFORE_RESET).await;
                self.peer.reset_on_drop()?;
            }
        }
        Err(io::Error::other("the response ended early"))
    }

    /// Closes the connection once everything is written. `lingers`: the client may still be
    /// sending.
    async fn close(&mut self, lingers: bool) -> io::Result<()> {
        poll_fn(|cx| self.peer.poll_close(cx, lingers)).await?;
        if lingers {
            let _ = timeout(LINGER, self.peer.linger(LINGER_SILENCE)).await;
        }
        Ok(())
    }
}

fn refusal(error: BadRequest) -> Error {
    let kind = match error {
        BadRequest::Malformed(error) => {
            tracing::debug!(?error, "a request could not be read");
            Kind::MalformedHead
        }
        BadRequest::TargetTooLong => Kind::UriTooLong,
        BadRequest::HeadTooLarge => Kind::HeadTooLarge,
    };
    kind.into()
}
