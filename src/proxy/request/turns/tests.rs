//! Sessions under a simulated clock.

use std::task::Waker;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::*;
use crate::gate::limit::{
    AtLimit, BucketRate, Calendar, Fleet, InputRatios, LimitBound, LimitFilter, LimitRegistry, LimitSpec,
    Owner, Quantity, Reply, Units, Unpriced, UseLimit, Weights, WhenAway,
};
use crate::llm::price::Currency;
use crate::record::Outcome;
use crate::support::Live;
use crate::support::calendar::Period;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Now {
    let time = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds as i64);
    Now { nanos: seconds * SECOND, time }
}

fn tokens(tokens: u64) -> Units {
    Units(u128::from(tokens) * u128::from(Weights::ONE))
}

const TOKENS: Quantity = Quantity::Tokens(Weights::Reported);

/// A rate of so long a period that a test sees nothing filled again.
fn per_hour(quantity: Quantity, limit: Units) -> LimitSpec {
    let bound = LimitBound::Rate(BucketRate { limit, period: 3_600_000 * SECOND, burst: limit });
    spec(quantity, bound)
}

fn per_day(quantity: Quantity, limit: Units) -> LimitSpec {
    let calendar = Calendar { period: Period::Day, zone: TimeZone::UTC };
    spec(quantity, LimitBound::Period { limit, calendar })
}

fn spec(quantity: Quantity, bound: LimitBound) -> LimitSpec {
    let (filter, unpriced) = (LimitFilter::default(), Unpriced::Refuse);
    LimitSpec { quantity, bound, at_limit: AtLimit::Refuse, filter, unpriced }
}

/// A session that has just been granted, and its limits.
fn session(specs: &[LimitSpec], endpoint: &'static str) -> (SessionUse, Vec<AppliedLimit>) {
    session_of(&LimitRegistry::default(), specs, endpoint)
}

fn session_of(
    registry: &LimitRegistry,
    specs: &[LimitSpec],
    endpoint: &'static str,
) -> (SessionUse, Vec<AppliedLimit>) {
    let owner = Owner::Client("c".into());
    let (mut limits, _) = registry.plan([(owner.clone(), specs)], at(0));
    let limits = limits.remove(&owner).unwrap();
    let prices = Live::new(Prices::default());
    let client = KnownClient::new("c").limited(limits.clone(), &Arc::new(InputRatios::default()), &prices);
    let expected = Turns::default().expected(client.counts_tokens());
    let in_use = limits.iter().map(|applied| &applied.limit);
    let session = SessionUse {
        hold: LimitHold::take(in_use, &expected, at(0).time, at(0)).unwrap(),
        limits: limits.clone().into(),
        members: None,
        client: Arc::new(client),
        model: Some("m".to_owned()),
        upstreams: Box::new(["u".into()]),
        endpoint,
        started: at(0).time,
        rates: None,
        turns: Turns::default(),
        round: 0,
    };
    (session, limits)
}

/// The record of a session with so many responses.
fn record(responses: u64, input: u64, output: u64) -> UsageRecord {
    let mut record = UsageRecord::begun(Uuid::nil(), at(0).time, "c".into());
    (record.status, record.events) = (Some(101), Some(responses));
    (record.usage.input_tokens, record.usage.output_tokens) = (Some(input), Some(output));
    record
}

fn ended(input: u64, output: u64) -> TurnStep {
    let (input_tokens, output_tokens) = (Some(input), Some(output));
    TurnStep::Ended(Some(Usage { input_tokens, output_tokens, ..Usage::default() }))
}

fn create(event_id: Option<&str>) -> Vec<u8> {
    let id = event_id.map(|id| format!(r#","event_id":"{id}""#)).unwrap_or_default();
    format!(r#"{{"type":"response.create"{id}}}"#).into()
}

fn used(limit: &AppliedLimit) -> Units {
    limit.limit.status(at(0)).used
}

fn held(limit: &AppliedLimit) -> Units {
    limit.limit.status(at(0)).held
}

/// The input of a message: 3.5 bytes are a token.
fn input_of(message: &[u8]) -> u64 {
    (message.len() as f64 / 3.5).ceil() as u64
}

#[test]
fn turn_without_an_end_counts_in_rates_and_not_in_periods() {
    let requests = Quantity::Requests;
    let specs = [
        per_hour(requests, Units(100)),
        per_hour(TOKENS, tokens(100_000)),
        per_day(requests, Units(100)),
        per_day(TOKENS, tokens(100_000)),
    ];
    let message = create(None);
    // Nothing of the service, its beginning, its output.
    for outputs in [None, Some(0), Some(7)] {
        let (mut session, limits) = session(&specs, REALTIME);
        session.admit(&message, at(0), ReplyWait::Never).unwrap();
        session.follow(&TurnStep::Begun, at(0)).unwrap();
        session.follow(&ended(20, 5), at(0)).unwrap();
        session.admit(&message, at(0), ReplyWait::Never).unwrap();
        if let Some(outputs) = outputs {
            session.follow(&TurnStep::Begun, at(0)).unwrap();
            (0..outputs).for_each(|_| session.follow(&TurnStep::Output, at(0)).unwrap());
        }
        session.close(&record(1, 20, 5), None, at(0));
        // The conversation of 25 tokens is input of the second turn.
        let lost = input_of(&message) + 25 + outputs.unwrap_or(0);
        let counts: Vec<_> = limits.iter().map(used).collect();
        assert_eq!(counts, [Units(2), tokens(25 + lost), Units(1), tokens(25)], "{outputs:?}");
        assert!(limits.iter().all(|limit| held(limit) == Units(0)));
    }
}

#[test]
fn response_without_usage_counts_by_what_was_seen_in_rates() {
    let specs = [per_hour(TOKENS, tokens(100_000)), per_day(TOKENS, tokens(100_000))];
    let (mut session, limits) = session(&specs, "responses");
    let message = create(None);
    session.admit(&message, at(0), ReplyWait::Never).unwrap();
    for step in [TurnStep::Begun, TurnStep::Output, TurnStep::Output, TurnStep::Ended(None)] {
        session.follow(&step, at(0)).unwrap();
    }
    let seen = tokens(input_of(&message) + 2);
    assert_eq!((used(&limits[0]), used(&limits[1])), (seen, Units(0)), "at once");
    let mut record = record(1, 0, 0);
    (record.usage.input_tokens, record.usage.output_tokens) = (None, None);
    session.close(&record, None, at(0));
    assert_eq!((used(&limits[0]), used(&limits[1])), (seen, Units(0)));
}

#[test]
fn error_about_another_message_leaves_the_turn_its_hold() {
    let (mut session, limits) = session(&[per_day(TOKENS, tokens(100_000))], REALTIME);
    let message = create(Some("mine"));
    let whole = tokens(input_of(&message) + 1_024);
    session.admit(&message, at(0), ReplyWait::Never).unwrap();
    session.follow(&TurnStep::Refused(Some("other".into())), at(0)).unwrap();
    assert_eq!(held(&limits[0]), whole);
    session.follow(&TurnStep::Refused(Some("mine".into())), at(0)).unwrap();
    assert_eq!(held(&limits[0]), Units(0));
}

#[test]
fn turn_begun_after_an_error_without_an_id_keeps_its_input() {
    let (mut session, limits) = session(&[per_day(TOKENS, tokens(100_000))], REALTIME);
    let message = create(None);
    session.admit(&message, at(0), ReplyWait::Never).unwrap();
    session.follow(&TurnStep::Refused(None), at(0)).unwrap();
    assert_eq!(held(&limits[0]), Units(0));
    session.follow(&TurnStep::Begun, at(0)).unwrap();
    assert_eq!(held(&limits[0]), tokens(input_of(&message) + 1_024));
    session.follow(&ended(9, 1), at(0)).unwrap();
    session.follow(&TurnStep::Begun, at(0)).unwrap();
    assert_eq!(held(&limits[0]), tokens(10 + 1_024), "only once");
}

#[test]
fn error_inside_a_response_ends_it_where_there_is_one_at_a_time() {
    for (endpoint, ends) in [("responses", true), (REALTIME, false)] {
        let (mut session, limits) = session(&[per_hour(TOKENS, tokens(100_000))], endpoint);
        let message = create(None);
        session.admit(&message, at(0), ReplyWait::Never).unwrap();
        for step in [TurnStep::Begun, TurnStep::Output, TurnStep::Refused(None)] {
            session.follow(&step, at(0)).unwrap();
        }
        assert_eq!(session.turns.running.is_empty(), ends, "{endpoint}");
        session.close(&record(0, 0, 0), None, at(0));
        assert_eq!(used(&limits[0]), tokens(input_of(&message) + 1), "{endpoint}");
    }
}

#[test]
fn responses_that_a_service_begins_and_never_ends_are_bounded() {
    let (mut session, _) = session(&[per_day(Quantity::Requests, Units(1_000))], REALTIME);
    for _ in 0..MOST_TURNS {
        session.follow(&TurnStep::Begun, at(0)).unwrap();
    }
    let error = session.follow(&TurnStep::Begun, at(0)).unwrap_err();
    assert_eq!(*error.kind(), Kind::TurnsUnanswered { most: MOST_TURNS });
}

#[test]
fn response_of_the_service_without_room_is_counted_once() {
    let (mut session, limits) = session(&[per_day(Quantity::Requests, Units(1))], REALTIME);
    session.follow(&TurnStep::Begun, at(0)).unwrap();
    assert!(session.follow(&TurnStep::Begun, at(0)).is_err());
    assert_eq!(limits[0].limit.exceeded(), 1);
}

#[test]
fn use_of_a_running_session_is_not_expected_in_the_ledger() {
    let (mut session, limits) = session(&[per_day(TOKENS, tokens(100_000))], REALTIME);
    let unrecorded = || limits[0].limit.status(at(0)).unrecorded;
    for turn in 1..=2 {
        session.admit(&create(None), at(0), ReplyWait::Never).unwrap();
        session.follow(&TurnStep::Begun, at(0)).unwrap();
        session.follow(&ended(9, 1), at(0)).unwrap();
        assert_eq!((used(&limits[0]), unrecorded()), (tokens(10 * turn), tokens(10 * turn)));
    }
    session.close(&record(2, 18, 2), None, at(0));
    assert_eq!((used(&limits[0]), unrecorded()), (tokens(20), Units(0)));
}

#[test]
fn turn_after_two_periods_ends_the_session() {
    const DAY: u64 = 86_400;
    let (mut session, _) = session(&[per_day(TOKENS, tokens(100_000))], REALTIME);
    session.admit(&create(None), at(2 * DAY - 1), ReplyWait::Never).unwrap();
    let refused = session.admit(&create(None), at(2 * DAY), ReplyWait::Never).unwrap_err();
    let MessageRefusal::Session(error) = refused else { panic!("{refused:?}") };
    assert_eq!((error.kind(), error.outcome()), (&Kind::SessionOutlived, Outcome::Cut));
    session.follow(&TurnStep::Begun, at(2 * DAY)).unwrap();
    assert!(session.follow(&TurnStep::Begun, at(2 * DAY)).is_err(), "by the service");
}

#[test]
fn turns_are_of_one_model_and_tier_where_cost_counts() {
    let dollars = Quantity::Cost(Currency::parse("USD").unwrap());
    let spec = LimitSpec { unpriced: Unpriced::Allow, ..per_day(dollars, Units::MOST) };
    let refusal = |session: &mut SessionUse, fields: &str| {
        let text = format!(r#"{{"type":"response.create"{fields}}}"#);
        match session.admit(text.as_bytes(), at(0), ReplyWait::Never) {
            Ok(()) => "",
            Err(MessageRefusal::Grant) => "waits",
            Err(MessageRefusal::Turn(error, _) | MessageRefusal::Session(error)) => error.code(),
        }
    };
    // The URL names the model, or the first turn does.
    for named in [true, false] {
        let (mut session, _) = session(std::slice::from_ref(&spec), "responses");
        session.model.take_if(|_| !named);
        for (fields, code) in [
            (r#","model":"m","service_tier":"flex""#, "service_tier_not_allowed"),
            (r#","model":"m","service_tier":"auto""#, ""),
            (r#","model":"dearer""#, "model_ambiguous"),
            (r#","model":"m","response":{"service_tier":"priority"}"#, "service_tier_not_allowed"),
            (r#","model":"m""#, ""),
        ] {
            assert_eq!(refusal(&mut session, fields), code, "{fields} {named}");
        }
    }
    let (mut session, _) = session(&[per_day(TOKENS, Units::MOST)], "responses");
    assert_eq!(refusal(&mut session, r#","model":"dearer","service_tier":"flex""#), "");
}

#[test]
fn slice_of_a_turn_follows_the_bound_of_its_message() {
    for (message, output) in [
        (r#"{"type":"response.create","response":{"max_output_tokens":100}}"#, 100),
        (r#"{"type":"response.create","max_output_tokens":50,"response":{"max_output_tokens":100}}"#, 50),
        (r#"{"type":"response.create","response":{"max_output_tokens":"inf"}}"#, 1_024),
    ] {
        let (mut session, limits) = session(&[per_day(TOKENS, tokens(100_000))], REALTIME);
        session.admit(message.as_bytes(), at(0), ReplyWait::Never).unwrap();
        assert_eq!(held(&limits[0]), tokens(input_of(message.as_bytes()) + output), "{message}");
    }
}

#[test]
fn any_order_of_steps_holds_what_runs_and_settles_the_record() {
    for seed in 0..200 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let endpoint = if rng.bool() { REALTIME } else { "responses" };
        let most = tokens(1_000_000_000);
        let (mut session, limits) = session(&[per_hour(TOKENS, most), per_day(TOKENS, most)], endpoint);
        let (mut responses, mut input, mut output) = (0, 0, 0);
        for _ in 0..rng.usize(..100) {
            let id = ["a", "b"][rng.usize(..2)];
            let step = match rng.u8(..7) {
                0 | 1 => {
                    let _ = session.admit(&create(rng.bool().then_some(id)), at(0), ReplyWait::Never);
                    continue;
                }
                2 => TurnStep::Begun,
                3 => TurnStep::Output,
                4 => {
                    let used = (rng.u64(..5_000), rng.u64(..500));
                    (responses, input, output) = (responses + 1, input + used.0, output + used.1);
                    ended(used.0, used.1)
                }
                5 => {
                    responses += 1;
                    TurnStep::Ended(None)
                }
                _ => TurnStep::Refused(rng.bool().then(|| id.into())),
            };
            let _ = session.follow(&step, at(0));
            assert!(session.turns.running.len() <= MOST_TURNS, "{seed}");
            for limit in &limits {
                assert_eq!(held(limit), limit.limit.quantity().held_for(&session.expected()), "{seed}");
            }
            assert_eq!(used(&limits[1]), tokens(input + output), "{seed}");
            assert_eq!(limits[1].limit.status(at(0)).unrecorded, used(&limits[1]), "{seed}");
        }
        session.close(&record(responses, input, output), None, at(0));
        assert_eq!(used(&limits[1]), tokens(input + output), "{seed}");
        assert!(used(&limits[0]) >= tokens(input + output), "{seed}");
        assert!(limits.iter().all(|limit| held(limit) == Units(0)), "{seed}");
    }
}

/// A session after its first turn, with a limit of 10 requests that a fleet shares, whose store has
/// replied to nothing yet.
fn shared_session(when_away: WhenAway) -> (SessionUse, Arc<UseLimit>, Arc<Fleet>) {
    let fleet = Fleet::new(when_away, Waker::noop().clone());
    fleet.begin_round();
    fleet.end_round();
    let registry = LimitRegistry::shared(Some(Arc::clone(&fleet)));
    let (mut session, limits) = session_of(&registry, &[per_hour(Quantity::Requests, Units(10))], "realtime");
    session.on_message(&create(None), true).unwrap();
    (session, Arc::clone(&limits[0].limit), fleet)
}

fn has_reply(session: &mut SessionUse) -> bool {
    session.poll_grant(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn turn_that_lacks_a_grant_waits_and_is_decided_then() {
    for (when_away, passes) in [(WhenAway::Local, true), (WhenAway::Allow, true), (WhenAway::Refuse, false)] {
        let (mut session, limit, fleet) = shared_session(when_away);
        let lacking = session.on_message(&create(None), true);
        assert!(matches!(lacking, Err(MessageRefusal::Grant)), "{when_away:?}");
        assert!(!has_reply(&mut session));
        // A round that brings nothing.
        fleet.begin_round();
        fleet.end_round();
        assert!(has_reply(&mut session));
        assert!(matches!(session.on_message(&create(None), true), Err(MessageRefusal::Grant)));
        assert!(!has_reply(&mut session));
        let decided = session.on_message(&create(None), false);
        assert!(!matches!(decided, Err(MessageRefusal::Grant)), "{when_away:?}");
        assert_eq!(decided.is_ok(), passes, "{when_away:?}");
        assert_eq!(limit.status(limit_time()).held, Units(if passes { 2 } else { 1 }));
    }
}

#[test]
fn turn_passes_as_soon_as_its_grant_has_come() {
    let (mut session, limit, fleet) = shared_session(WhenAway::Refuse);
    let replied = |granted, left| {
        fleet.begin_round();
        let now = limit_time();
        let [ask, _] = limit.asks(now, true);
        let none = Units::default();
        let reply = Reply { granted: Units(granted), left, instances: 2, elsewhere: none, unused: none };
        limit.reply(&ask.unwrap(), reply, now);
        fleet.end_round();
    };
    // The wish of the upgrade.
    replied(0, 5);
    assert!(matches!(session.on_message(&create(None), true), Err(MessageRefusal::Grant)));
    replied(1, 0);
    assert!(has_reply(&mut session));
    session.on_message(&create(None), true).unwrap();
    // The store has no more.
    assert!(matches!(session.on_message(&create(None), true), Err(MessageRefusal::Grant)));
    replied(0, 0);
    assert!(has_reply(&mut session));
    let refused = session.on_message(&create(None), true);
    assert!(matches!(&refused, Err(MessageRefusal::Turn(error, _)) if error.code() == "rate_limit_exceeded"));
    assert_eq!(session.turns.running.len(), 2);
}
