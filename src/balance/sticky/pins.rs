//! Ids that passed, and the upstream whose account can read them.
//!
//! `resp_…`, `conv_…`, `file-…` and others name stored state: only the account that created it has
//! it. A table of 65,536 ids in 1 MiB, in sets of 8 of which the least recently used one is
//! dropped. Full hashes of 64 bits are compared: with a full table, one unknown id in 10^14 is
//! mistaken for a known one.

use std::sync::Mutex;

use super::hash::Hash64;
use super::key::name_tag;
use crate::balance::UpstreamHealth;

/// The largest number of remembered ids.
const IDS: usize = 65_536;
/// The ids of a set.
const WAYS: usize = 8;
/// Sets behind one lock.
const SETS_PER_SHARD: usize = 128;
const SHARDS: usize = IDS / WAYS / SETS_PER_SHARD;

/// The upstream of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// [`UpstreamHealth::index`].
    pub upstream: u16,
    /// The id passed in a response to this client. Another client must not learn that it exists.
    pub is_own: bool,
}

/// The upstreams of the ids that passed recently.
#[derive(Debug)]
pub struct Pins(Box<[Mutex<Box<[Set]>>]>);

/// The entries by last use, the newest first.
type Set = [Entry; WAYS];

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// 0: empty.
    id: u64,
    client: u32,
    upstream: u16,
}

impl Default for Pins {
    fn default() -> Self {
        let shard = || Mutex::new(vec![[Entry::default(); WAYS]; SETS_PER_SHARD].into());
        Self((0..SHARDS).map(|_| shard()).collect())
    }
}

impl Pins {
    /// Remembers that an upstream made an id for a client.
    pub fn insert(&self, id: &str, client: &str, upstream: &UpstreamHealth) {
        let entry = Entry { id: hash(id), client: name_tag(client), upstream: upstream.index() };
        self.with_set(entry.id, |set| {
            let place = set.iter().position(|known| known.id == entry.id).unwrap_or(WAYS - 1);
            set[..=place].rotate_right(1);
            set[0] = entry;
        });
    }

    /// The upstream of an id that a client names.
    pub fn find(&self, id: &str, client: &str) -> Option<Pin> {
        let id = hash(id);
        self.with_set(id, |set| {
            let place = set.iter().position(|known| known.id == id)?;
            set[..=place].rotate_right(1);
            Some(Pin { upstream: set[0].upstream, is_own: set[0].client == name_tag(client) })
        })
    }

    fn with_set<T>(&self, id: u64, act: impl FnOnce(&mut Set) -> T) -> T {
        let set = id as usize % (SHARDS * SETS_PER_SHARD);
        let mut shard = self.0[set / SETS_PER_SHARD].lock().expect("no holder panics");
        act(&mut shard[set % SETS_PER_SHARD])
    }
}

/// Never 0.
fn hash(id: &str) -> u64 {
    Hash64::new().bytes(id.as_bytes()).finish().max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::balance::HealthRegistry;
    use crate::support::UpstreamId;

    #[test]
    fn id_is_bound_to_its_upstream_and_client() {
        let registry = HealthRegistry::new(Instant::now());
        let [_, two] = ["one", "two"].map(|name| registry.upstream(&UpstreamId::from(name)));
        let pins = Pins::default();
        assert_eq!(pins.find("resp_1", "alice"), None);
        pins.insert("resp_1", "alice", &two);
        assert_eq!(pins.find("resp_1", "alice"), Some(Pin { upstream: 1, is_own: true }));
        assert_eq!(pins.find("resp_1", "bob"), Some(Pin { upstream: 1, is_own: false }));
        assert_eq!(pins.find("resp_2", "alice"), None);
    }

    #[test]
    fn table_takes_1_mib_and_keeps_what_was_used_last() {
        assert_eq!(size_of::<Entry>() * IDS, 1 << 20);
        let registry = HealthRegistry::new(Instant::now());
        let upstream = registry.upstream(&UpstreamId::from("one"));
        let pins = Pins::default();
        for number in 0..3 * IDS {
            pins.insert(&format!("resp_{number}"), "alice", &upstream);
            assert!(pins.find("resp_0", "alice").is_some(), "{number}");
        }
        let kept = |range: std::ops::Range<usize>| {
            let count = range.len();
            let found = range.filter(|number| pins.find(&format!("resp_{number}"), "alice").is_some());
            found.count() as f64 / count as f64
        };
        assert!(kept(3 * IDS - 20_000..3 * IDS) > 0.99);
        assert!(kept(1..IDS) < 0.02);
    }
}
