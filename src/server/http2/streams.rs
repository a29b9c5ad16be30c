//! The tasks of a connection's streams, which are woken to stop.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The tasks. Clones share the list.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Rc<RefCell<Vec<Option<Waker>>>>);

impl Streams {
    /// Runs a stream in a task of its own.
    pub(super) fn spawn(&self, stream: impl Future<Output = ()> + 'static) {
        // Boxed first, since a task reserves space for its captures and for the future that it
        // awaits.
        let (streams, stream) = (self.clone(), Box::pin(stream));
        tokio::task::spawn_local(async move {
            let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            let _listed = streams.list(waker);
            stream.await;
        });
    }

    pub(super) fn wake(&self) {
        self.0.borrow().iter().flatten().for_each(Waker::wake_by_ref);
    }

    /// Lists a task until the guard is dropped.
    fn list(&self, waker: Waker) -> Listed {
        let mut wakers = self.0.borrow_mut();
        let place = wakers.iter().position(Option::is_none).unwrap_or(wakers.len());
        if place == wakers.len() {
            wakers.push(None);
        }
        wakers[place] = Some(waker);
        Listed { streams: self.clone(), place }
    }
}

/// A listed task. Free slots are reused, so the list is as long as the largest number of streams at
/// once.
struct Listed {
    streams: Streams,
    place: usize,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.streams.0.borrow_mut()[self.place] = None;
    }
}
