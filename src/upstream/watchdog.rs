//! Two limits on waiting for a peer: silence, and the whole exchange.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The peer was silent for too long.
    Silence,
    /// The whole exchange took too long.
    Total,
}

/// Watches one exchange. The timer is created at the first wait and reset only when it fires, so
/// that an event in time costs one read of the clock.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// The longest silence.
    silence: Duration,
    /// The deadline of the exchange.
    total: Option<Instant>,
    /// The beginning of the current wait. `None` while bytes are available, so that a client that
    /// reads slowly does not make its upstream late.
    waiting_since: Option<Instant>,
    timer: Option<Timer>,
}

impl Watchdog {
    pub(crate) fn new(silence: Duration, total: Option<Instant>) -> Self {
        Self { silence, total, waiting_since: None, timer: None }
    }

    /// Uses a timer of an earlier exchange, which may fire early and wake the task of that.
    pub(crate) fn with_timer(mut self, timer: Option<Timer>) -> Self {
        self.timer = timer;
        self
    }

    /// The timer, for another exchange. Most exchanges end before it fires.
    pub(crate) fn take_timer(&mut self) -> Option<Timer> {
        self.timer.take()
    }

    /// Changes the limit on silence and restarts it.
    pub(crate) fn set_silence(&mut self, silence: Duration) {
        self.silence = silence;
        self.waiting_since = None;
    }

    /// The length of the current wait.
    pub(crate) fn waited(&self) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Ends the current wait: the peer has sent bytes.
    pub(crate) fn heard(&mut self) {
        self.waiting_since = None;
    }

    /// Must be called when there is nothing to read. `Ready` when a limit is reached; otherwise the
    /// task is woken in time.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        self.poll_expired_since(cx, Instant::now)
    }

    /// Does the same for a caller that may know when the wait began.
    pub(crate) fn poll_expired_since(
        &mut self,
        cx: &mut Context<'_>,
        begin: impl FnOnce() -> Instant,
    ) -> Poll<Expired> {
        let since = *self.waiting_since.get_or_insert_with(begin);
        loop {
            let silent = since + self.silence;
            let deadline = self.total.map_or(silent, |total| total.min(silent));
            let Timer { sleep, waker } = self.timer.get_or_insert_with(|| Timer::new(deadline));
            // A timer that is too late must be reset; one that is too early only fires early.
            let late = sleep.deadline() > deadline.into();
            if late {
                sleep.as_mut().reset(deadline.into());
            }
            // A timer that is set for this task needs no further poll.
            let known = waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if known && !late && !sleep.is_elapsed() {
                return Poll::Pending;
            }
            if !known {
                *waker = Some(cx.waker().clone());
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= deadline {
                let total = self.total.is_some_and(|total| total <= silent);
                return Poll::Ready(if total { Expired::Total } else { Expired::Silence });
            }
            sleep.as_mut().reset(deadline.into());
            // A reset takes effect at the next poll.
            *waker = None;
        }
    }
}

/// A timer of a watchdog. Setting one up costs more than a thousand instructions.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    waker: Option<Waker>,
}

impl Timer {
    fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline.into())), waker: None }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SHORT: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_secs(3600);

    async fn begin_to_wait(watchdog: &mut Watchdog) {
        let pending = poll_fn(|cx| Poll::Ready(watchdog.poll_expired(cx).is_pending())).await;
        assert!(pending);
    }

    #[tokio::test]
    async fn watchdog_names_the_nearer_limit() {
        let mut silence = Watchdog::new(SHORT, Some(Instant::now() + LONG));
        assert_eq!(poll_fn(|cx| silence.poll_expired(cx)).await, Expired::Silence);
        let mut total = Watchdog::new(LONG, Some(Instant::now() + SHORT));
        assert_eq!(poll_fn(|cx| total.poll_expired(cx)).await, Expired::Total);
    }

    #[tokio::test]
    async fn timer_of_another_exchange_fires_at_this_ones_limit() {
        for (before, is_over) in [(LONG, false), (SHORT, false), (SHORT, true)] {
            let mut earlier = Watchdog::new(before, None);
            begin_to_wait(&mut earlier).await;
            if is_over {
                poll_fn(|cx| earlier.poll_expired(cx)).await;
            }
            let mut watchdog = Watchdog::new(2 * SHORT, None).with_timer(earlier.take_timer());
            let since = Instant::now();
            assert_eq!(poll_fn(|cx| watchdog.poll_expired(cx)).await, Expired::Silence);
            assert!((2 * SHORT..LONG).contains(&since.elapsed()), "{before:?} {is_over}");
        }
    }

    #[tokio::test]
    async fn set_silence_shortens_running_wait() {
        let mut watchdog = Watchdog::new(LONG, None);
        begin_to_wait(&mut watchdog).await;
        watchdog.set_silence(SHORT);
        assert_eq!(poll_fn(|cx| watchdog.poll_expired(cx)).await, Expired::Silence);
    }

    #[tokio::test]
    async fn heard_restarts_silence() {
        let mut watchdog = Watchdog::new(LONG, None);
        begin_to_wait(&mut watchdog).await;
        let before = watchdog.waiting_since.unwrap();
        watchdog.heard();
        begin_to_wait(&mut watchdog).await;
        assert!(watchdog.waiting_since.unwrap() > before);
    }
}
