//! The reactions of `serve` to signals, from before it reads its configuration until its end.

use std::io;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::time::timeout_at;

use super::serve::FLUSH;
use super::signals::{Asked, Signals};
use super::upgrade::{self, OwnSockets, Program};
use crate::config::reload::{Reload, ReloadKind};
use crate::sinks::jsonl::Switch;
use crate::sinks::ledger::ShippingEnd;
use crate::support::drain::{DrainEnd, Phase, Stop};
use crate::support::supervisor::Supervisor;
use crate::support::telemetry;
use crate::support::threads::Threads;
use crate::support::{Latch, Live};

/// A second signal within this time after the first is the same request to stop: GNU `timeout` and
/// supervisors signal both the process and its group.
const TOGETHER: Duration = Duration::from_millis(500);

/// The longest wait for an upgrade at the end of the process: the time for stopping the new process.
const UPGRADE_END: Duration = Duration::from_secs(10);

/// The thread that handles signals. It ends with the process.
#[derive(Clone, Debug)]
pub(super) struct Control {
    stage: Arc<Mutex<Stage>>,
    threads: Threads,
    program: Program,
    /// Opened when the latest upgrade has succeeded or failed.
    upgrade_over: Arc<Mutex<Option<Latch>>>,
}

/// The object of a stop.
#[derive(Debug)]
enum Stage {
    /// Nothing yet.
    Starting,
    Running(Served),
    /// A new process starts, which has this id, to take the place of this one.
    Upgrading(Served, Option<u32>),
    /// The time since when the stop is announced, and the time at which the drain begins.
    Leaving(Served, Instant, Instant),
    /// The time since when the drain runs.
    Draining(Served, Instant),
    /// The process with this id has taken the place of this one, which drains.
    Replaced(Served, u32),
}

/// The parts of a running proxy that signals act on.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) stop: Stop,
    /// The time between the signal to stop and the drain.
    pub(super) stop_delay: Arc<Live<Duration>>,
    pub(super) drain_timeout: Arc<Live<Duration>>,
    pub(super) upgrade_drain: Arc<Live<Option<Duration>>>,
    pub(super) shipping_end: ShippingEnd,
    pub(super) supervisor: Supervisor,
    pub(super) program: Program,
    /// The listening sockets, until the drain.
    pub(super) sockets: OwnSockets,
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
        let control = Self {
            stage: Arc::new(Mutex::new(Stage::Starting)),
            threads: threads.clone(),
            program: Program::of_this_process(),
            upgrade_over: Arc::default(),
        };
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

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// Waits for the end of an upgrade at the end of this process, which would leave a new process
    /// that serves.
    pub(super) fn finish_upgrade(&self) {
        let over = self.upgrade_over.lock().unwrap_or_else(PoisonError::into_inner).take();
        if over.is_some_and(|over| !over.wait(UPGRADE_END)) {
            tracing::error!("the end of an upgrade did not come in time");
        }
    }

    /// Makes signals act on `served` from now on.
    pub(super) fn attach(&self, served: Served) {
        *self.stage() = Stage::Running(served);
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the drain that was announced.
    fn begins_drain_at(&self) -> Option<Instant> {
        match *self.stage() {
            Stage::Leaving(_, _, at) => Some(at),
            _ => None,
        }
    }

    /// Starts the new process, on a thread of its own.
    fn upgrade(&self, served: Served) {
        let (control, mut once, over) = (self.clone(), Some(served), Latch::default());
        *self.upgrade_over.lock().unwrap_or_else(PoisonError::into_inner) = Some(over.clone());
        let opened = over.clone();
        let started = self.threads.spawn("upgrade", move || {
            let child = match once.take() {
                Some(served) => upgrade::run(&served, &control),
                // After a panic.
                None => {
                    control.upgrade_failed();
                    None
                }
            };
            opened.open();
            if let Some(child) = child {
                upgrade::wait(child);
            }
            Ok(())
        });
        if let Err(error) = started {
            tracing::error!(%error, "the upgrade has failed: there is no thread for it");
            self.upgrade_failed();
            over.open();
        }
    }

    /// Notes the id of the new process. Returns false if a signal has stopped this one meanwhile.
    pub(super) fn upgrade_started(&self, process: u32) -> bool {
        match &mut *self.stage() {
            Stage::Upgrading(_, id) => {
                *id = Some(process);
                true
            }
            _ => false,
        }
    }

    /// Goes on serving, unless a signal has stopped this process meanwhile.
    pub(super) fn upgrade_failed(&self) {
        let mut stage = self.stage();
        if let Stage::Upgrading(served, _) = &*stage {
            *stage = Stage::Running(served.clone());
        }
    }

    /// Drains, since the new process serves.
    pub(super) fn upgraded(&self, process: u32) {
        let mut stage = self.stage();
        // Otherwise a signal has stopped both.
        if let Stage::Upgrading(served, _) = &*stage {
            let served = served.clone();
            served.supervisor.hand_over(process);
            let end = served.upgrade_drain.load().map(|time| DrainEnd::At(Instant::now() + time));
            served.stop.end_drain(end.unwrap_or(DrainEnd::Never));
            served.shipping_end.begin();
            served.stop.drain();
            *stage = Stage::Replaced(served, process);
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
                if let Some(served) = stage.begin_upgrade(name) {
                    drop(stage);
                    self.upgrade(served);
                }
            }
            Asked::Nothing => tracing::debug!("{name}: ignored"),
        }
    }
}

impl Stage {
    /// The first signal drains, also after a failure has begun the drain: running streams may
    /// finish. The second ends immediately, if `at_once`.
    fn stop(&mut self, name: &str, at_once: bool, now: Instant) {
        if let Self::Upgrading(_, Some(process)) = self {
            tracing::info!(process, "{name}: the new process is stopped too");
            upgrade::stop(*process);
        }
        match self {
            Self::Starting => {
                tracing::info!("{name}: ended before the start was complete");
                telemetry::flush(FLUSH);
                process::exit(0);
            }
            Self::Running(served) | Self::Upgrading(served, _) => {
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
            Self::Replaced(served, process) => {
                tracing::info!(
                    process = *process,
                    "{name}: finishing running requests within server.drain_timeout; the new process goes on"
                );
                let end = now + *served.drain_timeout.load();
                served.stop.end_drain(DrainEnd::At(match served.stop.drain_ends() {
                    DrainEnd::At(earlier) => earlier.min(end),
                    DrainEnd::Timeout | DrainEnd::Never => end,
                }));
                *self = Self::Draining(served.clone(), now);
            }
        }
    }

    fn drain(&mut self, now: Instant) {
        let (served, since) = match self {
            Self::Running(served) | Self::Upgrading(served, _) => (served.clone(), now),
            Self::Leaving(served, since, _) => (served.clone(), *since),
            Self::Starting | Self::Draining(..) | Self::Replaced(..) => return,
        };
        served.stop.drain();
        *self = Self::Draining(served, since);
    }

    /// Returns the process's parts if an upgrade may begin now.
    fn begin_upgrade(&mut self, name: &str) -> Option<Served> {
        let reason = match self {
            Self::Running(served) => match served.program.refusal() {
                None if served.stop.phase() == Phase::Running => {
                    tracing::info!("{name}: starting a new process in place of this one");
                    let served = served.clone();
                    *self = Self::Upgrading(served.clone(), None);
                    return Some(served);
                }
                None => "this process is stopping".to_owned(),
                Some(reason) => reason.to_owned(),
            },
            Self::Upgrading(_, Some(process)) => format!("the process {process} is starting already"),
            Self::Upgrading(_, None) => "a new process is starting already".to_owned(),
            Self::Replaced(_, process) => {
                format!("the process {process} has taken over: send the signal to that")
            }
            Self::Starting => "this process is only starting".to_owned(),
            Self::Leaving(..) | Self::Draining(..) => "this process is stopping".to_owned(),
        };
        tracing::warn!("{name}: no upgrade: {reason}");
        None
    }

    /// The reloading thread logs the outcome.
    fn reload(&self, name: &str) {
        match self {
            Self::Running(served) | Self::Upgrading(served, _) => {
                tracing::info!("{name}: reading the configuration again");
                drop(served.reload.request(ReloadKind::Reload));
            }
            Self::Replaced(_, process) => {
                tracing::info!(process, "{name}: another process has taken over: send the signal to that");
            }
            Self::Starting | Self::Leaving(..) | Self::Draining(..) => {
                tracing::info!("{name}: the configuration is read again only while requests are accepted");
            }
        }
    }

    fn reopen(&self, name: &str) {
        match self {
            Self::Running(Served { files, .. })
            | Self::Upgrading(Served { files, .. }, _)
            | Self::Replaced(Served { files, .. }, _)
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
        let served = Served {
            stop: stop.clone(),
            stop_delay: Live::new(delay),
            drain_timeout: Live::new(Duration::from_secs(30)),
            upgrade_drain: Live::new(None),
            shipping_end: ShippingEnd::default(),
            supervisor: Supervisor::default(),
            program: Program::of_this_process(),
            sockets: OwnSockets::default(),
            files: Switch::default(),
            reload: Reload::default(),
        };
        (stop, Stage::Running(served))
    }

    fn control(stage: Stage) -> Control {
        Control {
            stage: Arc::new(Mutex::new(stage)),
            threads: Threads::default(),
            program: Program::of_this_process(),
            upgrade_over: Arc::default(),
        }
    }

    #[test]
    fn upgrade_begins_once_and_a_failed_one_can_be_repeated() {
        let (stop, stage) = running();
        let control = control(stage);
        assert!(control.stage().begin_upgrade("SIGUSR2").is_some());
        assert!(control.stage().begin_upgrade("SIGUSR2").is_none(), "one is running");
        control.upgrade_failed();
        assert!(control.stage().begin_upgrade("SIGUSR2").is_some());
        assert!(control.upgrade_started(7));
        control.upgraded(7);
        assert!(control.stage().begin_upgrade("SIGUSR2").is_none(), "another process has taken over");
        assert_eq!((stop.phase(), stop.drain_ends()), (Phase::Draining, DrainEnd::Never));
    }

    #[test]
    fn signal_after_an_upgrade_limits_the_drain_and_a_second_cuts() {
        let (stop, stage) = running();
        let control = control(stage);
        control.stage().begin_upgrade("SIGUSR2");
        control.upgraded(7);
        let now = Instant::now();
        control.stage().stop("SIGTERM", true, now);
        assert_eq!(stop.drain_ends(), DrainEnd::At(now + Duration::from_secs(30)));
        assert_eq!(stop.phase(), Phase::Draining);
        control.stage().stop("SIGTERM", true, now + TOGETHER);
        assert_eq!(stop.phase(), Phase::Cut);
    }

    #[test]
    fn signal_after_an_upgrade_never_lengthens_the_drain() {
        let (stop, stage) = running();
        if let Stage::Running(served) = &stage {
            served.upgrade_drain.replace(Some(Duration::from_secs(10)));
        }
        let control = control(stage);
        control.stage().begin_upgrade("SIGUSR2");
        control.upgraded(7);
        let limit = stop.drain_ends();
        control.stage().stop("SIGTERM", true, Instant::now());
        assert_eq!(stop.drain_ends(), limit);
    }

    #[test]
    fn end_of_the_process_waits_for_an_upgrade() {
        let (_, stage) = running();
        let control = control(stage);
        control.finish_upgrade();
        let over = Latch::default();
        *control.upgrade_over.lock().unwrap() = Some(over.clone());
        let waiting = std::thread::spawn(move || control.finish_upgrade());
        assert!(!waiting.is_finished());
        over.open();
        waiting.join().unwrap();
    }

    #[test]
    fn stop_during_an_upgrade_ends_it() {
        let (stop, stage) = running();
        let control = control(stage);
        control.stage().begin_upgrade("SIGUSR2");
        control.stage().stop("SIGTERM", true, Instant::now());
        assert_eq!(stop.phase(), Phase::Draining);
        assert!(!control.upgrade_started(7), "the new process must not go on");
        control.upgraded(7);
        control.upgrade_failed();
        assert!(matches!(*control.stage(), Stage::Draining(..)));
        assert_eq!(stop.drain_ends(), DrainEnd::Timeout);
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
