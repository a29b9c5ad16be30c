//! A request whose upstream has not answered, with all that it needs and its record.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::attempt::Accepted;
use super::respond;
use crate::error::{Kind, Result};
use crate::meter::ResponsePolicy;
use crate::record::Entry;

/// A request under way.
pub(super) type Sending = Pin<Box<dyn Future<Output = Result<Accepted>>>>;

/// Waits for the answer. Dropped before it is here, since the client has left, it stops the
/// upstream, or goes on in a task of its own, as the user chose.
pub(super) struct PendingResponse {
    send: Sending,
    /// `None` once there is an answer, or somebody else waits for it.
    entry: Option<Entry>,
    policy: ResponsePolicy,
}

impl PendingResponse {
    pub(super) fn new(send: Sending, entry: Entry, policy: ResponsePolicy) -> Self {
        Self { send, entry: Some(entry), policy }
    }

    /// The record, while there is no answer.
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// Puts the reason why the client is given up into the record.
    pub(super) fn explain(&mut self, reason: String) {
        if let Some(entry) = &mut self.entry {
            entry.row().error = Some(reason.into());
        }
    }

    /// Gives the request up, since the process is stopping: its upstream is told at once, and the
    /// next poll says so.
    pub(super) fn stop(&mut self) {
        self.send = Box::pin(std::future::ready(Err(Kind::Stopped.into())));
    }

    /// What its answer goes by.
    pub(super) fn policy(&self) -> &ResponsePolicy {
        &self.policy
    }
}

impl Future for PendingResponse {
    type Output = (Result<Accepted>, Entry);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.send.as_mut().poll(cx));
        let entry = self.entry.take().expect("polled after it was ready");
        Poll::Ready((result, entry))
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        if let (Some(entry), Some(drains)) = (self.entry.take(), &self.policy.drains) {
            let send = std::mem::replace(&mut self.send, Box::pin(std::future::pending()));
            let policy = self.policy.clone();
            drains
                .take_over_request(send, entry, |response, entry| respond::meter(response, entry, policy).1);
        }
    }
}
