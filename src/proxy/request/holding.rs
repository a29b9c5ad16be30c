//! The holds of a request, taken from all limits that apply to it.

use std::borrow::Borrow;
use std::sync::Arc;

use jiff::Timestamp;

use super::expected::Expected;
use super::limit_wait::LimitWait;
use super::member_limits::MemberLimits;
use super::reached::{reached, remaining};
use super::running::Running;
use crate::gate::KnownClient;
use crate::gate::limit::{AppliedLimit, LimitHold, NoRoom, Now, ReplyWait, Use};
use crate::record::error::{Error, Result};
use crate::record::{Entry, Note};
use crate::support::wait_room::WaitTurn;

/// The question to the limits: its time, the beginning of the request as in [`Now::nanos`], and the
/// wait for the fleet's store.
pub(super) struct Asked {
    pub(super) now: Now,
    pub(super) started: u64,
    pub(super) reply_wait: ReplyWait,
}

/// Holds what a request is expected to use, until its record is closed. Returns the wait that precedes
/// it, if there is one. `cost`: see [`WaitTurn`].
///
/// # Errors
/// Fails like [`take`].
pub(super) fn hold<L: Borrow<AppliedLimit>>(
    expected: Expected,
    cost: u32,
    limits: &[L],
    members: Option<Arc<MemberLimits>>,
    client: &KnownClient,
    Asked { now, started, reply_wait }: Asked,
    entry: &mut Entry,
) -> Result<Option<Box<LimitWait>>> {
    let (used, mut waiting) = (expected.used(), Vec::new());
    // The hold is large, and is made and filled where it stays.
    let mut running = Box::write(
        Box::new_uninit(),
        Running {
            hold: LimitHold::default(),
            limits: Box::default(),
            members,
            ratios: client.input_ratios.clone(),
            prices: client.prices.clone(),
            counts_kinds: client.counts_kinds,
            expected,
            started,
            output: 0,
            lacks_room: false,
        },
    );
    let in_use = limits.iter().map(|applied| &applied.borrow().limit);
    let begun = entry.row().started_at;
    let hold = &mut running.hold;
    hold.take_or_wait(in_use, &used, begun, now, reply_wait, Some(&mut waiting))
        .map_err(|no_room| refused(limits, no_room, now))?;
    if hold.exceeded() > 0 {
        entry.note(Note::LimitExceeded);
    }
    if hold.cuts() {
        let of_hold = (0..limits.len()).filter(|index| !waiting.contains(index));
        running.limits = of_hold.map(|index| limits[index].borrow().clone()).collect();
    }
    if waiting.is_empty() {
        if client.limit_headers {
            entry.add_headers(remaining(limits.iter().map(Borrow::borrow)));
        }
        entry.observe(running);
        return Ok(None);
    }
    let turn = WaitTurn::new(&entry.row().client, client.share, client.priority, cost);
    let waiting = waiting.into_iter().map(|index| limits[index].borrow().clone());
    let of_headers = limits.iter().map(Borrow::borrow).filter(|_| client.limit_headers).cloned().collect();
    Ok(Some(LimitWait::new(running, of_headers, waiting, &used, turn)))
}

/// Holds what a request that began at `started` is expected to use of each limit. `reply_wait`: see
/// [`LimitHold::take_or_wait`].
///
/// # Errors
/// Fails if a limit has no room, or lacks a grant for which the request can wait.
pub(super) fn take(
    limits: &[&AppliedLimit],
    expected: &Use,
    started: Timestamp,
    now: Now,
    reply_wait: ReplyWait,
) -> Result<LimitHold> {
    let (mut hold, in_use) = (LimitHold::default(), limits.iter().map(|applied| &applied.limit));
    hold.take_or_wait(in_use, expected, started, now, reply_wait, None)
        .map_err(|no_room| refused(limits, no_room, now))?;
    Ok(hold)
}

#[cold]
fn refused<L: Borrow<AppliedLimit>>(
    limits: &[L],
    NoRoom { limit, want, room_from }: NoRoom,
    now: Now,
) -> Error {
    reached(limits[limit].borrow(), want, room_from, now)
}
