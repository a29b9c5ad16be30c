//! The health of upstreams and of their models. All workers share it.

mod model;
mod places;
mod recent;
mod upstream;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use model::ModelHealth;
pub(super) use model::RateLimit;
pub use places::{UpstreamPlace, UpstreamPlaces};
pub(super) use recent::Recent;
pub(super) use upstream::MemberLoad;
pub use upstream::UpstreamHealth;

use super::Pins;
use super::probe::OpenedSignal;
use super::retry_budget::RetryBudget;
use super::waiting::{GroupRoom, RoomLimits};
use crate::support::UpstreamId;

/// The largest number of remembered pairs of an upstream and a model, since clients choose names of
/// models. They take at most 2 MB.
const PAIRS: usize = 10_000;

/// The health of upstreams and of their models, for the life of the process: it survives reloads of
/// the configuration.
#[derive(Debug)]
pub struct HealthRegistry {
    epoch: Instant,
    /// Keys of maps of clients' names are hashed with a secret, so that no client can make one that
    /// collides with another's.
    hasher: RandomState,
    upstreams: Mutex<HashMap<UpstreamId, Arc<UpstreamHealth>>>,
    members: Mutex<HashMap<MemberKey, Arc<MemberLoad>>>,
    budgets: Mutex<HashMap<Arc<str>, Arc<RetryBudget>>>,
    rooms: Mutex<HashMap<Arc<str>, Arc<GroupRoom>>>,
    /// Requests of some group may wait.
    may_wait: AtomicBool,
    /// The number of requests that wait in all rooms.
    waiters: Arc<AtomicUsize>,
    pairs: Mutex<Recent<Arc<ModelHealth>>>,
    pins: Pins,
    pub(super) opened: OpenedSignal,
}

/// The upstream, and the model that the member is asked for in place of the request's.
type MemberKey = (UpstreamId, Option<Arc<str>>);

impl HealthRegistry {
    /// Nothing is known, and time begins at `now`.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            epoch: now,
            hasher: RandomState::new(),
            upstreams: Mutex::default(),
            members: Mutex::default(),
            budgets: Mutex::default(),
            rooms: Mutex::default(),
            may_wait: AtomicBool::new(false),
            waiters: Arc::default(),
            pairs: Mutex::new(Recent::new(PAIRS)),
            pins: Pins::default(),
            opened: OpenedSignal::default(),
        })
    }

    /// The health of an upstream as a whole.
    pub fn upstream(&self, id: &UpstreamId) -> Arc<UpstreamHealth> {
        let mut upstreams = self.upstreams.lock().expect("no holder panics");
        let next = u16::try_from(upstreams.len()).unwrap_or(u16::MAX);
        let new = || Arc::new(UpstreamHealth::new(id.clone(), next));
        Arc::clone(upstreams.entry(id.clone()).or_insert_with(new))
    }

    /// The health of the upstreams, by [index](UpstreamHealth::index).
    pub fn upstreams(&self) -> Vec<Arc<UpstreamHealth>> {
        let mut all: Vec<_> = self.upstreams.lock().expect("no holder panics").values().cloned().collect();
        all.sort_unstable_by_key(|upstream| upstream.index());
        all
    }

    /// The health of the pairs that were used recently, in no order.
    pub fn models(&self) -> Vec<Arc<ModelHealth>> {
        self.pairs.lock().expect("no holder panics").values().cloned().collect()
    }

    /// The ids of stored state that passed.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    pub(super) fn model(&self, upstream: &Arc<UpstreamHealth>, model: &str) -> Arc<ModelHealth> {
        let key = self.hash(&(upstream.index(), model));
        let mut pairs = self.pairs.lock().expect("no holder panics");
        if let Some(found) = pairs.get(key) {
            return Arc::clone(found);
        }
        let new = Arc::new(ModelHealth::new(upstream, model));
        pairs.insert(key, Arc::clone(&new));
        new
    }

    pub(super) fn member(&self, upstream: &UpstreamId, model: Option<&Arc<str>>) -> Arc<MemberLoad> {
        let mut members = self.members.lock().expect("no holder panics");
        Arc::clone(members.entry((upstream.clone(), model.cloned())).or_default())
    }

    pub(super) fn budget(&self, group: &Arc<str>) -> Arc<RetryBudget> {
        let mut budgets = self.budgets.lock().expect("no holder panics");
        Arc::clone(budgets.entry(Arc::clone(group)).or_default())
    }

    /// The waiting room of a group. A new one has these limits.
    pub(super) fn room(&self, group: &Arc<str>, limits: &RoomLimits) -> Arc<GroupRoom> {
        let mut rooms = self.rooms.lock().expect("no holder panics");
        let new = || {
            let room = Arc::new(GroupRoom::counted_in(&self.waiters));
            self.limit_room(&room, limits);
            room
        };
        Arc::clone(rooms.entry(Arc::clone(group)).or_insert_with(new))
    }

    /// Sets the limits of a waiting room.
    pub(super) fn limit_room(&self, room: &Arc<GroupRoom>, limits: &RoomLimits) {
        self.may_wait.fetch_or(limits.may_wait, Ordering::Relaxed);
        room.set_limits(limits);
    }

    /// The number of waiting requests of each group, by name.
    pub fn waiting(&self) -> Vec<(Arc<str>, usize)> {
        let rooms = self.rooms.lock().expect("no holder panics");
        let mut all: Vec<_> = rooms.iter().map(|(group, room)| (Arc::clone(group), room.len())).collect();
        drop(rooms);
        all.sort_unstable();
        all
    }

    /// The number of running requests of each member, which is an upstream with its own model or
    /// the request's.
    pub fn running(&self) -> Vec<(UpstreamId, Option<Arc<str>>, u32)> {
        let members = self.members.lock().expect("no holder panics");
        let of = |((upstream, model), load): (&MemberKey, &Arc<MemberLoad>)| {
            (upstream.clone(), model.clone(), load.running())
        };
        let mut all: Vec<_> = members.iter().map(of).collect();
        drop(members);
        all.sort_unstable_by(|one, other| (&*one.0, &one.1).cmp(&(&*other.0, &other.1)));
        all
    }

    /// Lets waiting requests look again, since a member may be available: upstreams are members of
    /// several groups.
    pub fn notify(&self) {
        if !self.may_wait.load(Ordering::Relaxed) {
            return;
        }
        // A request that begins to wait is seen here, or sees what this thread has freed.
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        let rooms = self.rooms.lock().expect("no holder panics");
        let busy: Vec<_> = rooms.values().filter(|room| room.len() > 0).cloned().collect();
        drop(rooms);
        busy.iter().for_each(|room| room.notify());
    }

    /// The number of requests that wait at all groups.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.waiters.load(Ordering::SeqCst)
    }

    pub(super) fn hash(&self, key: &impl std::hash::Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The hash of a model's name; 0 for none.
    pub(super) fn hash_name(&self, name: Option<&str>) -> u64 {
        name.map_or(0, |name| {
            let mut hasher = self.hasher.build_hasher();
            // A name alone needs no mark of its end.
            hasher.write(name.as_bytes());
            hasher.finish()
        })
    }

    /// Milliseconds since the registry's start, never 0.
    pub(super) fn tick(&self, now: Instant) -> u64 {
        ticks(now.saturating_duration_since(self.epoch)).max(1)
    }

    pub(super) fn instant(&self, tick: u64) -> Instant {
        self.epoch + Duration::from_millis(tick)
    }
}

/// Whole milliseconds. Without 128 bits: 2^64 of them are no time that a clock shows.
pub(super) fn ticks(elapsed: Duration) -> u64 {
    elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis())
}

#[cfg(test)]
mod tests;
