//! A configured group of upstreams, bound to the health of its members.

use std::ops::Range;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use super::circuit::BreakerPolicy;
use super::health::{HealthRegistry, MemberLoad, ModelHealth, Recent, UpstreamHealth};
use super::retry_budget::RetryBudget;
use super::sticky::{StickyBy, member_seed};
use super::waiting::{GroupRoom, RoomLimits, Waiting};
use super::{Plan, RetryPolicy};
use crate::support::UpstreamId;
use crate::support::wait_room::WaitTurn;

/// The largest number of members of a group: a set of them is one word.
pub const MAX_MEMBERS: usize = 128;

/// The largest number of pairs of a member and a model that a group remembers.
const PAIRS: usize = 10_000;
/// The smallest number of models that a group remembers, for any number of members.
const MIN_ROWS: usize = 16;

/// The largest number of requests that wait at the same time, if the configuration has no number.
const DEFAULT_QUEUE: usize = 1000;

/// The choice of a member in a tier, if no conversation decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChoiceBy {
    /// Two members are drawn by weight; the one with the earlier expected first event is chosen.
    #[default]
    Latency,
    /// A member is drawn at random, by weight.
    Weight,
}

/// A configured member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSpec {
    pub upstream: UpstreamId,
    /// The model that replaces the request's.
    pub model: Option<Arc<str>>,
    /// Its share among the members of its tier. 0: it serves only requests that are bound to it.
    pub weight: u32,
}

/// A configured group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSpec {
    pub name: Arc<str>,
    /// The tiers by preference. Neither the list nor a tier is empty.
    pub tiers: Vec<Vec<MemberSpec>>,
    pub choice: ChoiceBy,
    /// The properties that keep a conversation's requests at one member: the first that a request
    /// has.
    pub sticky: Vec<StickyBy>,
    pub retry: RetryPolicy,
    pub breaker: BreakerPolicy,
    /// The path of the request that asks a member that is left out whether it is well. `None`: the
    /// next request decides.
    pub probe: Option<Arc<str>>,
    /// The largest number of requests that run at each member at the same time. 0: any number.
    pub concurrent: u32,
    /// The time for which a request may wait for a member. `None`: no wait.
    pub wait: Option<Duration>,
    /// The largest number of requests that wait at the same time.
    pub queue: usize,
}

/// A group with the health of its members.
#[derive(Debug)]
pub struct UpstreamGroup {
    spec: GroupSpec,
    members: Box<[MemberSpec]>,
    tiers: Box<[Range<usize>]>,
    /// Some tier has several members that take new requests.
    has_choice: bool,
    /// The number of members that take new requests.
    takers: usize,
    /// All weights above 0 are equal.
    pub(super) is_even: bool,
    pub(super) bound: Box<[Bound]>,
    pub(super) registry: Arc<HealthRegistry>,
    pub(super) budget: Arc<RetryBudget>,
    pub(super) room: Arc<GroupRoom>,
    rows: RwLock<Rows>,
}

/// The rows of the models that were requested recently.
#[derive(Debug)]
struct Rows {
    by_hash: Recent<Arc<Row>>,
    /// The one that was added last, with the model's name. Many groups serve one model, which is
    /// compared in less time than it is hashed.
    newest: Option<(Box<str>, Arc<Row>)>,
}

/// The longest name of [`Rows::newest`], in bytes.
const MAX_NAME: usize = 64;

/// The data about a member that a choice reads.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) upstream: Arc<UpstreamHealth>,
    pub(super) load: Arc<MemberLoad>,
    pub(super) weight: u32,
    /// The seed of the member's hash, which is equal in all processes.
    pub(super) seed: u64,
}

/// The health of one model at each member, by number.
pub(super) type Row = [Arc<ModelHealth>];

impl From<UpstreamId> for MemberSpec {
    fn from(upstream: UpstreamId) -> Self {
        Self { upstream, model: None, weight: 1 }
    }
}

impl GroupSpec {
    /// Creates a group of these members, with defaults for everything else.
    pub fn of(tiers: Vec<Vec<MemberSpec>>) -> Self {
        let (retry, breaker) = (RetryPolicy::default(), BreakerPolicy::default());
        let (choice, sticky) = (ChoiceBy::default(), Vec::new());
        Self {
            name: "".into(),
            tiers,
            choice,
            sticky,
            retry,
            breaker,
            probe: None,
            concurrent: 0,
            wait: None,
            queue: DEFAULT_QUEUE,
        }
    }
}

impl UpstreamGroup {
    /// Binds a group to the health of its members.
    ///
    /// # Panics
    /// Panics if there are more than [`MAX_MEMBERS`], or a tier is empty: configurations are
    /// checked before.
    pub fn new(spec: GroupSpec, registry: &Arc<HealthRegistry>) -> Arc<Self> {
        let members: Box<[_]> = spec.tiers.iter().flatten().cloned().collect();
        assert!(members.len() <= MAX_MEMBERS && !members.is_empty(), "checked by the configuration");
        let mut begin = 0;
        let tier = |tier: &Vec<MemberSpec>| {
            let range = begin..begin + tier.len();
            begin = range.end;
            range
        };
        let tiers = spec.tiers.iter().map(tier).collect();
        let takes_requests = |member: &&MemberSpec| member.weight > 0;
        let has_choice = spec.tiers.iter().any(|tier| tier.iter().filter(takes_requests).nth(1).is_some());
        let takers = members.iter().filter(takes_requests).count();
        let mut weights = members.iter().map(|member| member.weight).filter(|&weight| weight > 0);
        let first_weight = weights.next();
        let is_even = weights.all(|weight| Some(weight) == first_weight);
        let bound = members.iter().map(|member| Bound {
            upstream: registry.upstream(&member.upstream),
            load: registry.member(&member.upstream, member.model.as_ref()),
            weight: member.weight,
            seed: member_seed(&member.upstream, member.model.as_deref()),
        });
        let bound: Box<[Bound]> = bound.collect();
        Arc::new(Self {
            room: registry.room(&spec.name, &limits(&spec, &bound)),
            bound,
            registry: Arc::clone(registry),
            budget: registry.budget(&spec.name),
            rows: RwLock::new(Rows {
                by_hash: Recent::new(2 * (PAIRS / members.len()).max(MIN_ROWS)),
                newest: None,
            }),
            members,
            tiers,
            has_choice,
            takers,
            is_even,
            spec,
        })
    }

    /// Sets the limits of requests that run or wait already at a group of this name. The limits of
    /// its upstreams must be set before. A new name has its limits from the beginning.
    pub fn put_in_use(&self) {
        self.registry.limit_room(&self.room, &limits(&self.spec, &self.bound));
    }

    pub fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    /// All members, in the order of the tiers: the number of a member is its index.
    pub fn members(&self) -> &[MemberSpec] {
        &self.members
    }

    /// The number of members that take new requests: those whose weight is not 0.
    pub fn takers(&self) -> usize {
        self.takers
    }

    /// The numbers of the members of each tier.
    pub fn tiers(&self) -> &[Range<usize>] {
        &self.tiers
    }

    /// Returns true if each request has one attempt, at the only member, and never waits.
    pub fn is_only_one(&self) -> bool {
        self.members.len() == 1 && self.takers == 1 && self.spec.wait.is_none()
    }

    /// Returns true if a conversation's key may decide about the member of a request.
    pub fn has_choice(&self) -> bool {
        self.has_choice
    }

    /// The member of an upstream. Of several, the first that serves the request's model.
    pub fn member_of(&self, upstream: &UpstreamId) -> Option<usize> {
        let serves = |number: &usize| self.members[*number].upstream == *upstream;
        let mut serving = (0..self.members.len()).filter(serves);
        let first = serving.clone().next();
        serving.find(|&number| self.members[number].model.is_none()).or(first)
    }

    /// Lets a request wait if its next step was to wait, or if others wait.
    pub fn wait(&self, plan: Plan, turn: WaitTurn, now: Instant) -> Waiting {
        self.room.enter(plan, turn, now)
    }

    /// The number of waiting requests.
    pub fn waiting(&self) -> usize {
        self.room.len()
    }

    /// The health of a model at each member. `name_at` returns the model's name at a member, and is
    /// called if the model was not requested recently.
    pub(super) fn row(&self, model: Option<&str>, name_at: impl Fn(usize) -> Option<Box<str>>) -> Arc<Row> {
        let rows = self.rows.read().expect("no holder panics");
        if let Some((name, row)) = &rows.newest
            && model == Some(name)
        {
            return Arc::clone(row);
        }
        let key = self.registry.hash_name(model);
        if let Some(row) = rows.by_hash.find_young(key) {
            return Arc::clone(row);
        }
        drop(rows);
        let mut rows = self.rows.write().expect("no holder panics");
        if let Some(row) = rows.by_hash.get(key) {
            return Arc::clone(row);
        }
        let at = |(number, member): (usize, &MemberSpec)| {
            let upstream = &self.bound[number].upstream;
            match &member.model {
                Some(model) => self.registry.model(upstream, model),
                None => self.registry.model(upstream, &name_at(number).unwrap_or_default()),
            }
        };
        let row: Arc<Row> = self.members.iter().enumerate().map(at).collect();
        rows.by_hash.insert(key, Arc::clone(&row));
        rows.newest = model.filter(|name| name.len() <= MAX_NAME).map(|name| (name.into(), Arc::clone(&row)));
        row
    }
}

fn limits(spec: &GroupSpec, bound: &[Bound]) -> RoomLimits {
    RoomLimits {
        queue: spec.queue,
        concurrent: spec.concurrent,
        limits_upstreams: bound.iter().any(|bound| bound.upstream.concurrent() > 0),
        may_wait: spec.wait.is_some(),
    }
}
