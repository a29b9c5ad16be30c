//! A request's body on its way from the connection that reads it to the handler. Both are on one
//! thread, and mostly in one task.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::codec::h1::{BodyDecoder, Decoded, Framing, ProtocolError};

/// The body of an HTTP/1.1 request. Only the bytes that came with the head are read before it is
/// polled.
pub struct Http1RequestBody(Source);

/// The origin of the body.
enum Source {
    /// The body came with the head, as most do. Needs no channel.
    Whole {
        data: Option<Bytes>,
        is_sized: bool,
    },
    Channel(Rc<BodyChannel>),
}

/// The connection's end of the channel.
pub(super) struct BodyReader {
    channel: Rc<BodyChannel>,
    decoder: BodyDecoder,
    /// The client waits for `100 Continue`.
    expects_continue: bool,
}

/// Holds at most one frame, or the buffer that the next bytes are appended to.
#[derive(Default)]
struct BodyChannel {
    frame: Cell<Option<Bytes>>,
    /// The handler's buffer, lent while it waits.
    buffer: Cell<Option<BytesMut>>,
    /// The step after the frame.
    rest: Cell<Rest>,
    /// The request has a `Content-Length`, or no body.
    is_sized: bool,
    /// Wakes the handler, which found no frame.
    wanted: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Default)]
enum Rest {
    /// This many bytes.
    Length(u64),
    /// An unknown number of bytes.
    #[default]
    Unknown,
    Failed(Failure),
}

#[derive(Clone, Copy)]
enum Failure {
    /// The client left before the end of its body.
    Left,
    Malformed(ProtocolError),
}

impl BodyReader {
    /// Both ends of a body with this framing, of which `rest` has come with the head, and the number
    /// of bytes that belong to the body. No reader: that is all of it.
    pub(super) fn begin(
        framing: Framing,
        expects_continue: bool,
        rest: &mut [u8],
    ) -> (Option<Self>, Http1RequestBody, usize) {
        let is_sized = framing != Framing::Chunked;
        let mut decoder = BodyDecoder::new(framing);
        let decoded = if rest.is_empty() { None } else { Some(decoder.decode(rest)) };
        if decoder.is_done() {
            let Decoded { data, consumed } = decoded.and_then(Result::ok).unwrap_or_default();
            let data = (!data.is_empty()).then(|| Bytes::copy_from_slice(&rest[data]));
            return (None, Http1RequestBody(Source::Whole { data, is_sized }), consumed);
        }
        let channel = Rc::new(BodyChannel { is_sized, ..BodyChannel::default() });
        let mut reader = Self { channel: Rc::clone(&channel), decoder, expects_continue };
        reader.tell_rest();
        let used = decoded.map_or(0, |decoded| reader.give(rest, decoded));
        (Some(reader), Http1RequestBody(Source::Channel(channel)), used)
    }

    /// Returns true if the whole body has arrived.
    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// Returns true if the handler waits for a part of the body that has not arrived.
    pub(super) fn is_wanted(&self) -> bool {
        !self.is_done() && self.channel.wanted.borrow().is_some()
    }

    /// Returns true if the handler has dropped the body.
    pub(super) fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.channel) == 1
    }

    /// Returns true if `100 Continue` is due. True once.
    pub(super) fn take_expectation(&mut self) -> bool {
        std::mem::take(&mut self.expects_continue)
    }

    /// Decodes bytes from the connection; returns how many belong to the body.
    pub(super) fn feed(&mut self, buf: &mut [u8]) -> usize {
        let decoded = self.decoder.decode(buf);
        self.give(buf, decoded)
    }

    /// Gives the handler what was decoded from `buf`.
    fn give(&mut self, buf: &[u8], decoded: Result<Decoded, ProtocolError>) -> usize {
        self.expects_continue = false;
        let decoded = decoded.and_then(|decoded| {
            let data = &buf[decoded.data];
            if let Some(mut buffer) = self.channel.buffer.take() {
                buffer.extend_from_slice(data);
                self.channel.buffer.set(Some(buffer));
            } else if !data.is_empty() {
                self.channel.frame.set(Some(Bytes::copy_from_slice(data)));
            }
            // Reports an error directly after that payload.
            self.decoder.failure().map_or(Ok(decoded.consumed), Err)
        });
        match decoded {
            Ok(_) => self.tell_rest(),
            Err(error) => self.channel.rest.set(Rest::Failed(Failure::Malformed(error))),
        }
        decoded.unwrap_or(buf.len())
    }

    /// Lets `read` append directly to the handler's buffer, if it is lent and all following bytes
    /// belong to the body. Returns the number of bytes read.
    pub(super) fn read_to_buffer(
        &mut self,
        read: impl FnOnce(&mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>>,
    ) -> Option<Poll<io::Result<usize>>> {
        let left = self.decoder.remaining().filter(|_| self.channel.is_sized)?;
        let mut buffer = self.channel.buffer.take()?;
        let before = buffer.len();
        let read = read(&mut (&mut buffer).limit(usize::try_from(left).unwrap_or(usize::MAX)));
        // A `Content-Length` body cannot be malformed, so the result is ignored.
        let _ = self.decoder.decode(&mut buffer[before..]);
        self.channel.buffer.set(Some(buffer));
        self.tell_rest();
        Some(read)
    }

    /// The client sends nothing more.
    pub(super) fn end(&self) {
        self.channel.rest.set(Rest::Failed(Failure::Left));
    }

    fn tell_rest(&self) {
        self.channel.rest.set(self.decoder.remaining().map_or(Rest::Unknown, Rest::Length));
    }

    /// Wakes the handler, unless it is in the task that polls this.
    pub(super) fn tell(&self, cx: &Context<'_>) {
        if let Some(waker) = self.channel.wanted.take().filter(|waker| !waker.will_wake(cx.waker())) {
            waker.wake();
        }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        if !self.is_done() && !matches!(self.channel.rest.get(), Rest::Failed(_)) {
            self.channel.rest.set(Rest::Failed(Failure::Left));
            if let Some(waker) = self.channel.wanted.take() {
                waker.wake();
            }
        }
    }
}

impl Http1RequestBody {
    /// Takes a body that came with its head. `None`: it is read as it is polled.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Source::Whole { data, .. } => data.take(),
            Source::Channel(_) => None,
        }
    }

    pub(in crate::server) fn is_whole(&self) -> bool {
        matches!(&self.0, Source::Whole { data: Some(_), .. })
    }

    /// Appends the next bytes to `all`, and lends `all` to the connection while none are there.
    /// `None`: the body is complete.
    ///
    /// While this is pending, `all` is empty. Bytes in a lent buffer are lost if this is not polled
    /// again.
    pub fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        all: &mut BytesMut,
    ) -> Poll<Option<Result<(), io::Error>>> {
        let Source::Channel(channel) = &self.0 else {
            return match ready!(Pin::new(&mut *self).poll_frame(cx)) {
                Some(frame) => {
                    frame?.into_data().into_iter().for_each(|data| all.extend_from_slice(&data));
                    Poll::Ready(Some(Ok(())))
                }
                None => Poll::Ready(None),
            };
        };
        let channel = Rc::clone(channel);
        let was_lent = channel.buffer.take().map(|buffer| *all = buffer).is_some();
        let has_come = was_lent && channel.wanted.borrow().is_none();
        match Pin::new(&mut *self).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                frame.into_data().into_iter().for_each(|data| all.extend_from_slice(&data));
                Poll::Ready(Some(Ok(())))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) if !has_come => Poll::Ready(None),
            Poll::Ready(None) => Poll::Ready(Some(Ok(()))),
            Poll::Pending if has_come => Poll::Ready(Some(Ok(()))),
            Poll::Pending => {
                all.reserve(1);
                channel.buffer.set(Some(std::mem::take(all)));
                Poll::Pending
            }
        }
    }
}

impl Drop for Http1RequestBody {
    /// Takes back the waker and the lent buffer.
    fn drop(&mut self) {
        if let Source::Channel(channel) = &self.0 {
            channel.wanted.take();
            channel.buffer.take();
        }
    }
}

impl Body for Http1RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let channel = match &mut self.0 {
            Source::Whole { data, .. } => return Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            Source::Channel(channel) => channel,
        };
        if let Some(data) = channel.frame.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match channel.rest.get() {
            Rest::Length(0) => Poll::Ready(None),
            Rest::Failed(Failure::Left) => {
                Poll::Ready(Some(Err(io::Error::other("the client left inside its request"))))
            }
            Rest::Failed(Failure::Malformed(error)) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Rest::Length(_) | Rest::Unknown => {
                channel.wanted.borrow_mut().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole { data, .. } => data.is_none(),
            Source::Channel(channel) => {
                channel.waiting() == 0 && matches!(channel.rest.get(), Rest::Length(0))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole { data, is_sized: true } => {
                SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Channel(channel) => match channel.rest.get() {
                Rest::Length(rest) if channel.is_sized => SizeHint::with_exact(rest + channel.waiting()),
                _ => SizeHint::default(),
            },
            Source::Whole { .. } => SizeHint::default(),
        }
    }
}

impl BodyChannel {
    /// The length of the frame in the channel.
    fn waiting(&self) -> u64 {
        let frame = self.frame.take();
        let length = frame.as_ref().map_or(0, Bytes::len) as u64;
        self.frame.set(frame);
        length
    }
}

impl fmt::Debug for Http1RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1RequestBody").finish_non_exhaustive()
    }
}
