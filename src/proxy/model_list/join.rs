//! Waits for several futures at the same time, in one task.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// The results, in the order of the futures. Dropping the future drops those that still run.
pub(super) async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    enum Running<F: Future> {
        Pending(Pin<Box<F>>),
        Ready(F::Output),
    }
    let mut all: Vec<_> = futures.map(|future| Running::Pending(Box::pin(future))).collect();
    poll_fn(|cx| {
        let mut is_ready = true;
        for running in &mut all {
            if let Running::Pending(future) = running {
                match future.as_mut().poll(cx) {
                    Poll::Ready(result) => *running = Running::Ready(result),
                    Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let result = |running| match running {
        Running::Ready(result) => Some(result),
        Running::Pending(_) => None,
    };
    all.into_iter().filter_map(result).collect()
}
