//! Results on stdout, and messages about the end of a command.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use super::FAILED;

/// Reports why a command that logs cannot continue: as a line of the log, or as plain text to a
/// terminal and if the log's filter would hide it.
pub(super) fn say_failure(error: impl Display) {
    if io::stderr().is_terminal() || !tracing::enabled!(tracing::Level::ERROR) {
        say!("streamgauge: {error}");
    } else {
        tracing::error!("{error}");
    }
}

/// Writes a part of the result to stdout.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}

/// The exit status if stdout cannot be written. If the reader has closed it, as `head` does, it has
/// seen enough: returns `otherwise`, without a message.
pub(super) fn unwritten(error: &io::Error, otherwise: u8) -> ExitCode {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::from(otherwise);
    }
    say!("stdout: {error}");
    ExitCode::from(FAILED)
}
