//! The times of one event stream, from the upstream to its client.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use super::{Histogram, StreamMetrics};

/// Measures when a response's events were read and when they were written. The reader of the
/// upstream and the writer to the client share it, on one thread.
///
/// Events of one read have no gap between them, and neither have events of one write. All events of
/// a write count as read when the oldest of them was, so that the added time is never understated.
///
/// Times are nanoseconds since [`ORIGIN`]: an event takes the difference of two of them three times.
#[derive(Debug)]
pub struct StreamTiming {
    metrics: Arc<StreamMetrics>,
    last_read: Cell<Option<NonZeroU64>>,
    last_written: Cell<Option<NonZeroU64>>,
    /// The time at which the oldest event was read that was passed on and is not written, if there
    /// is one.
    oldest: Cell<u64>,
    /// The number of such events.
    waiting: Cell<u32>,
    /// The writer was notified of them.
    announced: Cell<bool>,
}

/// The beginning of the time that streams are measured in.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time since [`ORIGIN`], at least one nanosecond.
fn nanoseconds(at: Instant) -> NonZeroU64 {
    let since = at.saturating_duration_since(*ORIGIN);
    let nanoseconds = since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos());
    NonZeroU64::new(nanoseconds).unwrap_or(NonZeroU64::MIN)
}

impl StreamTiming {
    pub fn new(metrics: Arc<StreamMetrics>) -> Rc<Self> {
        LazyLock::force(&ORIGIN);
        Rc::new(Self {
            metrics,
            last_read: Cell::default(),
            last_written: Cell::default(),
            oldest: Cell::default(),
            waiting: Cell::default(),
            announced: Cell::default(),
        })
    }

    pub fn metrics(&self) -> &Arc<StreamMetrics> {
        &self.metrics
    }

    /// Records that `events` ended in the bytes read at `at`.
    pub fn on_read(&self, at: Instant, events: u32) {
        observe_gaps(&self.metrics.upstream_gaps, &self.last_read, nanoseconds(at), events);
    }

    /// Records that `events` of the bytes that were read last were passed to the writer.
    pub fn on_passed(&self, events: u32) {
        if self.waiting.get() == 0 {
            self.oldest.set(self.last_read.get().map_or(0, NonZeroU64::get));
        }
        self.waiting.set(self.waiting.get().saturating_add(events));
    }

    /// Returns true once per batch of pending events; the caller must then notify the writer.
    pub fn take_notification(&self) -> bool {
        self.waiting.get() > 0 && !self.announced.replace(true)
    }

    /// Records that everything passed on was written at `at`.
    pub fn on_written(&self, at: Instant) {
        self.announced.set(false);
        let events = self.waiting.take();
        if events > 0 {
            let at = nanoseconds(at);
            self.metrics.added.observe(at.get().saturating_sub(self.oldest.get()), events.into());
            observe_gaps(&self.metrics.client_gaps, &self.last_written, at, events);
        }
    }
}

/// Counts the gap to the event before, and none between events that came together.
fn observe_gaps(gaps: &Histogram, last: &Cell<Option<NonZeroU64>>, now: NonZeroU64, events: u32) {
    let before = last.replace(Some(now));
    let mut together = u64::from(events);
    if events > 0 {
        together -= 1;
        if let Some(before) = before {
            gaps.observe(now.get().saturating_sub(before.get()), 1);
        }
    }
    if together > 0 {
        gaps.observe(0, together);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::StreamMetricsRegistry;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_stream_of_n_events_has_n_minus_1_gaps_on_either_side() {
        let flows = StreamMetricsRegistry::new(2);
        let timing = StreamTiming::new(flows.of(1, &"up".into()));
        let start = Instant::now();
        // 1 event, then 3 with one read, then 2 that are written together with the 3.
        for (read, events, written) in [(0, 1, Some(2)), (10, 3, None), (11, 2, Some(15))] {
            let at = start + MS * read;
            timing.on_read(at, events);
            timing.on_passed(events);
            assert_eq!(timing.take_notification(), events != 2, "the writer is notified once");
            if let Some(written) = written {
                timing.on_written(start + MS * written);
            }
        }
        let total = flows.totals().remove(0);
        assert_eq!((total.upstream_gaps.count(), total.upstream_gaps.sum()), (5, 11 * MS));
        assert_eq!((total.client_gaps.count(), total.client_gaps.sum()), (5, 13 * MS));
        // 2 ms for the first; 5 ms, as the oldest of them, for each of the others.
        assert_eq!((total.added.count(), total.added.sum()), (6, 27 * MS));
    }

    #[test]
    fn a_write_without_events_counts_nothing() {
        let flows = StreamMetricsRegistry::new(1);
        let timing = StreamTiming::new(flows.of(0, &"up".into()));
        timing.on_passed(0);
        assert!(!timing.take_notification());
        timing.on_written(Instant::now());
        assert_eq!(flows.totals().remove(0).added.count(), 0);
    }
}
