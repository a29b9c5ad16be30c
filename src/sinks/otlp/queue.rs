//! Queues records whose spans wait to be sent.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::names::method;
use super::values::{MAX_TEXT, clipped};
use crate::record::{self, UsageRecord};

/// The largest number of records that wait, including those whose spans are being sent; as many as
/// the journal can hand over at once. At some 600 bytes each this is about 40 MB, which the ledger
/// may hold too; and since their texts are at most [`MAX_TEXT`] long, 200 MB in the worst case.
const CAPACITY: usize = record::CAPACITY;

/// The time for which batches are gathered after the first one.
const GATHER: Duration = Duration::from_secs(1);

/// The number of spans that are sent without further gathering.
const ENOUGH: usize = 512;

/// Batches that wait for the thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified of the first batch, and when there are enough.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// All of their records have spans.
    batches: Vec<Arc<Vec<UsageRecord>>>,
    /// Records in `batches`.
    waiting: usize,
    /// Records whose spans are being sent.
    taken: usize,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock can panic with a half-changed state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the records of a batch that have spans. Returns the number of spans that are lost,
    /// because there is no room for them.
    pub(super) fn push(&self, batch: &Arc<Vec<UsageRecord>>) -> usize {
        let spans = batch.iter().filter(|row| has_span(row)).count();
        if spans == 0 {
            return 0;
        }
        let mut state = self.lock();
        if state.waiting + state.taken + spans > CAPACITY {
            return spans;
        }
        state.waiting += spans;
        state.batches.push(kept(batch, spans));
        let wake = state.batches.len() == 1 || state.waiting >= ENOUGH;
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        0
    }

    /// Waits for batches, and lets them gather; then they must be reported as [done](Self::done).
    /// `None` if the process ends and there are none. Cancel-safe.
    pub(super) async fn next(
        &self,
        closed: &mut watch::Receiver<bool>,
    ) -> Option<Vec<Arc<Vec<UsageRecord>>>> {
        loop {
            let closing = *closed.borrow();
            let (none, enough) = {
                let state = self.lock();
                (state.waiting == 0, state.waiting >= ENOUGH)
            };
            if none && closing {
                return None;
            } else if none {
                tokio::select! {
                    () = self.changed.notified() => {}
                    _ = closed.wait_for(|closed| *closed) => {}
                }
                continue;
            } else if !enough && !closing {
                let more = async {
                    while self.lock().waiting < ENOUGH {
                        self.changed.notified().await;
                    }
                };
                tokio::select! {
                    _ = timeout(GATHER, more) => {}
                    _ = closed.wait_for(|closed| *closed) => {}
                }
            }
            let mut state = self.lock();
            state.taken = mem::take(&mut state.waiting);
            return Some(mem::take(&mut state.batches));
        }
    }

    /// Frees the room of the batches that were taken.
    pub(super) fn done(&self) {
        self.lock().taken = 0;
    }

    /// The number of spans that wait, after sending has ended.
    pub(super) fn left(&self) -> usize {
        self.lock().waiting
    }
}

/// The part of a batch that is queued. Most batches are kept unchanged, and shared with the other
/// sinks.
fn kept(batch: &Arc<Vec<UsageRecord>>, spans: usize) -> Arc<Vec<UsageRecord>> {
    if spans == batch.len() && batch.iter().all(is_short) {
        return Arc::clone(batch);
    }
    Arc::new(batch.iter().filter(|row| has_span(row)).map(shortened).collect())
}

/// Returns true if all texts from the network in the record are short.
fn is_short(row: &UsageRecord) -> bool {
    let texts = [
        row.user.as_deref(),
        row.model_requested.as_deref(),
        row.model.as_deref(),
        row.upstream_request_id.as_deref(),
        row.error.as_deref(),
        row.method.as_ref().map(|method| method.as_str()),
    ];
    texts.into_iter().flatten().all(|text| text.len() <= MAX_TEXT)
}

/// The fields of the record that its span needs.
fn shortened(row: &UsageRecord) -> UsageRecord {
    let mut short = UsageRecord { user: None, error: None, ..row.clone() };
    for text in [&mut short.model_requested, &mut short.model].into_iter().flatten() {
        *text = clipped(text).into();
    }
    if let Some(text) = &mut short.upstream_request_id {
        *text = clipped(text).into();
    }
    short.method = method(row).and_then(|method| method.parse().ok());
    short
}

/// Returns true if the record's span is recorded.
fn has_span(row: &UsageRecord) -> bool {
    row.span.as_ref().is_some_and(|span| span.is_sampled())
}

#[cfg_attr(not(feature = "moved-clock"), allow(unused, reason = "tests that move the clock use it"))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::otlp::span::span;
    use crate::sinks::otlp::span::tests::{context, row, services};

    fn batch(rows: usize, flags: u8) -> Arc<Vec<UsageRecord>> {
        let mut row = row();
        row.span = Some(Box::new(context(None, flags)));
        Arc::new(vec![row; rows])
    }

    #[cfg(feature = "moved-clock")]
    #[tokio::test(start_paused = true)]
    async fn waiting_spans_are_taken_once_and_the_end_is_reported() {
        let (queue, (close, mut closed)) = (Queue::default(), watch::channel(false));
        assert_eq!(queue.push(&batch(3, 1)), 0);
        assert_eq!(queue.push(&batch(2, 0)), 0, "what is not sampled does not wait");
        let batches = queue.next(&mut closed).await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.len()).collect::<Vec<_>>(), [3]);
        queue.done();
        close.send(true).unwrap();
        assert!(queue.next(&mut closed).await.is_none());
    }

    /// A sampled record in which all texts from the network have the greatest length.
    fn long() -> UsageRecord {
        fn text<T: From<String>>() -> Option<T> {
            Some("\u{20ac}".repeat(1 << 20).into())
        }
        UsageRecord {
            user: text(),
            model_requested: text(),
            model: text(),
            upstream_request_id: text(),
            error: text(),
            method: "M".repeat(1 << 10).parse().ok(),
            span: Some(Box::new(context(None, 1))),
            ..row()
        }
    }

    #[cfg(feature = "moved-clock")]
    #[tokio::test(start_paused = true)]
    async fn nothing_long_waits_and_its_span_is_the_same() {
        let (queue, (_close, mut closed)) = (Queue::default(), watch::channel(false));
        let long = long();
        queue.push(&Arc::new(vec![long.clone()]));
        let batches = queue.next(&mut closed).await.unwrap();
        let [kept] = &batches[0][..] else { panic!("one record") };
        assert!(is_short(kept), "{kept:?}");
        let span_of = |row: &UsageRecord| span(row, &context(None, 1), &services());
        assert_eq!(span_of(kept), span_of(&long));
    }

    #[cfg(feature = "moved-clock")]
    #[tokio::test(start_paused = true)]
    async fn records_that_are_not_sampled_need_no_room() {
        let (queue, (_close, mut closed)) = (Queue::default(), watch::channel(false));
        let one_sampled = || {
            let mut rows = batch(CAPACITY / 2, 0).to_vec();
            rows.extend_from_slice(&batch(1, 1));
            Arc::new(rows)
        };
        for _ in 0..3 {
            assert_eq!(queue.push(&one_sampled()), 0);
        }
        assert_eq!(queue.left(), 3);
        let batches = queue.next(&mut closed).await.unwrap();
        assert!(batches.iter().flat_map(|batch| batch.iter()).all(has_span));
        assert_eq!(batches.len(), 3);
    }

    #[cfg(feature = "moved-clock")]
    #[tokio::test(start_paused = true)]
    async fn there_is_no_room_for_more_until_what_was_taken_is_done() {
        let (queue, (_close, mut closed)) = (Queue::default(), watch::channel(false));
        assert_eq!(queue.push(&batch(CAPACITY, 1)), 0);
        queue.next(&mut closed).await.unwrap();
        assert_eq!(
            queue.push(&batch(5, 1)),
            5,
            "a batch is lost as a whole, and how many spans it had is told"
        );
        queue.done();
        assert_eq!(queue.push(&batch(5, 1)), 0);
        assert_eq!(queue.left(), 5);
    }
}
