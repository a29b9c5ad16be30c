//! The limits of a client: a request is admitted if each has room for what it is expected to use.
//!
//! The input is expected from the length of the body and what services have reported for others,
//! the output in slices that grow with the stream. A stream for which a limit with
//! `at_limit = "cut"` has no further slice ends when it has used up the present one. The record's
//! counts replace both at the end. What it lacks counts by what was seen, in rates only: a period
//! counts what the ledger has.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use smallvec::SmallVec;

use super::Routed;
use super::clock::{limit_time, nanos_at, time_at};
use super::granted::GrantTime;
use super::limit_wait::LimitWait;
use super::member_limits::MemberLimits;
use super::permitted::permit_endpoint;
use super::planned::estimate;
use super::reached::{reached, remaining};
use super::running::Running;
use super::turns::{SessionUse, Turns};
use crate::gate::KnownClient;
use crate::gate::limit::{
    AppliedLimit, InputSize, Kinds, LimitFilter, LimitHold, NoRoom, Now, Quantity, RatioKey, ReplyWait,
    Slices, Units, Use,
};
use crate::llm::price::{Billable, Cost, Prices, Rates, Served, is_standard};
use crate::llm::provider::{Endpoint, Inbound, ModelPlace, UsageOwner};
use crate::llm::rewrite::body::{asked_tiers, output_bounds};
use crate::record::error::{Kind, Result};
use crate::record::{Entry, Note};
use crate::support::wait_room::WaitTurn;

/// Refuses a request before its body is read, if a limit has no room for any request.
///
/// # Errors
/// Fails if a limit of requests has no room.
pub(super) fn check_room(limits: &[AppliedLimit], started: Timestamp) -> Result<()> {
    let now = limit_time();
    let limits = limits.iter().filter(|applied| applied.limit.filter().is_empty());
    let without_room = limits.filter_map(|applied| match applied.limit.quantity() {
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

/// The limits of most requests, which are gathered without an allocation.
const INLINE: usize = 8;

impl Routed<'_> {
    /// Holds what the request is expected to use of each limit that applies, until its record is
    /// closed.
    ///
    /// # Errors
    /// Fails if a limit has no room, needs a price that there is not, or lacks a grant.
    pub(super) fn admit(
        &self,
        client: &KnownClient,
        endpoint: Endpoint,
        entry: &mut Entry,
    ) -> Result<Admitted> {
        let limits = limits_for(client, entry);
        let by_path = if self.asked().is_none() { entry.row().model_requested.clone() } else { None };
        let requested = self.asked().or(by_path.as_deref());
        let of_model = limits.iter().filter(|applied| {
            let filter = applied.limit.filter();
            filter.model.is_none() || self.takes_model(filter, requested)
        });
        let (mut all, mut of_members) = (SmallVec::<[_; INLINE]>::new(), Vec::new());
        for applied in of_model {
            let Some(upstream) = applied.limit.filter().upstream.as_deref() else {
                all.push(applied);
                continue;
            };
            let is_at = |member| *self.target.member(member).spec.id == *upstream;
            if self.target.as_group().is_some() {
                of_members.extend((0..self.target.len()).any(is_at).then_some(applied));
            } else if is_at(0) {
                all.push(applied);
            }
        }
        let mut expected = self.expected(client, endpoint, requested);
        if let Some(prices) = &client.prices {
            let limits = all.iter().chain(&of_members).copied();
            expected.rates = self.rates(limits, &prices.peek(), &expected.billable(), entry)?.map(Box::new);
        }
        let reply_wait = self.buffered.grants.reply_wait();
        let members = (!of_members.is_empty()).then(|| {
            let limits = of_members.into_iter().cloned().collect();
            Arc::new(MemberLimits::new(limits, expected.used(), entry.row().started_at))
        });
        let now = if self.is_new { time_at(entry) } else { limit_time() };
        if self.inbound.is_session {
            self.hold_session(expected, &all, members.clone(), reply_wait, entry, now)?;
            return Ok(Admitted { members, wait: None });
        }
        let cost = estimate(self.buffered.text());
        let started = if self.is_new { now.nanos } else { nanos_at(entry.started()) };
        let asked = Asked { now, started, reply_wait };
        let wait = hold(expected, cost, &all, members.clone(), client, asked, entry)?;
        Ok(Admitted { members, wait })
    }

    /// Holds what a session is expected to use before its first turn.
    fn hold_session(
        &self,
        expected: Expected,
        limits: &[&AppliedLimit],
        members: Option<Arc<MemberLimits>>,
        reply_wait: ReplyWait,
        entry: &mut Entry,
        now: Now,
    ) -> Result<()> {
        let Some(client) = self.buffered.client.clone() else { return Ok(()) };
        let (target, row) = (self.target, entry.row());
        let session = SessionUse {
            hold: take(limits, &expected.used(), row.started_at, now, reply_wait, None)?,
            limits: limits.iter().map(|applied| (*applied).clone()).collect(),
            members,
            client,
            model: row.model_requested.as_deref().map(str::to_owned),
            upstreams: (0..target.len()).map(|at| Arc::clone(target.member(at).spec.id.name())).collect(),
            endpoint: Endpoint::of(self.inbound.path).name,
            started: row.started_at,
            rates: expected.rates,
            turns: Turns::default(),
            waiting: None,
            round: 0,
        };
        if session.hold.exceeded() > 0 {
            entry.note(Note::LimitExceeded);
        }
        entry.observe(Box::new(session));
        Ok(())
    }

    /// Returns true if a filter takes the request, which names the model `requested`. If it names
    /// none, any default that it may get counts.
    fn takes_model(&self, filter: &LimitFilter, requested: Option<&str>) -> bool {
        if requested.is_some() {
            return filter.takes_model(requested);
        }
        let Self { buffered, inbound, target, .. } = self;
        let place =
            Endpoint::of(inbound.path).model_place(&buffered.head.method, inbound.path, inbound.is_session);
        let takes_default = place == ModelPlace::Body { takes_default: true };
        takes_default && filter.takes_model((0..target.len()).filter_map(|member| self.model(member)))
    }

    /// The rates by which limits of cost hold what the request is expected to use. `None`: no such
    /// limit applies, or there is no price, and the limits allow it.
    ///
    /// Every member of a group needs a price, since any may get the request. What it is expected to
    /// use is held at the dearest one's rates.
    fn rates<'l>(
        &self,
        limits: impl Iterator<Item = &'l AppliedLimit>,
        prices: &Prices,
        billable: &Billable,
        entry: &mut Entry,
    ) -> Result<Option<Rates>> {
        let Self { buffered, inbound, target, .. } = self;
        let (endpoint, method) = (Endpoint::of(inbound.path), &buffered.head.method);
        let is_priced = endpoint.is_metered(method, inbound.path, inbound.is_session)
            && (inbound.is_session || endpoint.uses_tokens(method));
        let row = entry.row();
        let requested = row.model_requested.as_deref();
        // Anthropic's `standard_only` is no other tier.
        let is_other = |tier: &String| !is_standard(tier) && tier != "standard_only";
        let tier = asked_tiers(buffered.text()).into_iter().find(is_other);
        let input_tokens = billable.input;
        // The name that the service gets, or the one that it may name in its response.
        let find = |member: usize| {
            let upstream = target.member(member).spec.id.name();
            let priced = |model: &str| {
                let (upstream, at) = (Some(&**upstream), row.started_at);
                prices.find(&Served { model, upstream, at, tier: tier.as_deref(), input_tokens }).copied()
            };
            let model = self.model(member);
            model.and_then(priced).or_else(|| requested.and_then(priced))
        };
        let mut rates: Option<Rates> = None;
        for applied in limits {
            let (limit, filter) = (&applied.limit, applied.limit.filter());
            let Quantity::Cost(currency) = limit.quantity() else { continue };
            let is_at = |member: &usize| filter.takes_upstream(Some(&*target.member(*member).spec.id));
            for member in (0..target.len()).filter(is_at) {
                match find(member).filter(|rates| rates.currency == currency) {
                    Some(found) => {
                        let is_dearer =
                            rates.is_none_or(|known| known.amount(billable) < found.amount(billable));
                        if is_dearer {
                            rates = Some(found);
                        }
                    }
                    None if is_priced && limit.needs_price() => {
                        let mut model = self.model(member).or(requested).unwrap_or_default().to_owned();
                        if let Some(tier) = &tier {
                            model += &format!(" in the service tier {tier}");
                        }
                        let kind =
                            Kind::NoPrice { model, currency: currency.to_string(), limit: applied.key() };
                        return Err(kind.at(&*target.member(member).spec.id));
                    }
                    None => {}
                }
            }
        }
        Ok(rates)
    }

    /// `requested`: the model that the request names.
    fn expected(&self, client: &KnownClient, endpoint: Endpoint, requested: Option<&str>) -> Expected {
        let Self { buffered, peek, inbound, target, .. } = self;
        let method = &buffered.head.method;
        let Some(ratios) = &client.input_ratios else { return Expected::default() };
        if !(inbound.is_session || endpoint.uses_tokens(method)) {
            return Expected::default();
        }
        if inbound.is_session || !endpoint.takes_json_model() {
            return Expected { input: UNREAD, ..Expected::default() };
        }
        let slices = endpoint.has_output().then(|| {
            let has_bounds = peek.as_ref().is_none_or(|peek| peek.bounds_output);
            let (most, choices) = if has_bounds { output_bounds(buffered.text()) } else { (None, 1) };
            Slices::first(most, choices)
        });
        let background = peek.as_ref().map(|peek| peek.background);
        let text = buffered.text();
        let size = InputSize::of(text, peek.as_ref().is_some_and(|peek| peek.names_stored_input(text)));
        let key = |member: usize| ratios.key(&target.member(member).spec.id, requested);
        let (first, others) = (key(0), (1..target.len()).map(key));
        Expected {
            input: ratios.tokens(&size, std::iter::once(first).chain(others)),
            size,
            ratio: (target.len() == 1).then_some(first),
            slices,
            is_own: endpoint.usage_owner(method, inbound.path, background) == UsageOwner::Own,
            rates: None,
        }
    }
}

/// A request whose limits are known.
#[derive(Default)]
pub(super) struct Admitted {
    /// The limits of a group's members, which are held during attempts at them.
    pub(super) members: Option<Arc<MemberLimits>>,
    /// The request has to wait for limits before it is admitted.
    pub(super) wait: Option<Box<LimitWait>>,
}

/// The expected tokens of a request whose body is not read: it is admitted while there is no debt.
pub(super) const UNREAD: u64 = 1;

/// Checks a request without a model that streamgauge itself responds to. Returns the wait that
/// precedes it, if there is one.
///
/// # Errors
/// Fails if the client may not use the endpoint of `path`, or a limit has no room, or lacks a grant
/// for which the request can wait.
pub(in crate::proxy) fn check_client(
    client: &KnownClient,
    method: &Method,
    path: &str,
    grants: &GrantTime,
    entry: &mut Entry,
) -> Result<Option<Box<LimitWait>>> {
    permit_endpoint(client, method, &Inbound { path, query: None, is_session: false })?;
    let limits = limits_for(client, entry);
    let limits: Vec<_> = limits.iter().filter(|applied| applied.limit.filter().is_empty()).collect();
    if limits.is_empty() {
        return Ok(None);
    }
    let started = nanos_at(entry.started());
    let asked = Asked { now: limit_time(), started, reply_wait: grants.reply_wait() };
    hold(Expected::default(), 1, &limits, None, client, asked, entry)
}

/// The limits of a client, with those of the request's user where each has its own.
fn limits_for<'c>(client: &'c KnownClient, entry: &mut Entry) -> Cow<'c, [AppliedLimit]> {
    if !client.has_limits_of_users {
        return Cow::Borrowed(&client.limits);
    }
    let (user, now) = (entry.row().user.as_deref(), limit_time());
    client.limits.iter().map(|applied| applied.for_user(user, now)).collect()
}

/// The question to the limits: its time, the beginning of the request as in [`Now::nanos`], and the
/// wait for the fleet's store.
struct Asked {
    now: Now,
    started: u64,
    reply_wait: ReplyWait,
}

/// `cost`: see [`WaitTurn`].
fn hold(
    expected: Expected,
    cost: u32,
    limits: &[&AppliedLimit],
    members: Option<Arc<MemberLimits>>,
    client: &KnownClient,
    Asked { now, started, reply_wait }: Asked,
    entry: &mut Entry,
) -> Result<Option<Box<LimitWait>>> {
    let (used, mut waiting) = (expected.used(), Vec::new());
    let hold = take(limits, &used, entry.row().started_at, now, reply_wait, Some(&mut waiting))?;
    if hold.exceeded() > 0 {
        entry.note(Note::LimitExceeded);
    }
    let (ratios, prices) = (client.input_ratios.clone(), client.prices.clone());
    let of_hold = if hold.cuts() {
        let of_hold = (0..limits.len()).filter(|index| !waiting.contains(index));
        of_hold.map(|index| limits[index].clone()).collect()
    } else {
        Box::default()
    };
    let running = Box::new(Running {
        hold,
        limits: of_hold,
        members,
        ratios,
        prices,
        expected,
        started,
        output: 0,
        lacks_room: false,
    });
    if waiting.is_empty() {
        if client.limit_headers {
            entry.add_headers(remaining(limits.iter().copied()));
        }
        entry.observe(running);
        return Ok(None);
    }
    let turn = WaitTurn::new(&entry.row().client, client.share, client.priority, cost);
    let waiting = waiting.into_iter().map(|index| limits[index].clone());
    let of_headers = limits.iter().copied().filter(|_| client.limit_headers).cloned().collect();
    Ok(Some(LimitWait::new(running, of_headers, waiting, &used, turn)))
}

/// Holds what a request that began at `started` is expected to use of each limit. `reply_wait` and
/// `waiting`: see [`LimitHold::take_or_wait`].
///
/// # Errors
/// Fails if a limit has no room, or lacks a grant for which the request can wait.
pub(super) fn take(
    limits: &[&AppliedLimit],
    expected: &Use,
    started: Timestamp,
    now: Now,
    reply_wait: ReplyWait,
    waiting: Option<&mut Vec<usize>>,
) -> Result<LimitHold> {
    let limits_in_use = limits.iter().map(|applied| &applied.limit);
    LimitHold::take_or_wait(limits_in_use, expected, started, now, reply_wait, waiting)
        .map_err(|NoRoom { limit, want, room_from }| reached(limits[limit], want, room_from, now))
}

/// The expected use of a request.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) input: u64,
    /// The size from which `input` is expected.
    pub(super) size: InputSize,
    /// The ratio that the request's report changes. `None`: it is that of a group's member.
    pub(super) ratio: Option<RatioKey>,
    /// `None`: no limit counts output of the request.
    pub(super) slices: Option<Slices>,
    /// Counts that are not reported are replaced by those that were seen. False: they belong to
    /// another request, or the body was not read.
    pub(super) is_own: bool,
    /// `None`: no cost is held.
    pub(super) rates: Option<Box<Rates>>,
}

impl Expected {
    fn billable(&self) -> Billable {
        let output = self.slices.as_ref().map_or(0, Slices::held);
        Billable { input: self.input, output, ..Billable::default() }
    }

    pub(super) fn used(&self) -> Use {
        let billable @ Billable { output, .. } = self.billable();
        let kinds = Kinds { input: self.input, output, ..Kinds::default() };
        let mut cost = Cost::default();
        if let Some(rates) = &self.rates {
            rates.amount(&billable).into_iter().for_each(|amount| cost.pay(rates.currency, amount));
        }
        Use { requests: 1, reported: self.input.saturating_add(output), kinds, cost }
    }
}
