//! The limits of single members of a group, which are held during an attempt at that member.
//!
//! A member whose limit has no room is skipped, like one that cannot serve the request. What an
//! attempt holds is given back when another member is tried; the tokens that it reported count at
//! its member when the record is closed. The request itself counts at the member whose response the
//! client gets. So a limit has the ledger's sums of its upstream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use super::clock::{limit_time, nanos_at};
use super::holding::take;
use super::running::Full;
use super::used::{self, Counting, Seen};
use crate::gate::limit::{AppliedLimit, LimitHold, Now, ReplyWait, Use};
use crate::llm::price::Prices;
use crate::record::UsageRecord;
use crate::record::error::Result;

/// The limits of the members, and the holds of the request's attempts.
#[derive(Debug)]
pub(in crate::proxy) struct MemberLimits {
    limits: Vec<AppliedLimit>,
    started: Timestamp,
    attempts: Mutex<AttemptHolds>,
}

#[derive(Debug)]
struct AttemptHolds {
    expected: Use,
    /// The holds by upstream. Bounded by the members.
    holds: Vec<(Arc<str>, LimitHold)>,
    /// The last one is that of the current attempt. False: that has no limits of its own.
    has_current: bool,
    /// A limit with `at_limit = "warn"` had no room for an attempt.
    has_exceeded: bool,
}

impl MemberLimits {
    /// `started`: the beginning of the request.
    pub(super) fn new(limits: Vec<AppliedLimit>, expected: Use, started: Timestamp) -> Self {
        Self {
            limits,
            started,
            attempts: Mutex::new(AttemptHolds {
                expected,
                holds: Vec::new(),
                has_current: false,
                has_exceeded: false,
            }),
        }
    }

    /// Holds the limits of the upstream of the next attempt, in place of those of the one before.
    ///
    /// # Errors
    /// Fails if a limit has no room, or lacks a grant for which the request can wait. Nothing is held
    /// then.
    pub(super) fn enter(&self, upstream: &Arc<str>, reply_wait: ReplyWait) -> Result<()> {
        let attempts = &mut *self.attempts();
        if let Some(current) = attempts.current() {
            current.leave(limit_time());
        }
        attempts.has_current = false;
        let limits: Vec<_> = self.limits_of(upstream).collect();
        if limits.is_empty() {
            return Ok(());
        }
        let hold = take(&limits, &attempts.expected, self.started, limit_time(), reply_wait)?;
        attempts.has_exceeded |= hold.exceeded() > 0;
        // One hold settles all use of an upstream that is tried again.
        attempts.holds.retain(|(earlier, _)| earlier != upstream);
        attempts.holds.push((Arc::clone(upstream), hold));
        attempts.has_current = true;
        Ok(())
    }

    /// Holds more if the request is now expected to use more. Returns the limit that cuts and has no
    /// room.
    pub(super) fn grow(&self, expected: &Use, now: Now) -> Option<Full> {
        let attempts = &mut *self.attempts();
        attempts.expected = expected.clone();
        let no_room = attempts.current()?.grow(expected, now).err()?;
        let (upstream, _) = attempts.holds.last()?;
        let applied = self.limits_of(upstream).nth(no_room.limit)?.clone();
        Some(Full { applied, no_room, now })
    }

    /// Holds what a session is expected to use with a further turn.
    ///
    /// # Errors
    /// Fails if a limit has no room, or lacks a grant for which the turn can wait.
    pub(super) fn begin_turn(
        &self,
        expected: &Use,
        now: Now,
        reply_wait: ReplyWait,
    ) -> std::result::Result<(), Box<Full>> {
        let attempts = &mut *self.attempts();
        let Some(current) = attempts.current() else { return Ok(()) };
        let Err(no_room) = current.begin_turn(expected, self.started, now, reply_wait) else {
            return Ok(());
        };
        let upstream = attempts.holds.last().map(|(upstream, _)| &**upstream).unwrap_or_default();
        match self.limits_of(upstream).nth(no_room.limit) {
            Some(applied) => Err(Box::new(Full { applied: applied.clone(), no_room, now })),
            None => Ok(()),
        }
    }

    /// See [`LimitHold::is_over`].
    pub(super) fn is_over(&self, now: Now) -> bool {
        self.attempts().current().is_some_and(|current| current.is_over(now))
    }

    /// Counts what a turn has used.
    pub(super) fn end_turn(&self, expected: &Use, recorded: &Use, seen: &Use, now: Now) {
        if let Some(current) = self.attempts().current() {
            current.end_turn(expected, recorded, seen, now);
        }
    }

    fn limits_of<'a>(&'a self, upstream: &'a str) -> impl Iterator<Item = &'a AppliedLimit> {
        self.limits.iter().filter(move |applied| applied.limit.filter().takes_upstream(Some(upstream)))
    }

    /// Returns true if a limit with `at_limit = "warn"` had no room for an attempt.
    pub(super) fn has_exceeded(&self) -> bool {
        self.attempts().has_exceeded
    }

    /// Gives back the place of the running request.
    pub(super) fn end(&self) {
        self.attempts().holds.iter_mut().for_each(|(_, hold)| hold.end());
    }

    /// Replaces what is held by what each upstream has served.
    pub(super) fn settle(&self, record: &UsageRecord, prices: Option<&Prices>, seen: Option<Seen>) {
        for (upstream, mut hold) in std::mem::take(&mut self.attempts().holds) {
            let by = Counting { at: Some(&*upstream), prices, kinds: true };
            let (recorded, or_seen) = (used::by_record(record, &by), used::or_seen(record, &by, seen));
            hold.settle_seen(&recorded, or_seen.as_ref().unwrap_or(&recorded), nanos_at(Instant::now()));
        }
    }

    /// The same for a session. The service may bill `unrecorded` beyond what the record has.
    pub(super) fn settle_session(
        &self,
        record: &UsageRecord,
        prices: Option<&Prices>,
        unrecorded: &Use,
        now: Now,
    ) {
        for (upstream, mut hold) in std::mem::take(&mut self.attempts().holds) {
            let by = Counting { at: Some(&*upstream), prices, kinds: true };
            let recorded = used::by_record(record, &by);
            let has_session = record.upstream.as_ref() == Some(&upstream);
            let more = if has_session { unrecorded.clone() } else { Use::default() };
            hold.settle_seen(&recorded, &more.plus(&recorded), now.nanos);
        }
    }

    fn attempts(&self) -> MutexGuard<'_, AttemptHolds> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AttemptHolds {
    fn current(&mut self) -> Option<&mut LimitHold> {
        self.holds.last_mut().filter(|_| self.has_current).map(|(_, hold)| hold)
    }
}
