//! Readings, keys and signals as they come.
//!
//! A thread reads, so that keys work while the proxy does not respond. At the end it is left alone:
//! it holds nothing. A panic of it ends the command.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum as _;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_core::Stream as _;
use tokio::sync::mpsc;

use super::super::FAILED;
use super::super::stop_signals::StopSignals;
use super::StreamOrder;
use super::cells::Line;
use super::frame::{View, frame};
use super::reading::Reading;
use super::screen::{self, Screen};
use super::source::{Failure, Source};
use super::speed::Speeds;
use crate::support::ListenAddress;
use crate::support::threads::fault;

/// Shows readings until a key or a signal ends it.
///
/// # Errors
/// Fails if the terminal cannot be written.
pub(super) fn run(
    address: ListenAddress,
    source: Source,
    first: Reading,
    interval: Duration,
    order: StreamOrder,
) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut signals = StopSignals::listen()?;
        let (sender, mut readings) = mpsc::channel(1);
        let (wake, woken) = std_mpsc::sync_channel(1);
        thread::Builder::new()
            .name("readings".to_owned())
            .spawn(move || read(source, interval, &sender, &woken))?;
        let mut shown = Shown { address, speeds: Speeds::of(&first), reading: first, order, failed: None };
        let mut screen = Screen::open()?;
        let mut keys = Some(EventStream::new());
        loop {
            let (width, height) = screen::size();
            screen.draw(shown.frame(width, height))?;
            fault::strike("screen");
            tokio::select! {
                _ = signals.next() => return Ok(ExitCode::SUCCESS),
                reading = readings.recv() => match reading {
                    Some(reading) => shown.take(reading),
                    // The panic has its own message.
                    None => return Ok(ExitCode::from(FAILED)),
                },
                event = next(&mut keys) => match event {
                    Some(Event::Resize(..)) => screen.clear()?,
                    Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match Asked::by(key) {
                        Asked::Quit => return Ok(ExitCode::SUCCESS),
                        Asked::Suspend => screen.suspend()?,
                        Asked::Order => shown.order = following(shown.order),
                        Asked::Read => {
                            // A wake that is pending already is enough.
                            let _ = wake.try_send(());
                        }
                        Asked::Draw => screen.clear()?,
                        Asked::Nothing => {}
                    },
                    Some(_) => {}
                    None => keys = None,
                },
            }
        }
    })
}

/// Reads at each interval, or earlier when woken, until no receiver is left.
fn read(
    mut source: Source,
    interval: Duration,
    sender: &mpsc::Sender<Result<Reading, Failure>>,
    woken: &std_mpsc::Receiver<()>,
) {
    while !matches!(woken.recv_timeout(interval), Err(std_mpsc::RecvTimeoutError::Disconnected)) {
        fault::strike("readings");
        if sender.blocking_send(source.read()).is_err() {
            return;
        }
    }
}

/// The next key or size; never comes without a terminal for input. `None`: there is no further one.
async fn next(keys: &mut Option<EventStream>) -> Option<Event> {
    let Some(keys) = keys else { return pending().await };
    poll_fn(|cx| Pin::new(&mut *keys).poll_next(cx)).await.and_then(Result::ok)
}

/// The meaning of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Quit,
    Suspend,
    Order,
    Read,
    Draw,
    Nothing,
}

impl Asked {
    fn by(key: KeyEvent) -> Self {
        let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if has_control => Self::Quit,
            KeyCode::Char('z') if has_control => Self::Suspend,
            KeyCode::Char('l') if has_control => Self::Draw,
            _ if has_control => Self::Nothing,
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Self::Quit,
            KeyCode::Char('s') => Self::Order,
            KeyCode::Char('r' | ' ') => Self::Read,
            _ => Self::Nothing,
        }
    }
}

fn following(order: StreamOrder) -> StreamOrder {
    let all = StreamOrder::value_variants();
    let place = all.iter().position(|other| *other == order).map_or(0, |place| place + 1);
    all[place % all.len()]
}

/// The latest reading.
struct Shown {
    address: ListenAddress,
    reading: Reading,
    speeds: Speeds,
    order: StreamOrder,
    /// The reason for which there is no later one.
    failed: Option<String>,
}

impl Shown {
    fn take(&mut self, reading: Result<Reading, Failure>) {
        match reading {
            Ok(reading) => {
                self.speeds = Speeds::between(&self.reading, &reading);
                self.reading = reading;
                self.failed = None;
            }
            Err(failure) => self.failed = Some(failure.to_string()),
        }
    }

    fn frame(&self, width: usize, height: usize) -> Vec<Line> {
        let view = View::new(&self.address, &self.reading, &self.speeds, self.order);
        frame(&view.with_failure(self.failed.as_deref()), width, height)
    }
}
