//! A request body that passes through without being buffered: counted, with limits of its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::client_body::{BodyLimits, incomplete};
use super::pace::{Pace, Wait};
use crate::llm::rewrite::form::Form;
use crate::record::FormNotes;
use crate::record::error::{Error, Kind, Result};
use crate::server::RequestBody;
use crate::support::flow::Limit;
use crate::support::memory::{MemoryHold, MemoryPart};

/// The memory of a body that passes: one read that the upstream has not accepted.
const ONE_READ: usize = 64 << 10;

/// The body, or the rest after a buffered beginning.
pub(super) struct Passing {
    body: RequestBody,
    limits: BodyLimits,
    pace: Pace,
    /// The bytes that the client has sent.
    seen: Rc<Cell<u64>>,
    /// The buffered beginning, after its edits.
    ahead: VecDeque<Bytes>,
    watched: Option<Box<Watched>>,
    _memory: MemoryHold,
}

/// A form that is read while it passes.
pub(super) struct Watched {
    pub(super) form: Form,
    /// The record's copy of the fields.
    pub(super) notes: Rc<RefCell<FormNotes>>,
    /// The first model decided the route or was renamed. A second one is refused, since some
    /// servers would use that.
    pub(super) has_decided: bool,
}

impl Passing {
    /// `seen` counts the bytes, and already counts a buffered beginning.
    ///
    /// # Errors
    /// The declared length exceeds the limit.
    pub(super) fn new(body: RequestBody, limits: &BodyLimits, seen: Rc<Cell<u64>>) -> Result<Self> {
        limits.check_passing(seen.get() + body.size_hint().lower())?;
        let memory = limits.budget.memory().hold(MemoryPart::Requests).of(ONE_READ);
        let (pace, limits) = (Pace::new(limits.min_rate), limits.clone());
        Ok(Self { body, limits, pace, seen, ahead: VecDeque::new(), watched: None, _memory: memory })
    }

    /// Reads the fields of a form while it passes.
    pub(super) fn watched(mut self, watched: Watched) -> Self {
        self.watched = Some(Box::new(watched));
        self
    }

    /// Sends these pieces before the rest.
    pub(super) fn begin_with(&mut self, pieces: &[Bytes]) {
        self.ahead = pieces.iter().filter(|piece| !piece.is_empty()).cloned().collect();
    }
}

impl Watched {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.form.push(bytes);
        if self.has_decided && self.form.fields().model_is_duplicate {
            return Err(Kind::ModelAmbiguous.into());
        }
        self.note();
        Ok(())
    }

    fn end(&mut self) {
        self.form.end();
        self.note();
    }

    fn note(&self) {
        let fields = self.form.fields();
        let mut notes = self.notes.borrow_mut();
        let FormNotes { model, user } = &mut *notes;
        for (noted, said) in [(model, fields.model.as_deref()), (user, fields.user())] {
            if noted.as_deref() != said {
                *noted = said.map(Into::into);
            }
        }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        if let Some(piece) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => match self.pace.poll(cx) {
                Wait::On(_) => return Poll::Pending,
                Wait::Over(error) => {
                    self.limits.budget.count(Limit::BodyRate);
                    return Poll::Ready(Some(Err(error)));
                }
            },
            Poll::Ready(None) => {
                if let Some(watched) = &mut self.watched {
                    watched.end();
                }
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(incomplete(&error)))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.pace.heard(bytes);
        let seen = self.seen.get() + bytes as u64;
        self.seen.set(seen);
        let mut checked = self.limits.check_passing(seen);
        if let (Some(watched), Some(data)) = (&mut self.watched, frame.data_ref()) {
            checked = checked.and_then(|()| watched.push(data));
        }
        Poll::Ready(Some(checked.map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.iter().map(Bytes::len).sum::<usize>() as u64;
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}
