//! Logs: their filter, their form and their writer. No secret is ever passed to them.
//!
//! A thread that logs never waits for stderr and never fails because of it: lines go to a bounded
//! [buffer], and a thread of its own writes them. Panics are logged the same way.

mod buffer;

use std::fmt;
use std::io::{self, Write as _};
use std::panic;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::support::threads::{Threads, message};
use buffer::Line;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// The reason for which logging could not be set up.
#[derive(Debug)]
pub enum InitError {
    /// The filter is not in the form of `RUST_LOG`.
    Filter(ParseError),
    /// The system provides no thread, or no second descriptor for stderr.
    System(io::Error),
}

/// Sends logs and panics to stderr from now on, on one of `threads`. A second call does nothing.
///
/// # Errors
/// Fails with [`InitError`].
pub fn init(filter: &str, format: LogFormat, threads: &Threads) -> Result<(), InitError> {
    let filter = EnvFilter::builder().parse(filter).map_err(InitError::Filter)?;
    // A layer that cannot write would report it with `eprintln!`, which panics.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Line).log_internal_errors(false);
    let (result, refilter): (_, Refilter) = match format {
        LogFormat::Text => {
            let builder = builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| handle.reload(filter).is_ok()))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| handle.reload(filter).is_ok()))
        }
    };
    // The only possible error is that a subscriber is set already.
    if result.is_ok() {
        let _ = REFILTER.set(refilter);
        buffer::spawn(threads).map_err(InitError::System)?;
        panic::set_hook(Box::new(log_panic));
    }
    Ok(())
}

type Refilter = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// Replaces the filter of [`init`].
static REFILTER: OnceLock<Refilter> = OnceLock::new();

/// Filters the log by `filter` from now on. Returns false if it is not in the form of `RUST_LOG`,
/// or before [`init`].
pub fn refilter(filter: &str) -> bool {
    let filter = EnvFilter::builder().parse(filter).ok();
    filter.zip(REFILTER.get()).is_some_and(|(filter, refilter)| refilter(filter))
}

/// Writes a line that is not an event, regardless of the filter. Before [`init`], it goes to stderr
/// directly.
pub fn say(words: fmt::Arguments<'_>) {
    if buffer::is_written() {
        // In one piece, since lines are counted.
        let _ = Line.write_all(format!("{words}\n").as_bytes());
    } else {
        // If stderr is closed, no reader is left.
        let _ = writeln!(io::stderr(), "{words}");
    }
}

/// Waits until every line so far was written, but at most for `patience`. Returns true if all were
/// written.
pub fn flush(patience: Duration) -> bool {
    buffer::flush(patience)
}

/// The number of lost lines of the log since the start: stderr could not be written, or too many
/// lines waited for it.
pub fn dropped() -> u64 {
    buffer::dropped()
}

/// The number of panics since the start. A panic ends its thread, or only one request or
/// connection: workers and the threads of estimates survive those.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Replaces the standard hook, which writes to stderr and waits for it.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let current = thread::current();
    let place = info.location().map(tracing::field::display);
    tracing::error!(thread = current.name(), place, reason = message(info.payload()), "a thread panicked");
}
