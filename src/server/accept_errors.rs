//! Errors of accepting a connection.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// The time for which the same error is not logged again.
const QUIET: Duration = Duration::from_secs(60);

/// Returns true if the process or the system has no descriptor or memory left.
pub fn is_exhaustion(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Logs errors of accepting, each once per [`QUIET`].
#[derive(Debug, Default)]
pub struct AcceptErrors {
    logged: Option<(io::ErrorKind, Option<i32>, Instant)>,
}

impl AcceptErrors {
    /// Logs the error, unless it was logged recently.
    pub fn report(&mut self, error: &io::Error) {
        if self.take_news(error, Instant::now()) {
            tracing::warn!(%error, "a connection could not be accepted; it is tried again");
        }
    }

    fn take_news(&mut self, error: &io::Error, now: Instant) -> bool {
        let (kind, code) = (error.kind(), error.raw_os_error());
        let is_known = self.logged.is_some_and(|(logged, logged_code, at)| {
            (logged, logged_code) == (kind, code) && now.saturating_duration_since(at) < QUIET
        });
        if !is_known {
            self.logged = Some((kind, code, now));
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_are_logged_once_a_minute_each() {
        let (full, other) = (io::Error::from(Errno::MFILE), io::Error::from(Errno::CONNABORTED));
        assert!(is_exhaustion(&full) && !is_exhaustion(&other));
        let (mut errors, now) = (AcceptErrors::default(), Instant::now());
        assert!(errors.take_news(&full, now));
        assert!(!errors.take_news(&full, now + QUIET / 2));
        assert!(errors.take_news(&other, now + QUIET / 2));
        assert!(errors.take_news(&full, now + QUIET));
    }
}
