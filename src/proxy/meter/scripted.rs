//! A body that follows a script, and a record that can be read, for the tests of this module.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::exchange::{Exchange, ResponseFrames};
use super::{Drains, Metered, ResponseMeter, ResponsePolicy};
use crate::llm::usage::Content;
use crate::record::error::{Error, Kind};
use crate::record::{Entry, Journal, UsageRecord, UseObserver};
use crate::support::flow::StreamMetrics;
use crate::support::pieces::{Pieces, Relayed};

/// A chunk with output, the chunk with the counts, and the event that ends the stream.
pub(super) const TOKEN: &str =
    "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
pub(super) const USAGE: &str =
    "data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n";
pub(super) const DONE: &str = "data: [DONE]\n\n";

/// One poll of the body.
#[derive(Clone)]
pub(super) enum Step {
    Data(&'static str),
    /// The body fails.
    Fail(Error),
    /// The upstream sends nothing more.
    Stall,
}

/// Plays its steps, then ends.
pub(super) struct Script {
    steps: VecDeque<Step>,
    /// The body ends with its connection, so that its end is seen only by another poll.
    ends_by_close: bool,
    has_pieces: bool,
    is_dropped: Rc<Cell<bool>>,
}

impl Script {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            ends_by_close: false,
            has_pieces: false,
            is_dropped: Rc::default(),
        }
    }

    /// A script with these pieces, one per poll.
    pub(super) fn data(pieces: impl IntoIterator<Item = &'static str>) -> Self {
        Self::new(pieces.into_iter().map(Step::Data))
    }

    pub(super) fn and(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    pub(super) fn ending_by_close(mut self) -> Self {
        self.ends_by_close = true;
        self
    }

    /// Shows its data as pieces.
    pub(super) fn with_pieces(mut self) -> Self {
        self.has_pieces = true;
        self
    }

    /// True once the body was dropped, which tells the upstream.
    pub(super) fn is_dropped(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.is_dropped)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.is_dropped.set(true);
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.steps.pop_front() {
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(data.as_bytes()))))),
            Some(Step::Fail(error)) => Poll::Ready(Some(Err(error))),
            Some(Step::Stall) => {
                self.steps.push_front(Step::Stall);
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && !self.ends_by_close
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl ResponseFrames for Script {
    fn read_at(&self) -> Instant {
        Instant::now()
    }

    fn ends_by_close(&self) -> bool {
        self.ends_by_close
    }

    fn as_pieces(&mut self) -> Option<&mut dyn Pieces<Error = Error>> {
        if self.has_pieces { Some(self) } else { None }
    }
}

impl Pieces for Script {
    type Error = Error;

    fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        show: &mut dyn FnMut(&[u8], Instant) -> ControlFlow<()>,
    ) -> Poll<Relayed<Error>> {
        loop {
            match ready!(Pin::new(&mut *self).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let flow = show(frame.data_ref().unwrap(), Instant::now());
                    if self.is_end_stream() {
                        return Poll::Ready(Relayed::Whole(None));
                    } else if flow.is_break() {
                        return Poll::Ready(Relayed::Full);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Relayed::Failed(error)),
                None => return Poll::Ready(Relayed::Whole(None)),
            }
        }
    }
}

/// A journal with one request: `POST` to `endpoint`.
pub(super) struct Scene {
    pub(super) journal: Journal,
    endpoint: &'static str,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self { journal: Journal::new(8), endpoint: "chat/completions" }
    }

    pub(super) fn at(endpoint: &'static str) -> Self {
        Self { endpoint, ..Self::new() }
    }

    pub(super) fn entry(&self) -> Entry {
        let mut entry = Entry::open(&self.journal, &"anonymous".into());
        entry.row().method = Some(Method::POST);
        entry.row().endpoint = Some(self.endpoint.into());
        entry
    }

    /// An event stream under status 200.
    pub(super) fn events(&self, script: Script) -> Box<Exchange<Script>> {
        self.exchange(script, Content::Events, 200)
    }

    pub(super) fn exchange(&self, script: Script, content: Content, status: u16) -> Box<Exchange<Script>> {
        let status = StatusCode::from_u16(status).unwrap();
        Exchange::new(script, content.into(), self.entry(), status, None)
    }

    /// The body for the client of an event stream. If the client leaves, `drains` read the rest.
    pub(super) fn metered(&self, script: Script, drains: Option<Drains>) -> Metered<Script> {
        let policy = ResponsePolicy::new(StreamMetrics::default().into(), drains);
        let meter = ResponseMeter::from(Content::Events);
        Metered::new(script, meter, self.entry(), StatusCode::OK, policy)
    }

    /// The same for a response that a limit ends after this number of events.
    pub(super) fn metered_until(&self, events: u64, script: Script) -> Metered<Script> {
        let policy = ResponsePolicy::new(StreamMetrics::default().into(), None);
        let meter = ResponseMeter::from(Content::Events);
        let mut entry = self.entry();
        entry.observe(Box::new(CutAfter(events)));
        Metered::new(script, meter, entry, StatusCode::OK, policy)
    }

    /// The only record, which is closed.
    pub(super) fn record(&self) -> UsageRecord {
        let mut records = self.journal.take();
        assert_eq!(records.len(), 1, "a record is closed exactly once");
        records.remove(0)
    }

    /// Returns true if no record is closed yet.
    pub(super) fn is_open(&self) -> bool {
        self.journal.take().is_empty()
    }
}

/// Ends a response after this number of events.
#[derive(Debug)]
struct CutAfter(u64);

impl UseObserver for CutAfter {
    fn on_progress(&mut self, events: u64, _: Option<u64>) -> Option<Error> {
        (events >= self.0).then(|| Kind::BudgetExhausted(Box::default()).into())
    }

    fn on_end(&mut self) {}

    fn on_close(self: Box<Self>, _: &UsageRecord) {}
}

/// The error of a truncated response.
pub(super) fn truncated() -> Error {
    Kind::Truncated.at("up").because("it hung up")
}
