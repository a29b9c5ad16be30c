//! The signals that a long-running command handles.
//!
//! None of them ends the process by itself: each has a listener from [`Signals::listen`] on,
//! instead of the system's default action. The meanings are those of nginx, if nginx defines one.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal as Number;
use tokio::signal::unix::{self, SignalKind, signal};

/// The request in a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Stop; at the second signal, immediately.
    Stop,
    /// Stop, never immediately.
    Finish,
    /// Read the configuration again, and open files again.
    Reload,
    /// Open files again.
    Reopen,
    /// Start a new version of the program in place of this one.
    Upgrade,
    /// Nothing: the default action would end the process.
    Nothing,
}

/// Each signal with its name and meaning.
///
/// * `SIGXFSZ` comes with a write beyond the limit on file sizes, which then fails with `EFBIG`
///   like any other write.
/// * `SIGPIPE` is ignored by the standard library already; the listener covers a program that
///   embeds this one.
/// * `SIGALRM`, `SIGVTALRM`, `SIGPROF` and `SIGIO` belong to timers and files that this process
///   does not have.
const SIGNALS: [(SignalKind, &str, Asked); 13] = [
    (SignalKind::terminate(), "SIGTERM", Asked::Stop),
    (SignalKind::interrupt(), "SIGINT", Asked::Stop),
    (SignalKind::quit(), "SIGQUIT", Asked::Finish),
    (SignalKind::hangup(), "SIGHUP", Asked::Reload),
    (SignalKind::user_defined1(), "SIGUSR1", Asked::Reopen),
    (SignalKind::user_defined2(), "SIGUSR2", Asked::Upgrade),
    (SignalKind::alarm(), "SIGALRM", Asked::Nothing),
    (SignalKind::pipe(), "SIGPIPE", Asked::Nothing),
    (SignalKind::window_change(), "SIGWINCH", Asked::Nothing),
    (SignalKind::io(), "SIGIO", Asked::Nothing),
    (SignalKind::from_raw(Number::XFSZ.as_raw()), "SIGXFSZ", Asked::Nothing),
    (SignalKind::from_raw(Number::VTALARM.as_raw()), "SIGVTALRM", Asked::Nothing),
    (SignalKind::from_raw(Number::PROF.as_raw()), "SIGPROF", Asked::Nothing),
];

/// The listeners, of one runtime.
pub(super) struct Signals {
    listeners: Vec<(unix::Signal, &'static str, Asked)>,
}

impl Signals {
    /// Listens from now on; needs a runtime.
    ///
    /// # Errors
    /// Fails if the system refuses a listener.
    pub(super) fn listen() -> io::Result<Self> {
        let listener = |(kind, name, asked)| Ok((signal(kind)?, name, asked));
        Ok(Self { listeners: SIGNALS.into_iter().map(listener).collect::<io::Result<_>>()? })
    }

    /// Waits for the next signal. Returns its name and its request. Several signals of one kind may
    /// come as one. Cancel-safe.
    pub(super) async fn next(&mut self) -> (&'static str, Asked) {
        poll_fn(|cx| {
            for (listener, name, asked) in &mut self.listeners {
                if listener.poll_recv(cx).is_ready() {
                    return Poll::Ready((*name, *asked));
                }
            }
            Poll::Pending
        })
        .await
    }
}
