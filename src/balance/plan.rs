//! The order of members for one request.
//!
//! Tiers come in order; in a tier first the conversation's member, then by
//! [`ChoiceBy`](super::ChoiceBy). Members with too few remaining tokens are the last of their tier.
//! No member comes twice, except after waiting. The order is computed step by step, so that each
//! step uses the results of other requests.
//!
//! If all remaining members are out, the one that comes back first is asked nevertheless. Exceptions
//! are members with a known end of their rate limit and, for further attempts, members that have
//! refused the request's model or the configured credentials: their refusal would replace the
//! response that the request already has.

mod choice;
mod members;
mod only;
mod view;

use std::sync::Arc;
use std::time::Instant;

use super::group::Row;
use super::sticky::{Fingerprint, StickyKey};
use super::{CLIENT_MARGIN, Permit, UpstreamGroup, Verdict};
use crate::support::UpstreamId;
use choice::Choice;
use members::Members;

pub use only::ask_only;

/// The number of further attempts if a group waits for the ends of rate limits.
const MORE_AFTER_WAITING: usize = 4;

/// The properties of a request that decide about members.
#[derive(Clone, Copy, Debug)]
pub struct PlanRequest<'a> {
    /// The model that the client asks for.
    pub model: Option<&'a str>,
    pub sticky: Option<StickyKey>,
    /// The member that stores state which the request refers to: no other is asked.
    pub pin: Option<usize>,
    pub fingerprint: Fingerprint,
    /// An estimate of its tokens. 0: unknown.
    pub tokens: u32,
    pub started: Instant,
    /// The end of the client's own timeout.
    pub client_deadline: Option<Instant>,
}

/// The next step of a request.
#[derive(Debug)]
pub enum Step {
    /// Ask this member.
    Ask(Permit),
    /// Wait, and take the next step then.
    Wait(Unavailable),
    /// No further attempt: relay the last response, or refuse the request.
    End(End),
}

/// All members are out or full for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The time at which the first one is available again. `None`: when a running request ends.
    pub until: Option<Instant>,
    /// One may be available before that, when a running request ends.
    pub may_be_sooner: bool,
    /// The time until which the request may wait.
    pub deadline: Instant,
}

/// The reason why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All members were tried.
    Tried,
    /// The number of attempts has reached its limit.
    Attempts,
    /// The time for attempts is over.
    Deadline,
    /// Too many requests are sent again already.
    Budget,
    /// The remaining members refuse requests until then, because of their rate limits.
    RateLimited { until: Instant },
    /// The number of running requests has reached its limit at each remaining member.
    Full,
}

/// Requests of one class need the same members: if one of them cannot be served, none can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanClass {
    models: u64,
    pin: Option<usize>,
    tried: Members,
    unfit: Members,
    is_first: bool,
}

/// The order of members for one request, as far as it is known.
#[derive(Debug)]
pub struct Plan {
    group: Arc<UpstreamGroup>,
    row: Arc<Row>,
    sticky: Option<StickyKey>,
    pin: Option<usize>,
    fingerprint: Fingerprint,
    tokens: u32,
    started: Instant,
    client_deadline: Option<Instant>,
    tried: Members,
    /// The members for which the request cannot be written.
    unfit: Members,
    attempts: usize,
    /// The request counts in the budget of retries.
    is_counted: bool,
    /// The last attempt took a retry from the budget.
    has_paid: bool,
    /// The last failure was a rate limit.
    was_limited: bool,
    /// The member of the last attempt does not have the state that the request names, which is no
    /// failure.
    was_of_state: bool,
    /// The beginning of the wait.
    waiting_since: Option<Instant>,
    /// A hash of the models at the members, once it has waited.
    models: u64,
}

impl Plan {
    /// The plan of a request to `group`. `name_at` returns the request's model at a member without
    /// a model of its own. It is called for models that were not requested recently.
    pub fn new(
        group: &Arc<UpstreamGroup>,
        request: &PlanRequest<'_>,
        name_at: impl Fn(usize) -> Option<Box<str>>,
    ) -> Self {
        Self {
            group: Arc::clone(group),
            row: group.row(request.model, name_at),
            sticky: request.sticky,
            pin: request.pin.filter(|&number| number < group.members().len()),
            fingerprint: request.fingerprint,
            tokens: request.tokens,
            started: request.started,
            client_deadline: request.client_deadline,
            tried: Members::NONE,
            unfit: Members::NONE,
            attempts: 0,
            is_counted: false,
            has_paid: false,
            was_limited: false,
            was_of_state: false,
            waiting_since: None,
            models: 0,
        }
    }

    pub fn group(&self) -> &Arc<UpstreamGroup> {
        &self.group
    }

    /// The upstream of the only member that can serve the request, since it stores state to which
    /// the request refers.
    pub fn holder(&self) -> Option<&UpstreamId> {
        self.pin.map(|number| &self.group.members()[number].upstream)
    }

    /// The estimate of the request's tokens.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// The number of attempts so far.
    pub fn attempts(&self) -> usize {
        self.attempts
    }

    /// Returns true if this attempt is the last one allowed, so that `retry.first_byte` does not
    /// apply to it.
    pub fn is_last(&self) -> bool {
        self.pin.is_some() || self.attempts >= self.group.spec().retry.attempts_of(self.members())
    }

    /// The number of members that can get the request, unless it is pinned.
    fn members(&self) -> usize {
        self.group.takers().saturating_sub(self.unfit.len())
    }

    /// Returns false if no attempt follows the one that was begun, however it ends.
    pub fn may_go_on(&self) -> bool {
        !self.is_last() || self.group.spec().wait.is_some()
    }

    /// Returns true if another member may be asked after this verdict on the last attempt.
    pub fn record_verdict(&mut self, verdict: &Verdict) -> bool {
        self.was_limited = verdict.is_rate_limit();
        self.was_of_state = verdict.is_of_state();
        verdict.may_retry(self.group.spec().retry.on)
    }

    /// The next step of a request that does not wait. It overtakes no waiting request that can be
    /// served, and takes any place that none of them can use.
    pub fn next_in_turn(&mut self, now: Instant, random: u64) -> Step {
        if self.group.waiting() == 0 {
            return self.next(now, random);
        }
        let room = Arc::clone(&self.group.room);
        room.step_behind(self, now, random)
    }

    /// The next step at `now`. `random` is any number.
    pub fn next(&mut self, now: Instant, random: u64) -> Step {
        let is_first = self.attempts == 0;
        if !is_first && let Some(end) = self.end(now) {
            return Step::End(end);
        }
        let tick = self.group.registry.tick(now);
        let found = Choice::new(self, now, tick, random).available();
        let permit = match found {
            Ok(permit) => permit,
            Err(nothing) => {
                if let Some(unavailable) = self.wait(&nothing, now) {
                    return Step::Wait(unavailable);
                }
                match Choice::new(self, now, tick, random).least_bad(&nothing) {
                    Some(permit) => permit,
                    None => return Step::End(self.refusal(&nothing, is_first)),
                }
            }
        };
        let budget = &self.group.budget;
        self.has_paid = false;
        if is_first {
            if !std::mem::replace(&mut self.is_counted, true) {
                budget.deposit(tick, self.group.spec().retry.budget);
            }
        } else {
            // A rate limit leaves its member out, so that it causes few further attempts. That does
            // not hold for a member that is asked although it is out.
            let is_free = (self.was_limited && !permit.is_least_bad()) || self.was_of_state;
            if !is_free && !budget.try_withdraw(tick) {
                return Step::End(End::Budget);
            }
            self.has_paid = !is_free;
        }
        self.attempts += 1;
        self.tried = self.tried.with(permit.number());
        Step::Ask(permit)
    }

    /// Takes the last step back: the request cannot be written for this member, so that no attempt
    /// has begun. For this plan the member is no longer in the group.
    pub fn skip(&mut self, permit: Permit, now: Instant) {
        self.attempts -= 1;
        self.unfit = self.unfit.with(permit.number());
        if std::mem::take(&mut self.has_paid) {
            self.group.budget.give_back(self.group.registry.tick(now));
        }
    }

    /// The reason why no further attempt may begin at `now`.
    fn end(&self, now: Instant) -> Option<End> {
        let retry = &self.group.spec().retry;
        let client = self.client_deadline.is_some_and(|deadline| now + CLIENT_MARGIN > deadline);
        let mut attempts = retry.attempts_of(self.members());
        if self.was_limited && self.group.spec().wait.is_some() {
            attempts += MORE_AFTER_WAITING;
        }
        if self.attempts >= attempts {
            return Some(End::Attempts);
        }
        let is_over = now.saturating_duration_since(self.started) >= retry.deadline;
        (is_over || client).then_some(End::Deadline)
    }

    /// Waits if a member may be available in time, instead of asking one that is out.
    fn wait(&mut self, nothing: &choice::Nothing, now: Instant) -> Option<Unavailable> {
        let deadline = self.wait_until(now).filter(|&deadline| now < deadline)?;
        let until = nothing.first_end().map(|end| self.group.registry.instant(end));
        let at_any_time = nothing.has_full || nothing.has_trial;
        if !at_any_time && until.is_none_or(|until| until > deadline) {
            return None;
        }
        self.waiting_since.get_or_insert(now);
        // Members that are out may be tried again when they come back.
        self.tried = self.tried.without(nothing.limited);
        Some(Unavailable { until, may_be_sooner: at_any_time, deadline })
    }

    /// Begins to wait in the queue. Returns the end of the time that the request may wait.
    pub(super) fn begin_to_wait(&mut self, now: Instant) -> Instant {
        let deadline = self.wait_until(now).unwrap_or(now);
        self.waiting_since.get_or_insert(now);
        let models: Vec<_> = self.row.iter().map(|model| Arc::as_ptr(model).addr()).collect();
        self.models = self.group.registry.hash(&models);
        deadline
    }

    /// The requests with which it waits for the same members.
    pub(super) fn class(&self) -> PlanClass {
        let is_first = self.attempts == 0;
        PlanClass { models: self.models, pin: self.pin, tried: self.tried, unfit: self.unfit, is_first }
    }

    /// The end of the time that the request may wait.
    fn wait_until(&self, now: Instant) -> Option<Instant> {
        let mut until = self.waiting_since.unwrap_or(now) + self.group.spec().wait?;
        if self.attempts > 0 {
            until = until.min(self.started + self.group.spec().retry.deadline);
        }
        let client = self.client_deadline.map(|deadline| deadline.checked_sub(CLIENT_MARGIN).unwrap_or(now));
        Some(client.map_or(until, |client| client.min(until)))
    }

    fn refusal(&self, nothing: &choice::Nothing, is_first: bool) -> End {
        match nothing.limited_until.filter(|_| is_first) {
            _ if is_first && nothing.has_full => End::Full,
            Some(until) => End::RateLimited { until: self.group.registry.instant(until) },
            None => End::Tried,
        }
    }
}

#[cfg(test)]
mod tests;
