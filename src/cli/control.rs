//! The reactions of `serve` to signals, from before it reads its configuration until its end.

use std::io;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use super::serve::FLUSH;
use super::signals::{Asked, Signals};
use crate::config::reload::{Reload, ReloadKind};
use crate::sinks::jsonl::Switch;
use crate::support::drain::Stop;
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
    /// The time since when the drain runs.
    Draining(Served, Instant),
}

/// The parts of a running proxy that signals act on.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) stop: Stop,
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
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let mut signals = runtime.block_on(async { Signals::listen() })?;
        let control = Self(Arc::new(Mutex::new(Stage::Starting)));
        let handling = control.clone();
        threads.spawn("signals", move || {
            loop {
                let (name, asked) = runtime.block_on(signals.next());
                handling.handle(name, asked, Instant::now());
            }
        })?;
        Ok(control)
    }

    /// Makes signals act on `served` from now on.
    pub(super) fn attach(&self, served: Served) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Running(served);
    }

    fn handle(&self, name: &str, asked: Asked, now: Instant) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
                tracing::info!("{name}: finishing running requests; SIGTERM or SIGINT ends them at once");
                served.stop.drain();
                *self = Self::Draining(served.clone(), now);
            }
            Self::Draining(_, since) if now.duration_since(*since) < TOGETHER => {
                tracing::debug!("{name}: treated as one with the signal just before");
            }
            Self::Draining(served, _) if at_once => {
                tracing::info!("{name}: ending at once");
                served.stop.cut();
            }
            Self::Draining(..) => tracing::info!("{name}: already finishing running requests"),
        }
    }

    /// The reloading thread logs the outcome.
    fn reload(&self, name: &str) {
        match self {
            Self::Running(served) => {
                tracing::info!("{name}: reading the configuration again");
                drop(served.reload.request(ReloadKind::Reload));
            }
            Self::Starting | Self::Draining(..) => {
                tracing::info!("{name}: the configuration is read again only while requests are accepted");
            }
        }
    }

    fn reopen(&self, name: &str) {
        match self {
            Self::Running(Served { files, .. }) | Self::Draining(Served { files, .. }, _)
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
    use crate::support::drain::Phase;

    fn running() -> (Stop, Stage) {
        let stop = Stop::default();
        let served = Served { stop: stop.clone(), files: Switch::default(), reload: Reload::default() };
        (stop, Stage::Running(served))
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
