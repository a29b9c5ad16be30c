//! Reading the rest of an answer whose client has left, so that its tokens are known.
//!
//! It goes on in a task of its own on the worker's runtime, within [`DrainLimits`], and holds what
//! the exchange held: a connection to the upstream, the meter, the record. What is read is shown to
//! the meter and dropped. After a full drain the connection goes back to its pool. Whatever ends a
//! drain, its record is closed, also where the runtime drops its task.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::pin;
use tokio::task::spawn_local;
use tokio::time::{sleep_until, timeout_at};

use super::Metered;
use super::exchange::{Exchange, ResponseFrames};
use crate::config::DrainLimits;
use crate::error::Error;
use crate::record::{Entry, Outcome};
use crate::support::{LocalCount, LocalGuard, SharedCount, SharedGuard};

/// How long the end of a stream is waited for after the event that ends it: its counts are final,
/// and all that can still be had is the connection.
const AFTER_TERMINAL: Duration = Duration::from_secs(1);

/// One worker's drains of one upstream's answers. Clones are the same.
#[derive(Clone, Debug)]
pub struct Drains(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: DrainLimits,
    everywhere: SharedCount,
    here: LocalCount,
}

impl Drains {
    /// `everywhere` counts the drains of this upstream on all workers, `here` those of all
    /// upstreams on this one.
    pub fn new(limits: DrainLimits, everywhere: SharedCount, here: LocalCount) -> Self {
        Self(Rc::new(Inner { limits, everywhere, here }))
    }

    /// The client has left before there was an answer: goes on waiting for it, and reads it.
    /// `meter` puts the meter beside it.
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

    /// The client has left inside an answer: reads the rest.
    pub(super) fn take_over<B: ResponseFrames>(&self, mut exchange: Box<Exchange<B>>) {
        if exchange.has_more_to_tell()
            && let Some(drain) = self.begin(exchange.entry())
        {
            // From here on there is no client to be sent anything.
            exchange.sent();
            spawn_local(drain.read(exchange));
        }
    }

    /// Begins a drain, unless there are too many already, or the process is being cut.
    fn begin(&self, entry: &mut Entry) -> Option<Drain> {
        if entry.is_cutting() {
            return None;
        }
        entry.client_left();
        let Inner { limits, everywhere, here } = &*self.0;
        let before = everywhere.get();
        let guards = (everywhere.enter(), here.enter());
        if before >= limits.concurrent {
            let concurrent = limits.concurrent;
            let error =
                format!("not drained: drain_limits.concurrent is {concurrent}, and as many are under way");
            entry.row().error.get_or_insert_with(|| error.into());
            return None;
        }
        Some(Drain { limits: *limits, deadline: Instant::now() + limits.time, _guards: guards })
    }
}

/// A drain under way.
struct Drain {
    limits: DrainLimits,
    deadline: Instant,
    _guards: (SharedGuard, LocalGuard),
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
                    // After its last event there is nothing to complain of.
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

#[cfg(test)]
mod tests;
