//! The limits of a client: a request is admitted if each has room for what it is expected to use.
//!
//! The input is expected from the length of the body and what services have reported for others,
//! the output in slices that grow with the stream. A stream for which a limit with
//! `at_limit = "cut"` has no further slice ends when it has used up the present one. The record's
//! counts replace both at the end. What it lacks counts by what was seen, in rates only: a period
//! counts what the ledger has.

use std::borrow::{Borrow, Cow};
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use smallvec::SmallVec;

use super::Routed;
use super::clock::{limit_time, nanos_at, time_at};
use super::expected::Expected;
use super::granted::GrantTime;
use super::holding::{Asked, hold, take};
use super::limit_wait::LimitWait;
use super::member_limits::MemberLimits;
use super::permitted::permit_endpoint;
use super::planned::estimate;
use super::reached::reached;
use super::turns::{SessionUse, Turns};
use crate::gate::KnownClient;
use crate::gate::limit::{AppliedLimit, LimitFilter, Now, Quantity, ReplyWait, Units};
use crate::llm::price::{Billable, Prices, Rates, Served, is_standard};
use crate::llm::provider::{Endpoint, Inbound, ModelPlace};
use crate::llm::rewrite::body::asked_tiers;
use crate::record::error::{Kind, Result};
use crate::record::{Entry, Note};

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
        if !client.has_filtered_limits {
            return self.admit_under(&limits, Vec::new(), requested, client, endpoint, entry);
        }
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
        self.admit_under(&all[..], of_members, requested, client, endpoint, entry)
    }

    /// Does the same for the limits that apply, those of a group's members apart. `requested`: the
    /// model that the request names.
    fn admit_under<L: Borrow<AppliedLimit>>(
        &self,
        all: &[L],
        of_members: Vec<&AppliedLimit>,
        requested: Option<&str>,
        client: &KnownClient,
        endpoint: Endpoint,
        entry: &mut Entry,
    ) -> Result<Admitted> {
        let mut expected = self.expected(client, endpoint, requested, entry.owns_usage());
        if let Some(prices) = &client.prices {
            let limits = all.iter().map(Borrow::borrow).chain(of_members.iter().copied());
            expected.rates = self.rates(limits, &prices.peek(), &expected.billable(), entry)?.map(Box::new);
        }
        let reply_wait = self.buffered.grants.reply_wait();
        let members = (!of_members.is_empty()).then(|| {
            let limits = of_members.into_iter().cloned().collect();
            Arc::new(MemberLimits::new(limits, expected.used(), entry.row().started_at))
        });
        let now = if self.is_new { time_at(entry) } else { limit_time() };
        if self.inbound.is_session {
            let all: Vec<&AppliedLimit> = all.iter().map(Borrow::borrow).collect();
            self.hold_session(expected, &all, members.clone(), reply_wait, entry, now)?;
            return Ok(Admitted { members, wait: None });
        }
        let cost = estimate(self.buffered.text());
        let started = if self.is_new { now.nanos } else { nanos_at(entry.started()) };
        let asked = Asked { now, started, reply_wait };
        let wait = hold(expected, cost, all, members.clone(), client, asked, entry)?;
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
            hold: take(limits, &expected.used(), row.started_at, now, reply_wait)?,
            limits: limits.iter().map(|applied| (*applied).clone()).collect(),
            members,
            client,
            model: row.model_requested.as_deref().map(str::to_owned),
            upstreams: (0..target.len()).map(|at| Arc::clone(target.member(at).spec.id.name())).collect(),
            endpoint: Endpoint::of(self.inbound.path).name,
            started: row.started_at,
            rates: expected.rates,
            turns: Turns::default(),
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
}

/// A request whose limits are known.
#[derive(Default)]
pub(super) struct Admitted {
    /// The limits of a group's members, which are held during attempts at them.
    pub(super) members: Option<Arc<MemberLimits>>,
    /// The request has to wait for limits before it is admitted.
    pub(super) wait: Option<Box<LimitWait>>,
}

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
#[inline]
fn limits_for<'c>(client: &'c KnownClient, entry: &mut Entry) -> Cow<'c, [AppliedLimit]> {
    if client.has_limits_of_users { limits_of_user(client, entry) } else { Cow::Borrowed(&client.limits) }
}

#[inline(never)]
fn limits_of_user<'c>(client: &'c KnownClient, entry: &mut Entry) -> Cow<'c, [AppliedLimit]> {
    let (user, now) = (entry.row().user.as_deref(), limit_time());
    client.limits.iter().map(|applied| applied.for_user(user, now)).collect()
}
