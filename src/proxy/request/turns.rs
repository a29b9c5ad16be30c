//! The limits of a WebSocket session, whose turns count as requests do.
//!
//! The upgrade holds one request and, for the whole session, the place of a running one. Each
//! response that a message of the client asks for, or that the service begins by itself, holds what
//! it is expected to use, and counts what it has used at its end. The close of the session makes
//! the count that of its record, which is the sum of its responses in the period of its beginning.
//! A rate also counts what the service may bill beyond it.

mod turn;

use std::sync::Arc;
use std::task::{Context, Poll};

use jiff::Timestamp;

use super::clock::limit_time;
use super::expected::Expected;
use super::member_limits::MemberLimits;
use super::reached::reached;
use super::running::Full;
use super::used::{self, Counting};
use crate::gate::limit::{
    AppliedLimit, InputSize, LimitHold, NoRoom, Now, ReplyWait, RoomFrom, Slices, Use, names_stored,
};
use crate::gate::{KnownClient, Models};
use crate::llm::price::{Cost, Prices, Rates, TokenCounts, is_standard};
use crate::llm::rewrite::body::{SessionMessage, session_output_bound};
use crate::llm::usage::{TurnStep, Usage};
use crate::record::error::{Error, Kind, Result};
use crate::record::{MessageRefusal, TurnObserver, UsageRecord, UseObserver};
use turn::Turn;

pub(super) use turn::Turns;

/// The most turns of a session that have not ended: those of the client and of the service.
const MOST_TURNS: usize = 64;

/// The endpoint whose service knows the conversation, so that all of it is input of each turn.
const REALTIME: &str = "realtime";

/// The use of a running session.
#[derive(Debug)]
pub(super) struct SessionUse {
    pub(super) hold: LimitHold,
    /// The limits of `hold`.
    pub(super) limits: Box<[AppliedLimit]>,
    /// The holds of limits of single members of the group.
    pub(super) members: Option<Arc<MemberLimits>>,
    pub(super) client: Arc<KnownClient>,
    /// The model that the URL names.
    pub(super) model: Option<String>,
    /// The upstreams of which one has the session.
    pub(super) upstreams: Box<[Arc<str>]>,
    pub(super) endpoint: &'static str,
    pub(super) started: Timestamp,
    /// `None`: no cost is held.
    pub(super) rates: Option<Box<Rates>>,
    pub(super) turns: Turns,
    /// The round of the fleet for which a message waits that lacks a grant.
    pub(super) round: u64,
}

impl SessionUse {
    fn expected(&self) -> Use {
        self.turns.expected(self.client.counts_tokens())
    }

    /// The expected use of a response to a message. `None`: the service begins it by itself.
    fn of_turn(&self, message: Option<&[u8]>) -> Expected {
        let Some(ratios) = &self.client.input_ratios else { return Expected::default() };
        let size = message.map(|message| InputSize::of(message, names_stored(message))).unwrap_or_default();
        let knows = self.endpoint == REALTIME || size.has_stored;
        let keys = self.upstreams.iter().map(|upstream| ratios.key(upstream, self.model.as_deref()));
        let text = ratios.tokens(&size, keys);
        Expected {
            input: text.saturating_add(if knows { self.turns.context } else { 0 }),
            size,
            slices: Some(Slices::first(message.and_then(session_output_bound), 1)),
            is_own: true,
            rates: self.rates.clone(),
            ..Expected::default()
        }
    }

    /// Holds a further turn, which may wait for the fleet's store as `reply_wait` says.
    fn begin(&mut self, turn: Turn, now: Now, reply_wait: ReplyWait) -> std::result::Result<(), Box<Full>> {
        let (before, had_begun) = (self.expected(), self.turns.has_begun);
        self.turns.has_begun = true;
        self.turns.running.push_back(turn);
        let whole = self.expected();
        let held = match self.hold.begin_turn(&whole, self.started, now, reply_wait) {
            Ok(_) => {
                self.members.as_ref().map_or(Ok(()), |members| members.begin_turn(&whole, now, reply_wait))
            }
            Err(no_room) => Err(Box::new(self.full(no_room, now))),
        };
        held.inspect_err(|_| {
            self.turns.running.pop_back();
            self.turns.has_begun = had_begun;
            let none = Use::default();
            self.hold.end_turn(&before, &none, &none, now);
        })
    }

    /// Counts what a turn that runs no longer has used: the part that the record will have, and a
    /// part that it lacks.
    fn end(&mut self, recorded: &Use, unrecorded: &Use, now: Now) {
        self.turns.unrecorded = std::mem::take(&mut self.turns.unrecorded).plus(unrecorded);
        let (left, seen) = (self.expected(), recorded.clone().plus(unrecorded));
        self.hold.end_turn(&left, recorded, &seen, now);
        self.members.iter().for_each(|members| members.end_turn(&left, recorded, &seen, now));
    }

    fn full(&self, no_room: NoRoom, now: Now) -> Full {
        Full { applied: self.limits[no_room.limit].clone(), no_room, now }
    }

    /// The use of a turn whose usage was not reported: the expected input, and the output that has
    /// passed.
    fn seen(&self, turn: &Turn) -> Use {
        let (input, output) = (Some(turn.expected.input), Some(turn.output));
        self.used(&Usage { input_tokens: input, output_tokens: output, ..Usage::default() })
    }

    /// The use of a response that has ended.
    fn used(&self, usage: &Usage) -> Use {
        let mut cost = Cost::default();
        let billable = TokenCounts::new(usage, None, Some(self.endpoint)).billable();
        if let (Some(rates), Some(billable)) = (&self.rates, billable) {
            rates.amount(&billable).into_iter().for_each(|amount| cost.pay(rates.currency, amount));
        }
        Use { requests: 1, cost, ..used::tokens(usage, Some(self.endpoint)) }
    }

    /// Holds more for the output of the first turn that has begun.
    fn grow(&mut self, now: Now) -> Option<Full> {
        let index = self.turns.first_begun()?;
        let turn = &mut self.turns.running[index];
        turn.output += 1;
        let (output, before) = (turn.output, turn.expected.slices?);
        if !turn.expected.slices.as_mut()?.grow(output) {
            return None;
        }
        let whole = self.expected();
        let full = match self.hold.grow(&whole, now) {
            Ok(()) => self.members.as_ref().and_then(|members| members.grow(&whole, now)),
            Err(no_room) => Some(self.full(no_room, now)),
        };
        let turn = &mut self.turns.running[index];
        let Some(full) = full else {
            turn.lacks_room = false;
            return None;
        };
        // Asks again when more has passed, and ends the session at the second time.
        turn.expected.slices = Some(before);
        if output < before.held() || !std::mem::replace(&mut turn.lacks_room, true) {
            return None;
        }
        Some(full)
    }

    /// Checks that turns count in their periods.
    fn check_age(&self, now: Now) -> Result<()> {
        if self.hold.is_over(now) || self.members.as_ref().is_some_and(|members| members.is_over(now)) {
            return Err(Kind::SessionOutlived.into());
        }
        Ok(())
    }

    /// Checks the model and the service tier that a message names. One record has the cost of all
    /// turns, so that all are of the session's model, and of the standard tier, if a limit counts cost.
    fn check_model(&self, SessionMessage { models, tiers, .. }: &SessionMessage) -> Result<()> {
        let Self { client, model: session, .. } = self;
        let counts_cost = client.prices.is_some();
        if models.is_empty() && self.endpoint != REALTIME && client.needs_model() {
            let models = (client.models != Models::All).then(|| client.models.to_string());
            return Err(Kind::ModelUnknown { models, client: client.name.to_string() }.into());
        }
        let is_other = |model: &String| session.as_ref().is_some_and(|session| session != model);
        let is_bound = counts_cost || client.has_limits_of_models();
        if models.len() > 1 || (is_bound && models.iter().any(is_other)) {
            return Err(Kind::ModelAmbiguous.into());
        }
        if let Some(tier) = tiers.iter().find(|tier| counts_cost && !is_standard(tier)) {
            return Err(Kind::TierNotAllowed { tier: tier.clone() }.into());
        }
        match models.iter().find(|model| client.models != Models::All && !client.models.allows(model)) {
            Some(model) => {
                let (models, client) = (client.models.to_string(), client.name.to_string());
                Err(Kind::ModelNotAllowed { model: model.clone(), models, client }.into())
            }
            None => Ok(()),
        }
    }

    /// Admits a message of the client, which may wait for the fleet's store as `reply_wait` says.
    fn admit(
        &mut self,
        text: &[u8],
        now: Now,
        reply_wait: ReplyWait,
    ) -> std::result::Result<(), MessageRefusal> {
        let Some(message) = SessionMessage::read(text) else {
            return Err(MessageRefusal::Session(Kind::MessageUnreadable.into()));
        };
        if !message.asks {
            return Ok(());
        }
        self.check_age(now).map_err(MessageRefusal::Session)?;
        let admitted = match self.check_model(&message) {
            Ok(()) if self.turns.running.len() >= MOST_TURNS => {
                Err(Kind::TurnsUnanswered { most: MOST_TURNS }.into())
            }
            Ok(()) => {
                let expected = self.of_turn(Some(text));
                let turn = Turn::new(message.event_id.clone(), expected, false);
                match self.begin(turn, now, reply_wait) {
                    Ok(()) => Ok(()),
                    Err(full) if self.can_wait(&full, reply_wait) => return Err(MessageRefusal::Grant),
                    Err(full) => {
                        let Full { applied, no_room, now } = *full;
                        Err(reached(&applied, no_room.want, no_room.room_from, now))
                    }
                }
            }
            Err(error) => Err(error),
        };
        admitted.map_err(|error| MessageRefusal::Turn(error, message.event_id))?;
        if self.client.prices.is_some() && self.model.is_none() {
            self.model = message.models.into_iter().next();
        }
        Ok(())
    }

    /// Returns true if a turn only lacks a grant, for which it can wait.
    fn can_wait(&mut self, full: &Full, reply_wait: ReplyWait) -> bool {
        let lacks_grant = full.no_room.room_from == RoomFrom::AReply && reply_wait == ReplyWait::Possible;
        let fleet = self.client.fleet().filter(|fleet| lacks_grant && !fleet.refuses());
        if let Some(fleet) = fleet {
            self.round = fleet.asked_round();
        }
        fleet.is_some()
    }

    /// Follows a turn.
    fn follow(&mut self, step: &TurnStep, now: Now) -> Result<()> {
        match step {
            TurnStep::Begun => match self.turns.first_waiting() {
                Some(index) => self.turns.running[index].has_begun = true,
                None => self.begin_unasked(now)?,
            },
            TurnStep::Output => return self.grow(now).map_or(Ok(()), |full| Err(full.cut())),
            TurnStep::Ended(usage) => {
                let turn = self.turns.first_begun().and_then(|index| self.turns.running.remove(index));
                let one = Use { requests: 1, ..Use::default() };
                match (usage, turn) {
                    (Some(usage), _) => {
                        let output = usage.output_tokens.unwrap_or(0);
                        self.turns.context = usage.input_tokens.unwrap_or(0).saturating_add(output);
                        self.end(&self.used(usage), &Use::default(), now);
                    }
                    // The record has the response itself.
                    (None, Some(turn)) => {
                        self.end(&one, &Use { requests: 0, ..self.seen(&turn) }, now);
                    }
                    (None, None) => self.end(&one, &Use::default(), now),
                }
            }
            TurnStep::Refused(event_id) => self.refuse(event_id.as_deref(), now),
        }
        Ok(())
    }

    /// Begins a response for which no message waits.
    fn begin_unasked(&mut self, now: Now) -> Result<()> {
        self.check_age(now)?;
        if self.turns.running.len() >= MOST_TURNS {
            return Err(Kind::TurnsUnanswered { most: MOST_TURNS }.into());
        }
        let turn = match self.turns.doubtful.take() {
            Some(turn) => Turn { has_begun: true, ..turn },
            None => Turn::new(None, self.of_turn(None), true),
        };
        // The service does not wait.
        self.begin(turn, now, ReplyWait::Never).map_err(|full| full.into_error())
    }

    /// Ends the turn that the service refuses.
    fn refuse(&mut self, event_id: Option<&str>, now: Now) {
        let refused = self.turns.refused(event_id);
        // A session of `responses` has one response at a time, which such an error ends.
        let ended =
            if event_id.is_none() && self.endpoint != REALTIME { self.turns.first_begun() } else { None };
        let Some(turn) = refused.or(ended).and_then(|index| self.turns.running.remove(index)) else {
            return;
        };
        let unrecorded = if turn.has_begun { self.seen(&turn) } else { Use::default() };
        self.turns.doubtful = Some(turn).filter(|turn| event_id.is_none() && !turn.has_begun);
        self.end(&Use::default(), &unrecorded, now);
    }

    /// Replaces all holds by what the session has used: in periods what the record has, and in rates
    /// also what the service may bill beyond it.
    fn close(mut self, record: &UsageRecord, prices: Option<&Prices>, now: Now) {
        let mut unrecorded = std::mem::take(&mut self.turns.unrecorded);
        for turn in &self.turns.running {
            unrecorded = unrecorded.plus(&self.seen(turn));
        }
        let recorded = used::by_record(record, &Counting { at: None, prices, kinds: true });
        let seen = recorded.clone().plus(&unrecorded);
        self.hold.settle_seen(&recorded, &seen, now.nanos);
        self.members.iter().for_each(|members| members.settle_session(record, prices, &unrecorded, now));
    }
}

impl TurnObserver for SessionUse {
    fn on_message(&mut self, text: &[u8], may_wait: bool) -> std::result::Result<(), MessageRefusal> {
        let reply_wait = if may_wait { ReplyWait::Possible } else { ReplyWait::Over };
        self.admit(text, limit_time(), reply_wait)
    }

    fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.fleet().map_or(Poll::Ready(()), |fleet| fleet.poll_round(self.round, cx))
    }

    fn on_step(&mut self, step: &TurnStep) -> Result<()> {
        self.follow(step, limit_time())
    }
}

impl UseObserver for SessionUse {
    fn on_progress(&mut self, _events: u64, _output_tokens: Option<u64>) -> Option<Error> {
        None
    }

    fn turns(&mut self) -> Option<&mut dyn TurnObserver> {
        Some(self)
    }

    fn on_end(&mut self) {
        self.hold.end();
        self.members.iter().for_each(|members| members.end());
    }

    fn on_close(self: Box<Self>, record: &UsageRecord) {
        let prices = self.client.prices.as_ref().map(|prices| prices.load());
        self.close(record, prices.as_deref(), limit_time());
    }
}

#[cfg(test)]
mod tests;
