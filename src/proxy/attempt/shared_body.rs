//! A request body that passes through, for several attempts: as long as no byte of it was taken,
//! the next attempt can begin with it.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::passing::Passing;
use crate::record::error::Error;

/// Clones are the same body. One of them is polled at a time: that of the current attempt.
#[derive(Clone)]
pub(in crate::proxy) struct SharedBody(Rc<RefCell<Shared>>);

struct Shared {
    body: Box<Passing>,
    is_taken: bool,
}

impl SharedBody {
    pub(in crate::proxy) fn new(body: Box<Passing>) -> Self {
        Self(Rc::new(RefCell::new(Shared { body, is_taken: false })))
    }

    /// An attempt took bytes of the body.
    pub(in crate::proxy) fn is_taken(&self) -> bool {
        self.0.borrow().is_taken
    }

    /// Sends these pieces before the rest.
    pub(in crate::proxy) fn begin_with(&self, pieces: &[Bytes]) {
        self.0.borrow_mut().body.begin_with(pieces);
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let shared = &mut *self.0.borrow_mut();
        let polled = Pin::new(&mut *shared.body).poll_frame(cx);
        shared.is_taken |= polled.is_ready();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.borrow().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().body.size_hint()
    }
}
