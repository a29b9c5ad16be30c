//! The hold of a running request, which grows with its output until the record replaces it.

use std::sync::Arc;

use super::clock::limit_time;
use super::expected::Expected;
use super::member_limits::MemberLimits;
use super::reached::limit_reached;
use super::used::{self, Counting, Seen};
use crate::gate::limit::{AppliedLimit, InputRatios, LimitHold, NoRoom, Now};
use crate::llm::price::{Prices, TokenCounts};
use crate::record::error::{Error, Kind};
use crate::record::{Note, UsageRecord, UsageSource, UseObserver};
use crate::support::Live;

/// The hold of a running request.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) hold: LimitHold,
    /// The limits of `hold`, except those that were waited for, which come last. Empty if none cuts.
    pub(super) limits: Box<[AppliedLimit]>,
    /// The holds of limits of single members of the group.
    pub(super) members: Option<Arc<MemberLimits>>,
    /// `None`: no limit counts tokens or their cost.
    pub(super) ratios: Option<Arc<InputRatios>>,
    /// `None`: no limit counts cost.
    pub(super) prices: Option<Arc<Live<Prices>>>,
    /// Some limits count tokens by kind.
    pub(super) counts_kinds: bool,
    pub(super) expected: Expected,
    /// The beginning of the request, as in [`Now::nanos`].
    pub(super) started: u64,
    /// The output tokens that have passed.
    pub(super) output: u64,
    /// The hold was used up at the last progress, and a limit that cuts had no room for more.
    pub(super) lacks_room: bool,
}

/// The limit that cuts a request, for which it has no room.
pub(super) struct Full {
    pub(super) applied: AppliedLimit,
    pub(super) no_room: NoRoom,
    pub(super) now: Now,
}

impl Full {
    /// The error of what was running, and is ended.
    pub(super) fn cut(self) -> Error {
        self.applied.limit.record_exceeded();
        self.into_error()
    }

    /// The same error, where the limit has counted already.
    pub(super) fn into_error(self) -> Error {
        let Self { applied, no_room: NoRoom { want, room_from, .. }, now } = self;
        Kind::BudgetExhausted(limit_reached(&applied, want, room_from, now)).into()
    }
}

impl Running {
    /// Holds more for the output that has passed. Returns the limit that has no room, if the request
    /// has used up what it holds.
    fn grow(&mut self) -> Option<Full> {
        let slices = self.expected.slices.as_mut()?;
        let before = *slices;
        if !slices.grow(self.output) {
            return None;
        }
        let (expected, now) = (self.expected.used(), limit_time());
        let full = match self.hold.grow(&expected, now) {
            Ok(()) => self.members.as_ref()?.grow(&expected, now)?,
            Err(no_room) => Full { applied: self.limits.get(no_room.limit)?.clone(), no_room, now },
        };
        // Asks again when more has passed.
        self.expected.slices = Some(before);
        (self.output >= before.held()).then_some(full)
    }
}

impl UseObserver for Running {
    fn on_progress(&mut self, events: u64, output_tokens: Option<u64>) -> Option<Error> {
        // An event has at least one token.
        self.output = output_tokens.unwrap_or(0).max(events);
        let Some(full) = self.grow() else {
            self.lacks_room = false;
            return None;
        };
        // The last counts of a stream may exceed its hold, and only its last event follows. So the
        // stream ends at the next event.
        if !std::mem::replace(&mut self.lacks_room, true) {
            return None;
        }
        Some(full.cut())
    }

    fn note(&self) -> Option<Note> {
        self.members.as_ref()?.has_exceeded().then_some(Note::LimitExceeded)
    }

    fn on_end(&mut self) {
        self.hold.end();
        self.members.iter().for_each(|members| members.end());
    }

    fn on_close(mut self: Box<Self>, record: &UsageRecord) {
        let Self { hold, members, ratios, prices, counts_kinds, expected, output, started, .. } = &mut *self;
        if let Some(ratios) = ratios.as_ref().filter(|_| expected.is_own) {
            learn(ratios, expected, record);
        }
        let prices = prices.as_ref().map(|prices| prices.load());
        let prices = prices.as_deref();
        let seen = expected.is_own.then_some(Seen { input: expected.input, output: *output });
        let by = Counting { at: None, prices, kinds: *counts_kinds };
        let (recorded, or_seen) = (used::by_record(record, &by), used::or_seen(record, &by, seen));
        // Known without another look at the clock.
        let ended = started.saturating_add((record.duration_ms * 1e6) as u64);
        hold.settle_seen(&recorded, or_seen.as_ref().unwrap_or(&recorded), ended);
        members.iter().for_each(|members| members.settle(record, prices, seen));
    }
}

/// Learns from the input that the service has reported.
fn learn(ratios: &InputRatios, expected: &Expected, record: &UsageRecord) {
    if !matches!(record.usage_source, UsageSource::Reported | UsageSource::Drained) {
        return;
    }
    let of_record = || Some(ratios.key(record.upstream.as_deref()?, record.model_requested.as_deref()));
    if let Some(key) = expected.ratio.or_else(of_record) {
        let tokens = TokenCounts::new(&record.usage, None, record.endpoint.as_deref()).whole_input();
        ratios.learn(&expected.size, key, tokens);
    }
}
