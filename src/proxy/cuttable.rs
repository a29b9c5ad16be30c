//! A response that ends when the key of its request is revoked.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::proxy_body::ProxyBody;
use crate::record::error::Kind;
use crate::support::CutSwitch;

/// A response's body with the switch of its request's key.
pub struct CuttableBody {
    pub(super) body: ProxyBody,
    cut: Arc<CutSwitch>,
    /// Wakes the task that polls the body.
    thrown: Pin<Box<dyn Future<Output = ()>>>,
    /// The waker that `thrown` has.
    waker: Option<Waker>,
    is_ended: bool,
}

impl CuttableBody {
    pub(super) fn new(body: ProxyBody, cut: Arc<CutSwitch>) -> Self {
        let waiting = Arc::clone(&cut);
        let thrown = Box::pin(async move { waiting.thrown().await });
        Self { body, cut, thrown, waker: None, is_ended: false }
    }

    /// Ends the body if the switch is thrown. Must be called before each poll of the body.
    pub(super) fn obey(&mut self, cx: &mut Context<'_>) {
        if self.is_ended {
            return;
        }
        // Polling the wait takes a lock, and most polls come from the same task.
        let is_known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        let is_thrown = match is_known {
            true => self.cut.is_thrown(),
            false => {
                self.waker = Some(cx.waker().clone());
                self.thrown.as_mut().poll(cx) == Poll::Ready(())
            }
        };
        if is_thrown {
            self.is_ended = true;
            self.body.end_with(Kind::KeyRevoked.into());
        }
    }
}
