//! The signals that end a command that neither serves nor reads its configuration again.

use std::io;

use rustix::process::Signal as Number;

use super::signals::{Asked, Signals};

/// Listeners for all signals. Those that request a stop end the command. The end of the terminal
/// (`SIGHUP`) is one of these, unless `nohup` started the command.
pub(super) struct StopSignals {
    signals: Signals,
    is_hangup_ignored: bool,
}

impl StopSignals {
    /// Listens from now on; needs a runtime.
    ///
    /// # Errors
    /// Fails if the system refuses a listener.
    pub(super) fn listen() -> io::Result<Self> {
        // Read first: the listener for `SIGHUP` replaces the action that `nohup` set.
        let is_hangup_ignored = is_ignored(Number::HUP);
        Ok(Self { signals: Signals::listen()?, is_hangup_ignored })
    }

    /// Waits for the next one and returns its name. Cancel-safe.
    pub(super) async fn next(&mut self) -> &'static str {
        loop {
            match self.signals.next().await {
                (name, Asked::Stop | Asked::Finish) => return name,
                (name, Asked::Reload) if !self.is_hangup_ignored => return name,
                _ => {}
            }
        }
    }
}

/// Returns true if this process was started with the signal ignored, as `nohup` does. Known on
/// Linux only.
fn is_ignored(signal: Number) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}
