//! Logs: where they go and in which form. No secret is ever handed to them.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::LogFormat;

/// Sends logs to stderr from now on. A second call does nothing.
///
/// # Errors
/// `filter` is not in the form of `RUST_LOG`.
pub fn init(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Its errors would be printed to the stderr that cannot be written, with a panic.
    let builder = builder.log_internal_errors(false);
    let result = match format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // The only error is that logs already go somewhere.
    drop(result);
    Ok(())
}
