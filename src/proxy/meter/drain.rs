//! Drains: reads the rest of a response whose client has left, so that its usage is known.
//!
//! A drain is a task on the worker's runtime, bounded by [`DrainLimits`]. It owns the exchange: the
//! connection to the upstream, the meter and the record. Frames are shown to the meter and dropped.
//! After a complete response the connection goes back to its pool. Every ending closes the record,
//! also when the runtime drops the task.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::pin;
use tokio::task::spawn_local;
use tokio::time::{sleep_until, timeout_at};

use super::Metered;
use super::exchange::{Exchange, ResponseFrames};
use crate::config::DrainLimits;
use crate::record::error::Error;
use crate::record::{Entry, Outcome};
use crate::support::memory::{MemoryHold, MemoryPart, REQUEST};
use crate::support::{LocalCount, LocalGuard, SharedCount, SharedGuard};

/// The wait for the end of a body after its last event: the counts are final, and the wait can only
/// save the connection.
const AFTER_TERMINAL: Duration = Duration::from_secs(1);

/// Drains one upstream's responses on one worker. Clones share their counts.
#[derive(Clone, Debug)]
pub struct Drains(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: DrainLimits,
    everywhere: SharedCount,
    here: LocalCount,
}

impl Drains {
    /// `everywhere` counts this upstream's drains on all workers, `here` all drains on this worker.
    pub fn new(limits: DrainLimits, everywhere: SharedCount, here: LocalCount) -> Self {
        Self(Rc::new(Inner { limits, everywhere, here }))
    }

    /// Continues a request whose client left before the response: awaits it, attaches the meter by
    /// `meter`, and reads it.
    pub fn take_over_request<A, B: ResponseFrames>(
        &self,
        send: impl Future<Output = Result<A, Error>> + 'static,
        mut entry: Entry,
        meter: impl FnOnce(A, Entry) -> Metered<B> + 'static,
    ) {
        let Some(drain) = self.begin(&mut entry) else { return };
        spawn_local(async move {
            match timeout_at(drain.deadline.into(), send).await {
                Err(_) => {
                    entry.row().error = Some(drain.out_of_time().into());
                    entry.close(Outcome::ClientDisconnected);
                }
                Ok(Err(error)) => {
                    entry.row().error = Some(error.to_string().into());
                    entry.close(Outcome::ClientDisconnected);
                }
                Ok(Ok(response)) => {
                    if let Some(exchange) = meter(response, entry).into_exchange() {
                        drain.read(exchange).await;
                    }
                }
            }
        });
    }

    /// Reads the rest of a response whose client has left.
    pub(super) fn take_over<B: ResponseFrames>(&self, mut exchange: Box<Exchange<B>>) {
        if exchange.has_more_to_tell()
            && let Some(drain) = self.begin(exchange.entry())
        {
            // No client is left that a deferred record could wait for.
            exchange.sent();
            spawn_local(drain.read(exchange));
        }
    }

    /// Begins a drain, unless the upstream has too many of them, there is no memory, or the process is
    /// stopping.
    fn begin(&self, entry: &mut Entry) -> Option<Drain> {
        if entry.is_cutting() {
            return None;
        }
        entry.client_left();
        let Inner { limits, everywhere, here } = &*self.0;
        let Some(everywhere) = everywhere.enter_below(limits.concurrent) else {
            let concurrent = limits.concurrent;
            let error =
                format!("not drained: drain_limits.concurrent is {concurrent}, and as many are running");
            entry.row().error.get_or_insert_with(|| error.into());
            return None;
        };
        if entry.memory().is_full() {
            let error = "not drained: server.max_memory leaves no memory for it";
            entry.row().error.get_or_insert_with(|| error.into());
            return None;
        }
        let memory = entry.memory().hold(MemoryPart::Drains).of(REQUEST);
        let guards = (everywhere, here.enter(), memory);
        Some(Drain { limits: *limits, deadline: Instant::now() + limits.time, _guards: guards })
    }
}

/// A running drain.
struct Drain {
    limits: DrainLimits,
    deadline: Instant,
    _guards: (SharedGuard, LocalGuard, MemoryHold),
}

impl Drain {
    async fn read<B: ResponseFrames>(self, mut exchange: Box<Exchange<B>>) {
        let mut left = self.limits.bytes;
        let mut is_final = false;
        let timer = sleep_until(self.deadline.into());
        pin!(timer);
        loop {
            let frame = tokio::select! {
                biased;
                frame = exchange.frame() => frame,
                () = &mut timer => {
                    // A missing end of the body after the last event is not an error.
                    return if is_final { drop(exchange) } else { exchange.abort(self.out_of_time()) };
                }
            };
            let bytes = match &frame {
                None => return,
                Some(Err(error)) => return exchange.fail(error),
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            };
            if bytes > left {
                return exchange
                    .abort(format!("drained no further than drain_limits.bytes, {}", self.limits.bytes));
            }
            left -= bytes;
            if !is_final && exchange.is_final() {
                is_final = true;
                timer.as_mut().reset(self.deadline.min(Instant::now() + AFTER_TERMINAL).into());
            }
        }
    }

    fn out_of_time(&self) -> String {
        format!("drained no longer than drain_limits.seconds, {}", self.limits.time.as_secs())
    }
}

#[cfg_attr(not(feature = "moved-clock"), allow(unused, reason = "tests that move the clock use it"))]
#[cfg(test)]
mod tests;
