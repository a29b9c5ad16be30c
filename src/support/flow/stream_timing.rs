//! The times of one event stream, from the upstream to its client.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StreamMetrics;

/// Measures when a response's events were read and when they were written. The reader of the
/// upstream and the writer to the client share it, on one thread.
///
/// Events of one read have no gap between them, and neither have events of one write. All events of
/// a write count as read when the oldest of them was, so that the added time is never understated.
#[derive(Debug)]
pub struct StreamTiming {
    metrics: Arc<StreamMetrics>,
    last_read: Cell<Option<Instant>>,
    last_written: Cell<Option<Instant>>,
    /// The events that were passed on but not written: the time when the oldest was read, and their
    /// number.
    waiting: Cell<Option<(Instant, u32)>>,
    /// The writer was notified of them.
    announced: Cell<bool>,
}

impl StreamTiming {
    pub fn new(metrics: Arc<StreamMetrics>) -> Rc<Self> {
        Rc::new(Self {
            metrics,
            last_read: Cell::default(),
            last_written: Cell::default(),
            waiting: Cell::default(),
            announced: Cell::default(),
        })
    }

    pub fn metrics(&self) -> &Arc<StreamMetrics> {
        &self.metrics
    }

    /// Records that `events` ended in the bytes read at `at`.
    pub fn on_read(&self, at: Instant, events: u32) {
        observe_gaps(&self.metrics.upstream_gaps, self.last_read.replace(Some(at)), at, events);
    }

    /// Records that `events` of the bytes read at `read` were passed to the writer.
    pub fn on_passed(&self, read: Instant, events: u32) {
        if events > 0 {
            let (oldest, before) = self.waiting.get().unwrap_or((read, 0));
            self.waiting.set(Some((oldest, before.saturating_add(events))));
        }
    }

    /// Returns true once per batch of pending events; the caller must then notify the writer.
    pub fn take_notification(&self) -> bool {
        self.waiting.get().is_some() && !self.announced.replace(true)
    }

    /// Records that everything passed on was written at `at`.
    pub fn on_written(&self, at: Instant) {
        self.announced.set(false);
        let Some((oldest, events)) = self.waiting.take() else { return };
        self.metrics.added.observe(at.saturating_duration_since(oldest), events.into());
        observe_gaps(&self.metrics.client_gaps, self.last_written.replace(Some(at)), at, events);
    }
}

/// Counts the gap since the event before. Events that came together have no gap.
fn observe_gaps(gaps: &super::Histogram, before: Option<Instant>, now: Instant, events: u32) {
    let mut together = u64::from(events);
    if events > 0 {
        together -= 1;
        if let Some(before) = before {
            gaps.observe(now.saturating_duration_since(before), 1);
        }
    }
    if together > 0 {
        gaps.observe(Duration::ZERO, together);
    }
}

#[cfg(test)]
mod tests {
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
            timing.on_passed(at, events);
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
        timing.on_passed(Instant::now(), 0);
        assert!(!timing.take_notification());
        timing.on_written(Instant::now());
        assert_eq!(flows.totals().remove(0).added.count(), 0);
    }
}
