//! The reactions of `serve` to signals, from before it reads its configuration until its end.

use std::io;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::time::timeout_at;

use super::serve::FLUSH;
use super::signals::{Asked, Signals};
use crate::config::reload::{Reload, ReloadKind};
use crate::sinks::jsonl::Switch;
use crate::support::Live;
use crate::support::drain::{Phase, Stop};
use crate::support::telemetry;
use crate::support::threads::Threads;

/// A second signal within this time after the first is the same request to stop: GNU `timeout` and
/// supervisors signal both the process and its group.
const TOGETHER: Duration = Duration::from_millis(500);

/// The thread that handles signals. It ends with the process.
#[derive(Clone, Debug)]
pub(super) struct Control(Arc<Mutex<Stage>>);

/// The object of a stop.
#[derive(Debug)]
enum Stage {
    /// Nothing yet.
    Starting,
    Running(Served),
    /// The time since when the stop is announced, and the time at which the drain begins.
    Leaving(Served, Instant, Instant),
    /// The time since when the drain runs.
    Draining(Served, Instant),
}

/// The parts of a running proxy that signals act on.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) stop: Stop,
    /// The time between the signal to stop and the drain.
    pub(super) stop_delay: Arc<Live<Duration>>,
    /// Reopens the JSON-lines file.
    pub(super) files: Switch,
    pub(super) reload: Reload,
}

impl Control {
    /// Starts the thread, among `threads`. Signals are handled when this returns.
    ///
    /// # Errors
    /// Fails if the system provides no thread, runtime or listener.
    pub(super) fn start(threads: &Threads) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut signals = runtime.block_on(async { Signals::listen() })?;
        let control = Self(Arc::new(Mutex::new(Stage::Starting)));
        let handling = control.clone();
        threads.spawn("signals", move || {
            loop {
                let next = match handling.begins_drain_at() {
                    Some(at) => runtime.block_on(async { timeout_at(at.into(), signals.next()).await.ok() }),
                    None => Some(runtime.block_on(signals.next())),
                };
                match next {
                    Some((name, asked)) => handling.handle(name, asked, Instant::now()),
                    None => handling.stage().drain(Instant::now()),
                }
            }
        })?;
        Ok(control)
    }

    /// Makes signals act on `served` from now on.
    pub(super) fn attach(&self, served: Served) {
        *self.stage() = Stage::Running(served);
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the drain that was announced.
    fn begins_drain_at(&self) -> Option<Instant> {
        match *self.stage() {
            Stage::Leaving(_, _, at) => Some(at),
            Stage::Starting | Stage::Running(_) | Stage::Draining(..) => None,
        }
    }

    fn handle(&self, name: &str, asked: Asked, now: Instant) {
        let mut stage = self.stage();
        match asked {
            Asked::Stop | Asked::Finish => stage.stop(name, asked == Asked::Stop, now),
            Asked::Reload => {
                stage.reload(name);
                stage.reopen(name);
            }
            Asked::Reopen => stage.reopen(name),
            Asked::Upgrade => {
                tracing::warn!("{name}: ignored; this version cannot be upgraded while it runs")
            }
            Asked::Nothing => tracing::debug!("{name}: ignored"),
        }
    }
}

impl Stage {
    /// The first signal drains, also after a failure has begun the drain: running streams may
    /// finish. The second ends immediately, if `at_once`.
    fn stop(&mut self, name: &str, at_once: bool, now: Instant) {
        match self {
            Self::Starting => {
                tracing::info!("{name}: ended before the start was complete");
                telemetry::flush(FLUSH);
                process::exit(0);
            }
            Self::Running(served) => {
                let delay = *served.stop_delay.load();
                // A failure has begun the drain already.
                if delay.is_zero() || served.stop.phase() >= Phase::Draining {
                    tracing::info!("{name}: finishing running requests; SIGTERM or SIGINT ends them at once");
                    self.drain(now);
                } else {
                    tracing::info!(
                        delay = ?delay,
                        "{name}: not ready any more; connections are accepted for server.stop_delay, then running requests \
                         finish; SIGTERM or SIGINT ends them at once"
                    );
                    served.stop.leave();
                    *self = Self::Leaving(served.clone(), now, now + delay);
                }
            }
            Self::Leaving(_, since, _) | Self::Draining(_, since)
                if now.duration_since(*since) < TOGETHER =>
            {
                tracing::debug!("{name}: treated as one with the signal just before");
            }
            Self::Leaving(served, ..) | Self::Draining(served, _) if at_once => {
                tracing::info!("{name}: ending at once");
                served.stop.cut();
            }
            Self::Leaving(..) | Self::Draining(..) => {
                tracing::info!("{name}: already finishing running requests");
            }
        }
    }

    fn drain(&mut self, now: Instant) {
        let (served, since) = match self {
            Self::Running(served) => (served.clone(), now),
            Self::Leaving(served, since, _) => (served.clone(), *since),
            Self::Starting | Self::Draining(..) => return,
        };
        served.stop.drain();
        *self = Self::Draining(served, since);
    }

    /// The reloading thread logs the outcome.
    fn reload(&self, name: &str) {
        match self {
            Self::Running(served) => {
                tracing::info!("{name}: reading the configuration again");
                drop(served.reload.request(ReloadKind::Reload));
            }
            Self::Starting | Self::Leaving(..) | Self::Draining(..) => {
                tracing::info!("{name}: the configuration is read again only while requests are accepted");
            }
        }
    }

    fn reopen(&self, name: &str) {
        match self {
            Self::Running(Served { files, .. })
            | Self::Leaving(Served { files, .. }, ..)
            | Self::Draining(Served { files, .. }, _)
                if files.has_file() =>
            {
                tracing::info!("{name}: opening the JSON-lines file again");
                files.reopen();
            }
            // The ledger follows its path by itself, and a start opens everything in any case.
            _ => tracing::info!("{name}: no file to open again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> (Stop, Stage) {
        after(Duration::ZERO)
    }

    fn after(delay: Duration) -> (Stop, Stage) {
        let stop = Stop::default();
        let stop_delay = Live::new(delay);
        let served =
            Served { stop: stop.clone(), stop_delay, files: Switch::default(), reload: Reload::default() };
        (stop, Stage::Running(served))
    }

    #[test]
    fn stop_delay_comes_before_the_drain_and_a_second_signal_cuts() {
        let delay = Duration::from_secs(5);
        let (stop, mut stage) = after(delay);
        let start = Instant::now();
        stage.stop("SIGTERM", true, start);
        assert_eq!(stop.phase(), Phase::Leaving);
        assert!(matches!(stage, Stage::Leaving(_, since, at) if at - since == delay), "{stage:?}");
        stage.stop("SIGINT", true, start + Duration::from_millis(499));
        stage.stop("SIGQUIT", false, start + TOGETHER);
        assert_eq!(stop.phase(), Phase::Leaving);
        stage.drain(start + delay);
        assert_eq!(stop.phase(), Phase::Draining);
        stage.stop("SIGTERM", true, start + delay);
        assert_eq!(stop.phase(), Phase::Cut);
        let (stop, mut stage) = after(delay);
        stop.drain();
        stage.stop("SIGTERM", true, start);
        assert!(matches!(stage, Stage::Draining(..)), "after a failure there is no delay: {stage:?}");
    }

    #[test]
    fn second_signal_within_500_ms_is_one_with_the_first() {
        let (stop, mut stage) = running();
        let start = Instant::now();
        stage.stop("SIGTERM", true, start);
        stage.stop("SIGINT", true, start + Duration::from_millis(499));
        assert_eq!(stop.phase(), Phase::Draining);
        stage.stop("SIGTERM", true, start + Duration::from_millis(500));
        assert_eq!(stop.phase(), Phase::Cut);
    }

    #[test]
    fn first_signal_in_the_drain_of_a_failure_cuts_nothing() {
        let (stop, mut stage) = running();
        let start = Instant::now();
        stop.drain();
        stage.stop("SIGTERM", true, start);
        assert_eq!(stop.phase(), Phase::Draining);
        stage.stop("SIGTERM", true, start + TOGETHER);
        assert_eq!(stop.phase(), Phase::Cut);
    }

    #[test]
    fn sigquit_never_ends_at_once() {
        let (stop, mut stage) = running();
        let start = Instant::now();
        stage.stop("SIGQUIT", false, start);
        stage.stop("SIGQUIT", false, start + Duration::from_secs(9));
        assert_eq!(stop.phase(), Phase::Draining);
        stage.stop("SIGTERM", true, start + Duration::from_secs(10));
        assert_eq!(stop.phase(), Phase::Cut);
    }
}
