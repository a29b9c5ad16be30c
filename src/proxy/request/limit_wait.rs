//! A request that waits for limits with `at_limit = "wait"`.
//!
//! The request waits for one after the other: for rates before places of running requests, which
//! others could use meanwhile. All other limits hold what it is expected to use. So a request whose
//! client leaves counts as one in their periods, as it does in the ledger.

use std::time::Duration;

use super::clock::{EPOCH, limit_time};
use super::reached::{reached, remaining};
use super::running::Running;
use crate::balance::{CLIENT_MARGIN, client_deadline};
use crate::codec::head::Headers;
use crate::gate::limit::{AppliedLimit, Quantity, Units, Use};
use crate::proxy::attempt::served;
use crate::record::Entry;
use crate::record::error::Result;
use crate::support::wait_room::{WaitEnd, WaitTurn};

/// A request before it has a place in all of its limits.
pub(in crate::proxy) struct LimitWait {
    running: Box<Running>,
    /// The limits to wait for, in their order, and the amounts.
    limits: Vec<(AppliedLimit, Units)>,
    turn: WaitTurn,
    /// All limits of the client, if it gets headers about them.
    of_headers: Vec<AppliedLimit>,
}

impl LimitWait {
    /// `running` holds all other limits.
    pub(super) fn new(
        running: Box<Running>,
        of_headers: Vec<AppliedLimit>,
        limits: impl Iterator<Item = AppliedLimit>,
        expected: &Use,
        turn: WaitTurn,
    ) -> Box<Self> {
        let wanted = |applied: AppliedLimit| {
            let want = applied.limit.quantity().held_for(expected);
            (applied, want)
        };
        let mut limits: Vec<_> = limits.map(wanted).collect();
        // In the same order for all requests, so that none waits for another that waits for it.
        limits.sort_by_key(|(applied, _)| applied.limit.quantity() == Quantity::Concurrent);
        Box::new(Self { running, limits, turn, of_headers })
    }

    /// Waits for room in each limit, for at most its `wait`, and for no longer than the client.
    /// Dropping the future gives everything back.
    ///
    /// # Errors
    /// Fails like a limit that refuses if there is no room in time.
    pub(in crate::proxy) async fn wait(
        mut self: Box<Self>,
        headers: &Headers,
        entry: &mut Entry,
    ) -> Result<()> {
        let client = client_deadline(headers, entry.started()).map(|deadline| {
            let until = deadline.checked_sub(CLIENT_MARGIN).unwrap_or(deadline);
            until.saturating_duration_since(*EPOCH).as_nanos()
        });
        let client = client.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(u64::MAX);
        let began = limit_time().nanos;
        let started = entry.row().started_at;
        let waits = entry.wait();
        for (applied, want) in &self.limits {
            let longest = applied.limit.longest_wait().unwrap_or_default();
            let deadline = began.saturating_add(longest).min(client);
            let mut waiting = applied.limit.wait(*want, started, self.turn, deadline);
            let instant = |nanos| *EPOCH + Duration::from_nanos(nanos);
            let waited = served(&mut waiting, || limit_time().nanos, instant).await;
            let room_from = match waited {
                WaitEnd::Served(_, Ok(hold)) => {
                    self.running.hold.join(hold);
                    continue;
                }
                WaitEnd::Served(waiting, Err(_)) | WaitEnd::Refused(waiting) => {
                    waiting.room_from(limit_time())
                }
            };
            applied.limit.record_exceeded();
            self.running.hold.leave(limit_time());
            return Err(reached(applied, *want, room_from, limit_time()));
        }
        drop(waits);
        if !self.of_headers.is_empty() {
            entry.add_headers(remaining(&self.of_headers));
        }
        entry.observe(self.running);
        Ok(())
    }
}
