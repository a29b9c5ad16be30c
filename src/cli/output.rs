//! Results on stdout, and the end of a command that cannot go on.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use super::FAILED;

/// Reports why a command that logs cannot go on: as a line of the log, or as plain text to a
/// terminal and where the log's filter would hide it.
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

/// The exit status where stdout cannot be written. A reader that has left, as `head` does, has seen
/// enough: `otherwise`, without a message.
pub(super) fn unwritten(error: &io::Error, otherwise: u8) -> ExitCode {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::from(otherwise);
    }
    say!("stdout: {error}");
    ExitCode::from(FAILED)
}
