//! A group of upstreams, as it is configured, bound to what is known of its members.

use std::ops::Range;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use super::circuit::BreakerPolicy;
use super::health::{HealthRegistry, MemberLoad, ModelHealth, Recent, UpstreamHealth};
use super::retry_budget::RetryBudget;
use super::sticky::{StickyBy, member_seed};
use super::waiting::{WaitRoom, WaitTurn, Waiting};
use super::{Plan, RetryPolicy};
use crate::support::UpstreamId;

/// The most members of a group: a set of them is one word.
pub const MAX_MEMBERS: usize = 128;

/// The most pairs of a member and a model that a group remembers.
const PAIRS: usize = 10_000;
/// The fewest models that a group remembers, whatever the number of its members.
const MIN_ROWS: usize = 16;

/// The most requests that wait at once where the configuration names no number.
const DEFAULT_QUEUE: usize = 1000;

/// How one of a tier is chosen, where no conversation decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChoiceBy {
    /// Of two members drawn by weight, the one from which a first event is expected sooner.
    #[default]
    Latency,
    /// At random, by weight.
    Weight,
}

/// A member, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSpec {
    pub upstream: UpstreamId,
    /// The model that it is asked for in place of the request's.
    pub model: Option<Arc<str>>,
    /// Its share among the members of its tier. 0: it takes only requests that are bound to it.
    pub weight: u32,
    /// The most requests that run at once. 0: any number.
    pub concurrent: u32,
}

/// A group, as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSpec {
    pub name: Arc<str>,
    /// By preference. Neither the list nor a tier is empty.
    pub tiers: Vec<Vec<MemberSpec>>,
    pub choice: ChoiceBy,
    /// What keeps requests of one conversation at one member: the first that a request has.
    pub sticky: Vec<StickyBy>,
    pub retry: RetryPolicy,
    pub breaker: BreakerPolicy,
    /// How long a request may wait for a member. `None`: not at all.
    pub wait: Option<Duration>,
    /// The most requests that wait at once.
    pub queue: usize,
}

/// A group with what is known of its members.
#[derive(Debug)]
pub struct UpstreamGroup {
    spec: GroupSpec,
    members: Box<[MemberSpec]>,
    tiers: Box<[Range<usize>]>,
    pub(super) bound: Box<[Bound]>,
    pub(super) registry: Arc<HealthRegistry>,
    pub(super) budget: Arc<RetryBudget>,
    pub(super) room: Arc<WaitRoom>,
    rows: RwLock<Recent<Arc<Row>>>,
}

/// What a choice reads of a member.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) upstream: Arc<UpstreamHealth>,
    pub(super) load: Arc<MemberLoad>,
    pub(super) weight: u32,
    pub(super) concurrent: u32,
    /// The same in all processes.
    pub(super) seed: u64,
}

/// What is known of one model that clients ask for at each member, by number.
pub(super) type Row = [Arc<ModelHealth>];

impl From<UpstreamId> for MemberSpec {
    fn from(upstream: UpstreamId) -> Self {
        Self { upstream, model: None, weight: 1, concurrent: 0 }
    }
}

impl GroupSpec {
    /// A group of these members, with the defaults of everything else.
    pub fn of(tiers: Vec<Vec<MemberSpec>>) -> Self {
        let (retry, breaker) = (RetryPolicy::default(), BreakerPolicy::default());
        let (choice, sticky) = (ChoiceBy::default(), Vec::new());
        Self { name: "".into(), tiers, choice, sticky, retry, breaker, wait: None, queue: DEFAULT_QUEUE }
    }
}

impl UpstreamGroup {
    /// Binds a group to what is known of its members.
    ///
    /// # Panics
    /// There are more than [`MAX_MEMBERS`], or a tier is empty: configurations are checked before.
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
        let bound = members.iter().map(|member| Bound {
            upstream: registry.upstream(&member.upstream),
            load: registry.member(&member.upstream, member.model.as_ref()),
            weight: member.weight,
            concurrent: member.concurrent,
            seed: member_seed(&member.upstream, member.model.as_deref()),
        });
        Arc::new(Self {
            bound: bound.collect(),
            registry: Arc::clone(registry),
            budget: registry.budget(&spec.name),
            room: registry.room(&spec.name, spec.queue),
            rows: RwLock::new(Recent::new(2 * (PAIRS / members.len()).max(MIN_ROWS))),
            members,
            tiers,
            spec,
        })
    }

    pub fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    /// All members, in the order of the tiers: a member's number is its place.
    pub fn members(&self) -> &[MemberSpec] {
        &self.members
    }

    /// The numbers of the members of each tier.
    pub fn tiers(&self) -> &[Range<usize>] {
        &self.tiers
    }

    /// The member that an upstream serves. Of several, the first that is asked for the request's
    /// model.
    pub fn member_of(&self, upstream: u16) -> Option<usize> {
        let serves = |number: &usize| self.bound[*number].upstream.index() == upstream;
        let mut serving = (0..self.members.len()).filter(serves);
        let first = serving.clone().next();
        serving.find(|&number| self.members[number].model.is_none()).or(first)
    }

    /// Lets a request wait whose next step was to wait, or that comes while others do.
    pub fn wait(&self, plan: Plan, turn: WaitTurn) -> Waiting {
        self.room.enter(plan, turn)
    }

    /// The number of requests that wait. Where it is not 0, a newcomer waits behind them.
    pub fn waiting(&self) -> usize {
        self.room.len()
    }

    /// The health of the model that clients ask for, at each member. `name_at` names it as a member
    /// is asked for it, and is called where the model was not asked for of late.
    pub(super) fn row(&self, model: Option<&str>, name_at: impl Fn(usize) -> Option<Box<str>>) -> Arc<Row> {
        let key = self.registry.hash(&model);
        if let Some(row) = self.rows.read().expect("no holder panics").find_young(key) {
            return Arc::clone(row);
        }
        let mut rows = self.rows.write().expect("no holder panics");
        if let Some(row) = rows.get(key) {
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
        rows.insert(key, Arc::clone(&row));
        row
    }
}
