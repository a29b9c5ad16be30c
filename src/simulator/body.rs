//! A response's body: events at their times, and the fault in the directions.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::directions::{FaultKind, Point};
use super::play::Play;
use super::tally::{Running, Tally, Tokens};
use super::wire::{Ending, Order};

/// The memory allocated for events without a pause between them; each is a slice of it.
const BLOCK_BYTES: usize = 32 * 1024;

/// The memory for an event besides its text. It grows if necessary.
const EVENT_BYTES: usize = 1024;

/// The body of any response.
pub(super) enum SimulatorBody {
    /// A whole body. `None` after it has been taken.
    Whole(Option<Bytes>),
    /// An unstreamed response with a fault.
    Broken(Broken),
    /// A stream of events.
    Stream(Box<Stream>),
}

/// A body that declares more bytes than it sends.
pub(super) struct Broken {
    /// The bytes that are sent. `None` after they were taken.
    pub(super) start: Option<Bytes>,
    /// The value of `content-length`.
    pub(super) length: u64,
    pub(super) fault: FaultKind,
    pub(super) order: Order,
}

/// A stream of events.
pub(super) struct Stream {
    play: Arc<Play>,
    /// The next event.
    next: u64,
    /// The place of the fault, if any.
    fault: Option<(FaultKind, Point)>,
    clock: Option<Clock>,
    /// Written, but not passed on yet.
    written: BytesMut,
    reported: Option<Tokens>,
    /// True if all events are written.
    ended: bool,
    /// True if the simulator ends the connection.
    failed: bool,
    is_repeated: bool,
    tally: Arc<Tally>,
    order: Order,
    /// The request runs until its last event.
    running: Option<Arc<Running>>,
}

/// The times of events: each a whole number of steps after the first, so that a late event delays
/// no other.
struct Clock {
    start: Instant,
    sleep: Pin<Box<Sleep>>,
}

/// The result of [`Stream::advance`].
enum Step {
    Wrote,
    /// Nothing is due before the clock's next step, or ever.
    Waiting,
    /// The fault is due. All bytes written before must be passed on first.
    Fault(FaultKind),
    Ended,
}

impl Stream {
    pub(super) fn new(play: Arc<Play>, tally: Arc<Tally>, order: Order) -> Self {
        let start = Point { events: 0, bytes: 0 };
        // Only an error can lack a place here: the other faults came before the headers.
        let fault = play.directions().fault.map(|fault| (fault.kind, fault.at.unwrap_or(start)));
        tally.stream();
        Self {
            play,
            next: 0,
            fault,
            clock: None,
            written: BytesMut::new(),
            reported: None,
            ended: false,
            failed: false,
            is_repeated: false,
            tally,
            order,
            running: None,
        }
    }

    /// Counts the request as running until the stream ends.
    pub(super) fn running(mut self, running: Arc<Running>) -> Self {
        self.running = Some(running);
        self
    }

    fn end(&mut self) {
        self.ended = true;
        self.running = None;
    }

    /// The stream from an event on, for a client that has seen the earlier ones: its usage is
    /// already counted.
    pub(super) fn again(mut self, from: u64) -> Self {
        self.next = from.min(self.play.events());
        self.is_repeated = true;
        self
    }

    /// Writes the next event if it is due.
    fn advance(&mut self, cx: &mut Context<'_>) -> Step {
        if self.ended {
            return Step::Ended;
        }
        if self.fault.is_some_and(|(_, at)| at.events == self.next && at.bytes == 0) {
            return Step::Fault(self.fault.expect("just seen").0);
        }
        if self.next == self.play.events() {
            self.end();
            return Step::Ended;
        }
        if self.poll_due(cx).is_pending() {
            return Step::Waiting;
        }
        self.write_event();
        Step::Wrote
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pace = self.play.directions().pace;
        if pace.is_zero() {
            return Poll::Ready(());
        }
        let clock = self.clock.get_or_insert_with(|| {
            let start = Instant::now();
            Clock { start, sleep: Box::pin(tokio::time::sleep_until(start)) }
        });
        // In nanoseconds, since a Duration can be multiplied by 32 bits only. After 584 years it
        // never comes.
        let nanos = (pace.as_nanos() as u64).saturating_mul(self.next);
        let due = clock.start + std::time::Duration::from_nanos(nanos);
        if Instant::now() >= due {
            return Poll::Ready(());
        }
        clock.sleep.as_mut().reset(due);
        clock.sleep.as_mut().poll(cx)
    }

    fn write_event(&mut self) {
        let directions = self.play.directions();
        let room = directions.size + EVENT_BYTES;
        if self.written.capacity() - self.written.len() < room {
            // A stream with pauses keeps little memory.
            self.written.reserve(if directions.pace.is_zero() { room.max(BLOCK_BYTES) } else { room });
        }
        let stamp = directions.stamp.then(nanoseconds);
        let start = self.written.len();
        let tokens = self.play.write(self.next, stamp, &mut self.written);
        if let Some((_, at)) = &mut self.fault
            && at.events == self.next
        {
            // Never the whole event: the fault is inside.
            let whole = self.written.len() - start;
            self.written.truncate(start + at.bytes.min(whole - 1));
            *at = Point { events: at.events + 1, bytes: 0 };
        } else if let Some(tokens) = tokens.filter(|_| !self.is_repeated) {
            self.tally.report(self.reported.replace(tokens), tokens);
        }
        self.next += 1;
    }

    /// Executes the fault. `None` if no bytes follow.
    fn fail(&mut self, kind: FaultKind) -> Option<Bytes> {
        match ending(kind) {
            Some(ending) => {
                self.failed = true;
                self.order.give(ending);
            }
            None if kind == FaultKind::Silence => {}
            None => {
                self.end();
                self.play.write_error(self.next, &mut self.written);
                return Some(self.written.split().freeze());
            }
        }
        None
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let chunk = self.play.directions().chunk;
        loop {
            if chunk > 0 && self.written.len() >= chunk {
                return Poll::Ready(Some(self.written.split_to(chunk).freeze()));
            }
            let step = self.advance(cx);
            if matches!(step, Step::Wrote) && chunk > 0 {
                continue;
            }
            if !self.written.is_empty() {
                return Poll::Ready(Some(self.written.split().freeze()));
            }
            return match step {
                // The event has no bytes before its fault.
                Step::Wrote => continue,
                Step::Waiting => Poll::Pending,
                Step::Ended => Poll::Ready(None),
                Step::Fault(kind) => self.fail(kind).map_or(Poll::Pending, |error| Poll::Ready(Some(error))),
            };
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended && !self.failed {
            self.tally.cancelled();
        }
    }
}

impl Body for SimulatorBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Broken(broken) => Some(ready!(broken.poll())),
            Self::Stream(stream) => ready!(stream.poll_piece(cx)),
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Broken(broken) => SizeHint::with_exact(broken.length),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

impl Broken {
    fn poll(&mut self) -> Poll<Bytes> {
        if let Some(start) = self.start.take().filter(|start| !start.is_empty()) {
            return Poll::Ready(start);
        }
        if let Some(ending) = ending(self.fault) {
            self.order.give(ending);
        }
        // The following flush executes the order; no task needs to be woken.
        Poll::Pending
    }
}

/// The way in which that fault ends the connection, if it does.
pub(super) fn ending(fault: FaultKind) -> Option<Ending> {
    match fault {
        FaultKind::Cut => Some(Ending::Close),
        FaultKind::Reset => Some(Ending::Reset),
        FaultKind::Garbage => Some(Ending::Garbage),
        FaultKind::Silence | FaultKind::Error => None,
    }
}

/// Nanoseconds since 1970.
pub(super) fn nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}
