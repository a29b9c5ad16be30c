//! The limits of a WebSocket session, whose turns count as requests do.
//!
//! The upgrade holds one request and, for the whole session, the place of a running one. Each
//! response that a message of the client asks for, or that the service begins by itself, holds what
//! it is expected to use, and counts what it has used at its end. The close of the session makes
//! the count that of its record, which is the sum of its responses in the period of its beginning.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::admitted::{Expected, Full, UNREAD, limit_time, reached};
use super::member_limits::MemberLimits;
use super::used;
use crate::gate::limit::{AppliedLimit, InputSize, LimitHold, NoRoom, Slices, Use, names_stored};
use crate::gate::{KnownClient, Models};
use crate::llm::price::{Cost, Rates, TokenCounts};
use crate::llm::rewrite::body::{SessionMessage, output_bounds};
use crate::llm::usage::{TurnStep, Usage};
use crate::record::error::{Error, Kind, Result};
use crate::record::{MessageRefusal, TurnObserver, UsageRecord, UseObserver};

/// The most turns of a session that run at once or wait for their beginning.
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
    pub(super) rates: Option<Rates>,
    pub(super) turns: Turns,
}

/// The turns of a session that have not ended.
#[derive(Debug, Default)]
pub(super) struct Turns {
    running: VecDeque<Turn>,
    /// There was a turn: the request that the upgrade has held is that turn's.
    has_begun: bool,
    /// The tokens of the conversation at the end of the last turn.
    context: u64,
}

#[derive(Debug)]
struct Turn {
    expected: Expected,
    /// The service has begun the response.
    has_begun: bool,
    /// The output tokens that have passed.
    output: u64,
    /// See `Running::lacks_room`.
    lacks_room: bool,
}

impl Turns {
    /// The use that the session is expected to have beside what it has counted.
    fn expected(&self, counts_tokens: bool) -> Use {
        if !self.has_begun {
            let input = if counts_tokens { UNREAD } else { 0 };
            return Expected { input, ..Expected::default() }.used();
        }
        self.running.iter().fold(Use::default(), |sum, turn| sum.plus(&turn.expected.used()))
    }
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
        let (most, choices) = message.map_or((None, 1), output_bounds);
        Expected {
            input: text.saturating_add(if knows { self.turns.context } else { 0 }),
            size,
            slices: Some(Slices::first(most, choices)),
            is_own: true,
            rates: self.rates,
            ..Expected::default()
        }
    }

    /// Holds a further turn.
    fn begin(&mut self, expected: Expected, has_begun: bool) -> std::result::Result<(), Box<Full>> {
        let (before, had_begun, now) = (self.expected(), self.turns.has_begun, limit_time());
        self.turns.has_begun = true;
        self.turns.running.push_back(Turn { expected, has_begun, output: 0, lacks_room: false });
        let whole = self.expected();
        let held = match self.hold.begin_turn(&whole, self.started, now) {
            Ok(_) => self.members.as_ref().map_or(Ok(()), |members| members.begin_turn(&whole, now)),
            Err(no_room) => Err(Box::new(self.full(no_room))),
        };
        held.inspect_err(|_| {
            self.turns.running.pop_back();
            self.turns.has_begun = had_begun;
            self.hold.end_turn(&before, &Use::default(), now);
        })
    }

    /// Ends the turn at this index, which has used this.
    fn end(&mut self, index: Option<usize>, used: &Use) {
        if let Some(index) = index {
            self.turns.running.remove(index);
        }
        let (left, now) = (self.expected(), limit_time());
        self.hold.end_turn(&left, used, now);
        self.members.iter().for_each(|members| members.end_turn(&left, used, now));
    }

    fn full(&self, no_room: NoRoom) -> Full {
        Full { applied: self.limits[no_room.limit].clone(), no_room, now: limit_time() }
    }

    /// The use of a response that has ended.
    fn used(&self, usage: Option<&Usage>) -> Use {
        let Some(usage) = usage else { return Use { requests: 1, ..Use::default() } };
        let mut cost = Cost::default();
        let billable = TokenCounts::new(usage, None, Some(self.endpoint)).billable();
        if let (Some(rates), Some(billable)) = (&self.rates, billable) {
            rates.amount(&billable).into_iter().for_each(|amount| cost.pay(rates.currency, amount));
        }
        Use { requests: 1, cost, ..used::tokens(usage, Some(self.endpoint)) }
    }

    /// Holds more for the output of the first turn that has begun.
    fn grow(&mut self) -> Option<Full> {
        let index = self.turns.running.iter().position(|turn| turn.has_begun)?;
        let turn = &mut self.turns.running[index];
        turn.output += 1;
        let (output, before) = (turn.output, turn.expected.slices?);
        if !turn.expected.slices.as_mut()?.grow(output) {
            return None;
        }
        let (whole, now) = (self.expected(), limit_time());
        let full = match self.hold.grow(&whole, now) {
            Ok(()) => self.members.as_ref().and_then(|members| members.grow(&whole, now)),
            Err(no_room) => Some(self.full(no_room)),
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

    /// Checks the model that a message names.
    fn check_model(&self, models: &[String]) -> Result<()> {
        let Self { client, model: session, .. } = self;
        if models.is_empty() && self.endpoint != REALTIME && client.needs_model() {
            let models = (client.models != Models::All).then(|| client.models.to_string());
            return Err(Kind::ModelUnknown { models, client: client.name.to_string() }.into());
        }
        let is_other = |model: &String| session.as_ref().is_some_and(|session| session != model);
        if models.len() > 1 || (client.has_limits_of_models() && models.iter().any(is_other)) {
            return Err(Kind::ModelAmbiguous.into());
        }
        match models.iter().find(|model| client.models != Models::All && !client.models.allows(model)) {
            Some(model) => {
                let (models, client) = (client.models.to_string(), client.name.to_string());
                Err(Kind::ModelNotAllowed { model: model.clone(), models, client }.into())
            }
            None => Ok(()),
        }
    }
}

impl TurnObserver for SessionUse {
    fn on_message(&mut self, text: &[u8]) -> std::result::Result<(), MessageRefusal> {
        let Some(message) = SessionMessage::read(text) else {
            return Err(MessageRefusal::Session(Kind::MessageUnreadable.into()));
        };
        if !message.asks {
            return Ok(());
        }
        let admitted = match self.check_model(&message.models) {
            Ok(()) if self.turns.running.len() >= MOST_TURNS => {
                Err(Kind::TurnsUnanswered { most: MOST_TURNS }.into())
            }
            Ok(()) => {
                let expected = self.of_turn(Some(text));
                self.begin(expected, false).map_err(|full| {
                    let Full { applied, no_room, now } = *full;
                    reached(&applied, no_room.want, no_room.room_from, now)
                })
            }
            Err(error) => Err(error),
        };
        admitted.map_err(|error| MessageRefusal::Turn(error, message.event_id))
    }

    fn on_step(&mut self, step: &TurnStep) -> Result<()> {
        let waiting = |turns: &Turns| turns.running.iter().position(|turn| !turn.has_begun);
        match step {
            TurnStep::Begun => match waiting(&self.turns) {
                Some(index) => self.turns.running[index].has_begun = true,
                None => {
                    let expected = self.of_turn(None);
                    self.begin(expected, true).map_err(|full| full.cut())?;
                }
            },
            TurnStep::Output => return self.grow().map_or(Ok(()), |full| Err(full.cut())),
            TurnStep::Ended(usage) => {
                let index = self.turns.running.iter().position(|turn| turn.has_begun);
                if let Some(usage) = usage {
                    let output = usage.output_tokens.unwrap_or(0);
                    self.turns.context = usage.input_tokens.unwrap_or(0).saturating_add(output);
                }
                self.end(index, &self.used(usage.as_ref()));
            }
            TurnStep::Refused => {
                if let Some(index) = waiting(&self.turns) {
                    self.end(Some(index), &Use::default());
                }
            }
        }
        Ok(())
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
        let Self { hold, members, client, .. } = *self;
        let prices = client.prices.as_ref().map(|prices| prices.load());
        let prices = prices.as_deref();
        hold.settle(&used::by_record(record, None, prices), limit_time());
        members.iter().for_each(|members| members.settle(record, prices, None));
    }
}
