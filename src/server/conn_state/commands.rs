//! The commands to a connection, and the limits that give them.

use std::time::{Duration, Instant};

use super::super::{Limits, Rank};
use super::ConnState;
use crate::support::flow::Limit;

/// The time within which a connection must obey a command.
pub(super) const FINISH: Duration = Duration::from_secs(2);

/// The time of a new connection for its first request, also during the drain: the round trip of a
/// distant client, with TLS.
pub(super) const FIRST: Duration = Duration::from_millis(1500);

/// The time that a drain leaves to a connection for a head that it awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Patience {
    /// [`FIRST`], for the first head: a supervisor waits for the end of the process.
    Short,
    /// The header timeout, for a head that has begun too: another process serves already.
    Long,
}

/// A command to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ConnCommand {
    /// Finish running requests, then close.
    Finish,
    /// Close now: no request runs, and a new connection needs the place.
    Yield,
    /// Respond with 408 to the incomplete head, then close.
    RefuseHead,
    /// The drain timeout has expired: end running responses as if their upstream had failed, then
    /// close.
    Stop,
    /// Drop the connection: it did not obey an earlier command in time.
    Drop,
}

impl ConnState {
    pub(in super::super) fn command(&self) -> Option<ConnCommand> {
        self.command.get().map(|(command, _)| command)
    }

    /// Commands the connection to finish running requests.
    pub(in super::super) fn finish(&self, now: Instant) {
        if self.command().is_none() {
            self.tell(ConnCommand::Finish, now);
        }
    }

    /// Commands the connection to finish running requests, and the first one if it is new: that may
    /// be on its way, and a client that sent it could not know whether it was executed.
    pub(in super::super) fn drain(&self, now: Instant, patience: Patience) {
        let is_commanded = self.command().is_some();
        self.patience.set(Some(patience).filter(|_| !is_commanded));
        self.spared.set(!is_commanded && self.silent.get());
        self.finish(now);
    }

    /// Gives a connection that a drain found in its handshake the time of a new one: the client
    /// sends its request behind the last message.
    pub(in super::super) fn on_handshake(&self, now: Instant) {
        if self.spared.get() {
            self.patience.set(self.patience.get().or(Some(Patience::Short)));
            self.head_since.set(Some(now));
        }
    }

    /// Returns true if a command ends the exchange before the first byte of HTTP (TLS, a header of
    /// the PROXY protocol). One that has begun when a drain finds it has [`FINISH`] for its rest,
    /// and bytes that wait in the kernel are read.
    pub(in super::super) fn must_end_exchange(
        &self,
        now: Instant,
        has_begun: bool,
        has_bytes: impl FnOnce() -> bool,
    ) -> bool {
        let Some((ConnCommand::Finish, since)) = self.command.get() else { return self.must_end() };
        let has_time = has_begun && self.spared.get() && now.saturating_duration_since(since) < FINISH;
        self.must_end() && !has_time && !has_bytes()
    }

    /// Returns true if a command ends the connection unless a request runs.
    pub(in super::super) fn must_end(&self) -> bool {
        match self.command() {
            None => false,
            Some(ConnCommand::Finish) => !self.awaits_first(Instant::now()),
            Some(_) => true,
        }
    }

    /// Returns true for a new connection that a drain leaves time: it has had no request.
    fn awaits_first(&self, now: Instant) -> bool {
        let since = self.head_since.get().filter(|_| !self.proven.get());
        match self.patience.get() {
            None => false,
            Some(Patience::Short) => since.is_some_and(|since| now.saturating_duration_since(since) < FIRST),
            // Its end is in `enforce_limits`.
            Some(Patience::Long) => since.is_some(),
        }
    }

    /// Returns true for a connection that a drain found new, as long as no byte was read from it.
    fn is_spared(&self, now: Instant, limits: &Limits) -> bool {
        let since = self.head_since.get().filter(|_| self.spared.get() && self.silent.get());
        since.is_some_and(|since| now.saturating_duration_since(since) < limits.header_timeout)
    }

    /// Commands the connection to cut running requests.
    pub(in super::super) fn stop(&self, now: Instant) {
        if self.command() != Some(ConnCommand::Drop) {
            self.tell(ConnCommand::Stop, now);
        }
    }

    fn tell(&self, command: ConnCommand, now: Instant) {
        self.command.set(Some((command, now)));
        self.wake();
    }

    /// Enforces the limits and returns the one that closes the connection now. While a request
    /// runs, only the write timeout applies.
    pub(in super::super) fn enforce_limits(&self, now: Instant, limits: &Limits) -> Option<Limit> {
        let over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if let (Some(limit), Some(since)) = (limits.write_timeout, self.stalled_since.get())
            && over(since, limit)
            && self.stalled_for.replace(Some(limit)).is_none()
        {
            self.tell(ConnCommand::Drop, now);
            return Some(Limit::WriteTimeout);
        }
        if self.is_running() || (self.lingers.get() && self.command().is_none()) {
            return None;
        }
        let head_since = self.head_since.get();
        let has_time = match self.patience.get() {
            None => false,
            Some(Patience::Short) => self.awaits_first(now),
            Some(Patience::Long) => head_since.is_some_and(|since| !over(since, limits.header_timeout)),
        };
        if !has_time && (self.patience.take().is_some() || self.is_spared(now, limits)) {
            self.wake();
        }
        match (self.command.get(), head_since) {
            (Some((ConnCommand::Drop, _)), _) => {}
            (Some((ConnCommand::Finish, _)), _) if has_time => {}
            // On a busy worker, the task of a new connection may not have seen its request yet. It
            // ends by itself.
            (Some((ConnCommand::Finish, _)), _) if self.is_spared(now, limits) => {}
            (Some((_, since)), _) if over(since, FINISH) => self.tell(ConnCommand::Drop, now),
            (None, Some(since)) if over(since, limits.header_timeout) => {
                // HTTP/2 has no response to a missing head, and a client that sent nothing needs
                // none.
                let has_begun = !self.silent.get() && !self.http2.get();
                self.tell(if has_begun { ConnCommand::RefuseHead } else { ConnCommand::Finish }, now);
                return Some(Limit::HeaderTimeout);
            }
            (None, Some(since)) if self.silent.get() && over(since, limits.keep_alive_timeout) => {
                self.finish(now);
                return Some(Limit::KeepAliveTimeout);
            }
            (None, None) if over(self.idle_since.get(), limits.keep_alive_timeout) => {
                self.finish(now);
                return Some(Limit::KeepAliveTimeout);
            }
            _ => {}
        }
        None
    }

    /// The rank in the order of eviction. `None` if it cannot be evicted now. A connection has `grace`
    /// for each head.
    pub(in super::super) fn rank(&self, now: Instant, grace: Duration) -> Option<Rank> {
        if self.is_running() || self.command().is_some() {
            return None;
        }
        match self.head_since.get() {
            Some(since) => Rank::in_head(self.proven.get(), since, now, grace),
            None => Some(Rank::idle(self.idle_since.get())),
        }
    }

    pub(in super::super) fn yield_place(&self, now: Instant) {
        let in_head = self.head_since.get().is_some();
        self.tell(if in_head { ConnCommand::Drop } else { ConnCommand::Yield }, now);
    }
}
