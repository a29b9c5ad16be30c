//! The limits of a client: a request is admitted if each has room for what it is expected to use.
//!
//! The input is expected from the length of the body, the output in slices that grow with the
//! stream. A stream for which a limit with `at_limit = "cut"` has no further slice ends when it has
//! used up the present one. The record's counts replace both at the end. What it lacks counts by
//! what was seen.

use std::iter;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;

use super::Routed;
use super::permitted::permit_endpoint;
use crate::gate::KnownClient;
use crate::gate::limit::{
    AppliedLimit, InputSize, Kinds, LimitHold, LimitStatus, NoRoom, Now, Quantity, RoomFrom, Slices,
    TokensPerByte, Units, Use, Weights,
};
use crate::llm::price::{INPUT_WITHOUT_CACHE, TokenCounts};
use crate::llm::provider::{Endpoint, Inbound, UsageOwner};
use crate::llm::rewrite::body::output_bounds;
use crate::llm::usage::Usage;
use crate::record::error::{Error, KINDS, Kind, LimitReached, Result, Retry};
use crate::record::{Billed, Entry, Note, Outcome, UsageRecord, UsageSource, UseObserver};

/// The time of rates begins when the first limit is made.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time now, by both clocks.
pub fn limit_time() -> Now {
    let nanos = EPOCH.elapsed().as_nanos();
    Now { nanos: u64::try_from(nanos).unwrap_or(u64::MAX), time: Timestamp::now() }
}

/// Refuses a request before its body is read, if a limit has no room for any request.
///
/// # Errors
/// Fails if a limit of requests has no room.
pub(super) fn check_room(limits: &[AppliedLimit], started: Timestamp) -> Result<()> {
    let now = limit_time();
    let without_room = limits.iter().filter_map(|applied| match applied.limit.quantity() {
        Quantity::Requests | Quantity::Concurrent => {
            Some((applied, applied.limit.room(Units(1), started, now)?))
        }
        Quantity::Tokens(_) | Quantity::Cost(_) => None,
    });
    match without_room.max_by_key(|(_, room_from)| *room_from) {
        Some((applied, room_from)) => Err(reached(applied, Units(1), room_from, now)),
        None => Ok(()),
    }
}

impl Routed<'_> {
    /// Holds what the request is expected to use of each limit, until its record is closed.
    ///
    /// # Errors
    /// Fails if a limit has no room.
    pub(super) fn admit(&self, limits: &[AppliedLimit], entry: &mut Entry) -> Result<()> {
        hold(self.expected(limits), limits, entry)
    }

    fn expected(&self, limits: &[AppliedLimit]) -> Expected {
        let Self { buffered, peek, inbound, .. } = self;
        let counts_tokens =
            limits.iter().any(|applied| matches!(applied.limit.quantity(), Quantity::Tokens(_)));
        let (endpoint, method) = (Endpoint::of(inbound.path), &buffered.head.method);
        if !counts_tokens || !(inbound.is_session || endpoint.uses_tokens(method)) {
            return Expected::default();
        }
        if inbound.is_session || !endpoint.takes_json_model() {
            return Expected { input: UNREAD, ..Expected::default() };
        }
        let slices = endpoint.has_output().then(|| {
            let (most, choices) = output_bounds(buffered.text());
            Slices::first(most, choices)
        });
        let background = peek.as_ref().map(|peek| peek.background);
        Expected {
            input: InputSize::of(buffered.text()).tokens(TokensPerByte::default()),
            slices,
            is_own: endpoint.usage_owner(method, inbound.path, background) == UsageOwner::Own,
        }
    }
}

/// The expected tokens of a request whose body is not read: it is admitted while there is no debt.
const UNREAD: u64 = 1;

/// Checks a request without a model that streamgauge itself responds to.
///
/// # Errors
/// Fails if the client may not use the endpoint of `path`, or a limit has no room.
pub(in crate::proxy) fn check_client(
    client: &KnownClient,
    method: &Method,
    path: &str,
    entry: &mut Entry,
) -> Result<()> {
    permit_endpoint(client, method, &Inbound { path, query: None, is_session: false })?;
    if client.limits.is_empty() { Ok(()) } else { hold(Expected::default(), &client.limits, entry) }
}

fn hold(expected: Expected, limits: &[AppliedLimit], entry: &mut Entry) -> Result<()> {
    let (now, started) = (limit_time(), entry.row().started_at);
    let hold = LimitHold::take(limits.iter().map(|applied| &applied.limit), &expected.used(), started, now)
        .map_err(|NoRoom { limit, want, room_from }| reached(&limits[limit], want, room_from, now))?;
    if hold.exceeded() > 0 {
        entry.note(Note::LimitExceeded);
    }
    let cuts = limits.iter().any(|applied| applied.limit.cuts());
    let limits = if cuts { limits.into() } else { Box::default() };
    entry.observe(Box::new(Running { hold, limits, expected, output: 0, lacks_room: false }));
    Ok(())
}

/// The expected use of a request.
#[derive(Debug, Default)]
struct Expected {
    input: u64,
    /// `None`: no limit counts output of the request.
    slices: Option<Slices>,
    /// Counts that are not reported are replaced by those that were seen. False: they belong to
    /// another request, or the body was not read.
    is_own: bool,
}

impl Expected {
    fn used(&self) -> Use {
        let output = self.slices.as_ref().map_or(0, Slices::held);
        let kinds = Kinds { input: self.input, output, ..Kinds::default() };
        Use { requests: 1, reported: self.input.saturating_add(output), kinds, cost: None }
    }
}

/// The hold of a running request.
#[derive(Debug)]
struct Running {
    hold: LimitHold,
    /// The limits of `hold`. Empty if none of them cuts.
    limits: Box<[AppliedLimit]>,
    expected: Expected,
    /// The output tokens that have passed.
    output: u64,
    /// The hold was used up at the last progress, and a limit that cuts had no room for more.
    lacks_room: bool,
}

impl Running {
    /// Holds more for the output that has passed. Returns the limit that has no room, if the request
    /// has used up what it holds.
    fn grow(&mut self) -> Option<(NoRoom, Now)> {
        let slices = self.expected.slices.as_mut()?;
        let before = *slices;
        if !slices.grow(self.output) {
            return None;
        }
        let now = limit_time();
        let no_room = self.hold.grow(&self.expected.used(), now).err()?;
        // Asks again when more has passed.
        self.expected.slices = Some(before);
        (self.output >= before.held()).then_some((no_room, now))
    }
}

impl UseObserver for Running {
    fn on_progress(&mut self, events: u64, output_tokens: Option<u64>) -> Option<Error> {
        // An event has at least one token.
        self.output = output_tokens.unwrap_or(0).max(events);
        let (no_room, now) = match self.grow() {
            Some(no_room) => no_room,
            None => {
                self.lacks_room = false;
                return None;
            }
        };
        // The last counts of a stream may exceed its hold, and only its last event follows. So the
        // stream ends at the next event.
        if !std::mem::replace(&mut self.lacks_room, true) {
            return None;
        }
        let applied = self.limits.get(no_room.limit)?;
        self.hold.record_cut(no_room);
        let NoRoom { want, room_from, .. } = no_room;
        Some(Kind::BudgetExhausted(limit_reached(applied, want, room_from, now)).into())
    }

    fn on_end(&mut self) {
        self.hold.end();
    }

    fn on_close(self: Box<Self>, record: &UsageRecord) {
        let Self { hold, expected, output, .. } = *self;
        let seen = expected.is_own.then_some((expected.input, output));
        hold.settle(&used(record, seen), limit_time());
    }
}

/// The use by the record, with that of attempts whose response was thrown away. `seen`: the expected
/// input and the output that has passed, for counts that the record lacks.
fn used(record: &UsageRecord, seen: Option<(u64, u64)>) -> Use {
    let mut own = record.usage;
    if let Some((input, output)) = seen.filter(|_| may_be_billed(record)) {
        match record.usage_source {
            UsageSource::Reported | UsageSource::Drained => {}
            UsageSource::None | UsageSource::Estimated => {
                own.input_tokens = own.input_tokens.or(Some(input));
                own.output_tokens = own.output_tokens.or(Some(output));
            }
            UsageSource::Partial => {
                own.input_tokens = own.input_tokens.or(Some(input));
                own.output_tokens = own.output_tokens.max(Some(output));
            }
        }
    }
    let attempts = record.group_use.iter().flat_map(|group_use| group_use.attempts.iter());
    let thrown_away = attempts.filter_map(|attempt| attempt.usage.as_deref());
    let cache_is_apart = record.endpoint.as_deref() == Some(INPUT_WITHOUT_CACHE);
    // A request that was refused after its admission has used nothing.
    let requests = Use { requests: u64::from(record.outcome != Outcome::Rejected), ..Use::default() };
    iter::once(&own).chain(thrown_away).fold(requests, |sum, usage| sum.plus(&tokens(usage, cache_is_apart)))
}

fn tokens(usage: &Usage, cache_is_apart: bool) -> Use {
    let counts = TokenCounts {
        input: usage.input_tokens,
        cached_input: usage.cached_input_tokens,
        cache_write: usage.cache_write_input_tokens,
        cache_write_1h: usage.cache_write_1h_input_tokens,
        output: usage.output_tokens,
        tool_calls: None,
        cache_is_apart,
    };
    let reported = usage.input_tokens.unwrap_or(0).saturating_add(usage.output_tokens.unwrap_or(0));
    let kinds = Kinds::new(&counts, usage.reasoning_tokens.unwrap_or(0));
    Use { requests: 0, reported, kinds, cost: None }
}

/// Returns true if a service may bill a request whose tokens it has not reported: it has begun a
/// response, or was sent the request and has not refused it.
fn may_be_billed(record: &UsageRecord) -> bool {
    let has_ended_by_itself = matches!(
        record.outcome,
        Outcome::Complete
            | Outcome::Truncated
            | Outcome::ClientDisconnected
            | Outcome::TimedOut
            | Outcome::Cut
    );
    if !has_ended_by_itself {
        return record.usage_source != UsageSource::None;
    }
    match (record.status, &record.group_use) {
        (Some(status), _) => (200..300).contains(&status),
        (None, Some(group_use)) => {
            group_use.attempts.last().is_some_and(|attempt| attempt.billed != Billed::No)
        }
        (None, None) => {
            let error = KINDS.iter().find(|kind| Some(kind.code) == record.code);
            error.is_none_or(|error| error.retry != Retry::NotSent)
        }
    }
}

/// The error of a request for which a limit has no room.
fn reached(applied: &AppliedLimit, want: Units, room_from: RoomFrom, now: Now) -> Error {
    let reached = limit_reached(applied, want, room_from, now);
    let is_period = reached.until.is_some();
    if is_period { Kind::QuotaReached(reached).into() } else { Kind::LimitReached(reached).into() }
}

/// The limit that has no room, as messages name it.
fn limit_reached(applied: &AppliedLimit, want: Units, room_from: RoomFrom, now: Now) -> Box<LimitReached> {
    let AppliedLimit { owner, index, limit } = applied;
    let status @ LimitStatus { limit: most, .. } = limit.status(now);
    let (unit, scale) = match limit.quantity() {
        Quantity::Tokens(_) => ("tokens", u128::from(Weights::ONE)),
        Quantity::Requests => ("requests", 1),
        Quantity::Concurrent => ("running requests", 1),
        Quantity::Cost(_) => ("cost", 1),
    };
    let whole = |units: Units| u64::try_from(units.0 / scale).unwrap_or(u64::MAX);
    let (retry_after, until) = match room_from {
        RoomFrom::After(nanos) => (Some(Duration::from_nanos(nanos)), None),
        RoomFrom::Time(until) => (None, Some(until)),
        RoomFrom::AnEnd => (Some(AN_END), None),
    };
    Box::new(LimitReached {
        whose: owner.to_string(),
        key: format!("limits[{index}] in [{}]", owner.table()),
        unit,
        used: whole(status.taken()),
        want: whole(want),
        most: whole(most),
        is_rate: !matches!(room_from, RoomFrom::AnEnd),
        retry_after,
        until,
    })
}

/// The pause after which a client asks again for the place of a running request.
const AN_END: Duration = Duration::from_secs(1);
