//! Logs: where they go and in which form. No secret is ever handed to them.
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

/// Why logging could not be set up.
#[derive(Debug)]
pub enum InitError {
    /// The filter is not in the form of `RUST_LOG`.
    Filter(ParseError),
    /// The system gives no thread, or no second descriptor for stderr.
    System(io::Error),
}

/// Sends logs and panics to stderr from now on, by one of `threads`. A second call does nothing.
///
/// # Errors
/// See [`InitError`].
pub fn init(filter: &str, format: LogFormat, threads: &Threads) -> Result<(), InitError> {
    let filter = EnvFilter::builder().parse(filter).map_err(InitError::Filter)?;
    // A layer that cannot write would say so with `eprintln!`, which panics.
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
    // The only error is that logs already go somewhere.
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

/// Filters the log by `filter` from now on; false if it is not in the form of `RUST_LOG`, or before
/// [`init`].
pub fn refilter(filter: &str) -> bool {
    let filter = EnvFilter::builder().parse(filter).ok();
    filter.zip(REFILTER.get()).is_some_and(|(filter, refilter)| refilter(filter))
}

/// Writes a line that is no event, whatever the filter. Before [`init`], it goes to stderr
/// directly.
pub fn say(words: fmt::Arguments<'_>) {
    if buffer::is_written() {
        // In one piece, as lines are counted.
        let _ = Line.write_all(format!("{words}\n").as_bytes());
    } else {
        // Where stderr is gone, no reader is left.
        let _ = writeln!(io::stderr(), "{words}");
    }
}

/// Waits until every line so far was written, but no longer than `patience`. Whether they were.
pub fn flush(patience: Duration) -> bool {
    buffer::flush(patience)
}

/// Lines of the log that are lost, counted since the start: stderr could not be written, or was not
/// read for so long that too many waited.
pub fn dropped() -> u64 {
    buffer::dropped()
}

/// Panics since the start. One ends its thread, or only the request or the connection at hand: a
/// worker and the threads of estimates survive those.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// In place of the standard hook, which writes to stderr and waits for it.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let current = thread::current();
    let place = info.location().map(tracing::field::display);
    tracing::error!(thread = current.name(), place, reason = message(info.payload()), "a thread panicked");
}
