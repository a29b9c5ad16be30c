//! One event stream on its way to its client.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StreamMetrics;

/// Measures one answer's events: when they were read, and when they were written. It is shared by
/// who reads the upstream and who writes to the client, on one thread.
///
/// Events that came with one read have no gap between them, nor have those that left with one
/// write. What was gathered for one write was in our hands since the oldest of it was read: what is
/// counted is never less than what was.
#[derive(Debug)]
pub struct StreamTiming {
    flow: Arc<StreamMetrics>,
    last_read: Cell<Option<Instant>>,
    last_written: Cell<Option<Instant>>,
    /// When the oldest of the events that were passed on and are not written was read, and how many
    /// there are.
    waiting: Cell<Option<(Instant, u32)>>,
    /// Who writes knows of them.
    announced: Cell<bool>,
}

impl StreamTiming {
    /// Of a stream that is about to begin.
    pub fn new(flow: Arc<StreamMetrics>) -> Rc<Self> {
        Rc::new(Self {
            flow,
            last_read: Cell::default(),
            last_written: Cell::default(),
            waiting: Cell::default(),
            announced: Cell::default(),
        })
    }

    /// Where it counts.
    pub fn flow(&self) -> &Arc<StreamMetrics> {
        &self.flow
    }

    /// So many events ended in what was read at a time.
    pub fn read(&self, at: Instant, events: u32) {
        observe_gaps(&self.flow.upstream_gaps, self.last_read.replace(Some(at)), at, events);
    }

    /// So many events, read at a time, were given to who writes.
    pub fn passed(&self, read: Instant, events: u32) {
        if events > 0 {
            let (oldest, before) = self.waiting.get().unwrap_or((read, 0));
            self.waiting.set(Some((oldest, before.saturating_add(events))));
        }
    }

    /// Whether there are events of which who writes has not been told. To be asked by who tells.
    pub fn take_notification(&self) -> bool {
        self.waiting.get().is_some() && !self.announced.replace(true)
    }

    /// All that was passed on has been written.
    pub fn written(&self, at: Instant) {
        self.announced.set(false);
        let Some((oldest, events)) = self.waiting.take() else { return };
        self.flow.added.observe(at.saturating_duration_since(oldest), events.into());
        observe_gaps(&self.flow.client_gaps, self.last_written.replace(Some(at)), at, events);
    }
}

/// The gap to what came before, and none between those that came together.
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
        // 1 event, then 3 with one read, then 2 that leave with the 3 in one write.
        for (read, events, written) in [(0, 1, Some(2)), (10, 3, None), (11, 2, Some(15))] {
            let at = start + MS * read;
            timing.read(at, events);
            timing.passed(at, events);
            assert_eq!(timing.take_notification(), events != 2, "who writes is told once");
            if let Some(written) = written {
                timing.written(start + MS * written);
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
        timing.passed(Instant::now(), 0);
        assert!(!timing.take_notification());
        timing.written(Instant::now());
        assert_eq!(flows.totals().remove(0).added.count(), 0);
    }
}
