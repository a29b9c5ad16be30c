//! A request whose upstream has not responded, with its record.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::attempt::Accepted;
use super::respond;
use crate::proxy::meter::ResponsePolicy;
use crate::record::Entry;
use crate::record::error::{Error, Kind, Result};
use crate::support::CutSwitch;

/// The attempts at a request.
pub(super) type Sending = Pin<Box<dyn Future<Output = Result<Accepted>>>>;

/// The state of the attempts, which decides about a request whose client leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SendState {
    #[default]
    Sending,
    /// The request is in the queue of its group, and leaves it with the client.
    Waiting,
    /// The client has left a request that a drain continues: no further attempt begins.
    Abandoned,
}

/// Waits for the response. Dropped before it arrives, because the client left, it stops the
/// upstream or continues in a drain, as configured.
pub(super) struct PendingResponse {
    send: Sending,
    state: Rc<Cell<SendState>>,
    /// `None` after the response, or after a drain took over.
    entry: Option<Entry>,
    policy: ResponsePolicy,
}

impl PendingResponse {
    pub(super) fn new(
        send: Sending,
        state: Rc<Cell<SendState>>,
        entry: Entry,
        policy: ResponsePolicy,
    ) -> Self {
        Self { send, state, entry: Some(entry), policy }
    }

    /// The record, before the response.
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// Notes the reason why the client is cut off.
    pub(super) fn explain(&mut self, reason: String) {
        if let Some(entry) = &mut self.entry {
            entry.row().error = Some(reason.into());
        }
    }

    /// Drops the request, which tells its upstream at once, and fails the next poll with this error.
    pub(super) fn end_with(&mut self, error: Error) {
        self.send = Box::pin(std::future::ready(Err(error)));
    }

    pub(super) fn policy(&mut self) -> &mut ResponsePolicy {
        &mut self.policy
    }
}

/// Does the work until `cut` is thrown, which drops it.
///
/// # Errors
/// Fails if `cut` is thrown.
pub(super) async fn unless_cut<T>(work: impl Future<Output = Result<T>>, cut: &CutSwitch) -> Result<T> {
    tokio::select! {
        biased;
        () = cut.thrown() => Err(Kind::KeyRevoked.into()),
        result = work => result,
    }
}

/// Waits for a response until `cut` is thrown. Nothing is sent if it is thrown already.
pub(super) async fn until_cut(pending: &mut PendingResponse, cut: &CutSwitch) -> (Result<Accepted>, Entry) {
    tokio::select! {
        biased;
        () = cut.thrown() => pending.end_with(Kind::KeyRevoked.into()),
        response = &mut *pending => return response,
    }
    pending.await
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
        let is_waiting = self.state.get() == SendState::Waiting;
        let drains = self.policy.drains.as_ref().filter(|_| !is_waiting);
        if let (Some(entry), Some(drains)) = (self.entry.take(), drains) {
            self.state.set(SendState::Abandoned);
            let send = std::mem::replace(&mut self.send, Box::pin(std::future::pending()));
            let policy = self.policy.clone();
            drains.take_over_request(send, entry, |accepted, entry| {
                let policy = accepted.policy(policy);
                respond::meter(accepted, entry, policy).1
            });
        }
    }
}
