//! Ids that passed, and the upstream whose account can read them.
//!
//! `resp_…`, `conv_…`, `file-…` and others name stored state: only the account that created it has
//! it. A table of 65,536 ids in 1 MiB, in sets of 8 of which the least recently used one is
//! dropped. Full hashes of 64 bits are compared: with a full table, one unknown id in 10^14 is
//! mistaken for a known one.
//!
//! A fleet shares them through a store: see [`FleetPins`].

use std::sync::{Arc, Mutex, OnceLock};

use super::fleet_pins::{FleetPins, PinAsk, SharedPin};
use super::hash::Hash64;
use super::key::name_tag;

/// The largest number of remembered ids.
const IDS: usize = 65_536;
/// The ids of a set.
const WAYS: usize = 8;
/// Sets behind one lock.
const SETS_PER_SHARD: usize = 128;
const SHARDS: usize = IDS / WAYS / SETS_PER_SHARD;
/// Sets of a part, which has 64 ids.
const SETS_PER_PART: usize = 8;

/// The largest number of accounts in the life of a process; ids of any further one are not
/// remembered.
const ACCOUNTS: usize = u16::MAX as usize;

/// The account at one upstream, by its number in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account(u16);

/// The account of an id that another instance has written, at an upstream that is not configured here.
const ELSEWHERE: Account = Account(u16::MAX);

/// The account of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// `None`: it is at no upstream of this process.
    pub account: Option<Account>,
    /// The client may know the id: its request created the object, or it is unknown whose did.
    pub is_own: bool,
    /// True if the client that created the object is known.
    pub has_owner: bool,
}

/// The accounts of the ids that passed recently.
#[derive(Debug)]
pub struct Pins {
    shards: Box<[Mutex<Box<[Set]>>]>,
    /// The names of the accounts, by number, and their hashes.
    accounts: Mutex<Vec<(Box<str>, u64)>>,
    /// `None`: no fleet shares them.
    fleet: OnceLock<Arc<FleetPins>>,
}

/// The entries by last use, the newest first.
type Set = [Entry; WAYS];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// 0: empty.
    id: u64,
    /// 0: any client may use the id.
    client: u32,
    account: Account,
}

impl Default for Pins {
    fn default() -> Self {
        let shard = || Mutex::new(vec![[Entry::default(); WAYS]; SETS_PER_SHARD].into());
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            accounts: Mutex::default(),
            fleet: OnceLock::new(),
        }
    }
}

impl Pins {
    /// The account of this name: the same for equal names.
    pub fn account(&self, name: &str) -> Option<Account> {
        let mut accounts = self.accounts.lock().expect("no holder panics");
        let number = accounts.iter().position(|(known, _)| **known == *name).unwrap_or(accounts.len());
        if number == ACCOUNTS {
            return None;
        }
        if number == accounts.len() {
            accounts.push((name.into(), hash(name)));
        }
        u16::try_from(number).ok().map(Account)
    }

    /// Remembers an id of an account. `client`: the client whose request created the object; `None`:
    /// it is unknown whose did.
    ///
    /// An id of an account keeps its first client, so that no response can take an object away from
    /// the client that created it.
    pub fn insert(&self, id: &str, client: Option<&str>, account: Account) {
        let entry = Entry { id: hash(id), client: client.map_or(0, client_tag), account };
        let is_news = self.remember(entry);
        if is_news
            && let Some(fleet) = self.fleet.get()
            && let Some(account) = self.account_hash(account)
        {
            fleet.write(SharedPin { id: entry.id, client: entry.client, account });
        }
    }

    /// Returns true if the table had no such entry.
    fn remember(&self, entry: Entry) -> bool {
        self.with_set(entry.id, |set| {
            let known = set.iter().position(|known| known.id == entry.id);
            set[..=known.unwrap_or(WAYS - 1)].rotate_right(1);
            let before = known.map(|_| set[0]);
            set[0] = before.map_or(entry, |before| before.followed_by(entry));
            before != Some(set[0])
        })
    }

    /// Shares all ids from here on with a fleet.
    pub fn share(&self, fleet: Arc<FleetPins>) {
        let _ = self.fleet.set(fleet);
    }

    /// The fleet that shares them.
    pub fn fleet(&self) -> Option<&Arc<FleetPins>> {
        self.fleet.get()
    }

    /// Asks the fleet for ids that are not known here. `None`: no fleet shares them.
    pub fn ask<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Option<Arc<PinAsk>> {
        Some(self.fleet.get()?.ask(ids.into_iter().map(hash).collect()))
    }

    /// Remembers an id that another instance has written. Of one whose account is unknown here, the
    /// client that created it.
    pub fn take_over(&self, pin: SharedPin) {
        let accounts = self.accounts.lock().expect("no holder panics");
        let number = accounts.iter().position(|(_, hash)| *hash == pin.account);
        drop(accounts);
        let account = number.and_then(|number| u16::try_from(number).ok()).map_or(ELSEWHERE, Account);
        if account != ELSEWHERE || pin.client != 0 {
            self.remember(Entry { id: pin.id, client: pin.client, account });
        }
    }

    /// The ids of a part of the table, for the fleet's store. `None`: there is no such part.
    pub fn part(&self, part: usize) -> Option<Vec<SharedPin>> {
        let first = part * SETS_PER_PART;
        let shard = self.shards.get(first / SETS_PER_SHARD)?.lock().expect("no holder panics");
        let sets = &shard[first % SETS_PER_SHARD..][..SETS_PER_PART];
        let entries: Vec<_> = sets.as_flattened().iter().filter(|entry| entry.id != 0).copied().collect();
        drop(shard);
        let shared = entries.into_iter().filter_map(|Entry { id, client, account }| {
            Some(SharedPin { id, client, account: self.account_hash(account)? })
        });
        Some(shared.collect())
    }

    fn account_hash(&self, account: Account) -> Option<u64> {
        let accounts = self.accounts.lock().expect("no holder panics");
        accounts.get(usize::from(account.0)).map(|(_, hash)| *hash)
    }

    /// The account of an id that a client names.
    pub fn find(&self, id: &str, client: &str) -> Option<Pin> {
        let id = hash(id);
        self.with_set(id, |set| {
            let place = set.iter().position(|known| known.id == id)?;
            set[..=place].rotate_right(1);
            let Entry { client: owner, account, .. } = set[0];
            let is_own = owner == 0 || owner == client_tag(client);
            let account = Some(account).filter(|account| *account != ELSEWHERE);
            Some(Pin { account, is_own, has_owner: owner != 0 })
        })
    }

    fn with_set<T>(&self, id: u64, act: impl FnOnce(&mut Set) -> T) -> T {
        let set = id as usize % (SHARDS * SETS_PER_SHARD);
        let mut shard = self.shards[set / SETS_PER_SHARD].lock().expect("no holder panics");
        act(&mut shard[set % SETS_PER_SHARD])
    }
}

impl Entry {
    /// The entry after a later one of the same id. It keeps its client, unless another account has
    /// another object; and it has a known account rather than none.
    fn followed_by(self, later: Self) -> Self {
        if later.account == ELSEWHERE {
            return Self { client: if self.client == 0 { later.client } else { self.client }, ..self };
        }
        let is_open = self.client == 0 || (later.client != 0 && self.account != later.account);
        match self.account {
            _ if is_open => later,
            ELSEWHERE => Self { account: later.account, ..self },
            _ => self,
        }
    }
}

/// Never 0.
fn hash(id: &str) -> u64 {
    Hash64::new().bytes(id.as_bytes()).finish().max(1)
}

/// Never 0.
fn client_tag(client: &str) -> u32 {
    name_tag(client).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Account = Account(0);
    const TWO: Account = Account(1);

    #[test]
    fn equal_names_are_one_account() {
        let pins = Pins::default();
        assert_eq!(["a", "b", "a"].map(|name| pins.account(name)), [Some(ONE), Some(TWO), Some(ONE)]);
    }

    #[test]
    fn id_is_bound_to_its_account_and_client() {
        let pins = Pins::default();
        assert_eq!(pins.find("resp_1", "alice"), None);
        pins.insert("resp_1", Some("alice"), TWO);
        let pin = Pin { account: Some(TWO), is_own: true, has_owner: true };
        assert_eq!(pins.find("resp_1", "alice"), Some(pin));
        assert_eq!(pins.find("resp_1", "bob"), Some(Pin { is_own: false, ..pin }));
        assert_eq!(pins.find("resp_2", "alice"), None);
    }

    #[test]
    fn id_keeps_its_first_client() {
        let pins = Pins::default();
        let is_own = |client| pins.find("file-1", client).unwrap().is_own;
        pins.insert("file-1", None, ONE);
        assert!(is_own("alice") && is_own("bob"), "a list shows it");
        pins.insert("file-1", Some("alice"), ONE);
        for later in [None, Some("bob")] {
            pins.insert("file-1", later, ONE);
            assert!(is_own("alice") && !is_own("bob"), "{later:?}");
        }
        pins.insert("file-1", None, TWO);
        let pin = Pin { account: Some(ONE), is_own: true, has_owner: true };
        assert_eq!(pins.find("file-1", "alice"), Some(pin));
        pins.insert("file-1", Some("bob"), TWO);
        let pin = Pin { account: Some(TWO), ..pin };
        assert_eq!(pins.find("file-1", "bob"), Some(pin), "another account made another object");
    }

    #[test]
    fn fleet_gets_what_is_new_and_replicas_take_it_over() {
        let fleet = FleetPins::new(std::task::Waker::noop().clone());
        let (here, there) = (Pins::default(), Pins::default());
        here.share(Arc::clone(&fleet));
        let one = here.account("one http://a").unwrap();
        // Numbers of accounts differ between processes.
        there.account("other").unwrap();
        let there_one = there.account("one http://a").unwrap();
        here.insert("resp_1", None, one);
        here.insert("resp_1", Some("alice"), one);
        for later in [None, Some("alice"), Some("bob")] {
            here.insert("resp_1", later, one);
        }
        let written = fleet.take_writes(9);
        assert_eq!(written.iter().map(|pin| pin.client).collect::<Vec<_>>(), [0, client_tag("alice")]);
        written.iter().for_each(|pin| there.take_over(*pin));
        let pin = Pin { account: Some(there_one), is_own: true, has_owner: true };
        assert_eq!(there.find("resp_1", "alice"), Some(pin));
        assert_eq!(there.find("resp_1", "bob"), Some(Pin { is_own: false, ..pin }));
        // An upstream that is not configured here.
        there.take_over(SharedPin { id: hash("resp_2"), client: 0, account: 7 });
        assert_eq!(there.find("resp_2", "alice"), None);
        let ask = here.ask(["resp_2"]).unwrap();
        assert_eq!(ask.ids(), [hash("resp_2")]);
        assert!(there.ask(["resp_2"]).is_none() && !fleet.has_writes());
    }

    #[test]
    fn owner_of_an_id_is_kept_where_its_account_is_unknown() {
        let pins = Pins::default();
        let one = pins.account("one http://a").unwrap();
        let elsewhere = SharedPin { id: hash("resp_1"), client: client_tag("alice"), account: 7 };
        let here = SharedPin { account: hash("one http://a"), ..elsewhere };
        pins.take_over(elsewhere);
        let pin = Pin { account: None, is_own: true, has_owner: true };
        assert_eq!(pins.find("resp_1", "alice"), Some(pin));
        assert_eq!(pins.find("resp_1", "bob"), Some(Pin { is_own: false, ..pin }));
        // An upstream of this process accepts the id, and is where it is from then on.
        pins.insert("resp_1", None, one);
        let pin = Pin { account: Some(one), ..pin };
        for later in [elsewhere, here, SharedPin { client: 0, ..here }] {
            pins.take_over(later);
            assert_eq!(pins.find("resp_1", "alice"), Some(pin), "{later:?}");
            assert!(!pins.find("resp_1", "bob").unwrap().is_own, "{later:?}");
        }
        // An id whose owner was unknown.
        pins.insert("resp_2", None, one);
        pins.take_over(SharedPin { id: hash("resp_2"), ..elsewhere });
        assert_eq!(pins.find("resp_2", "alice"), Some(pin));
    }

    #[test]
    fn parts_have_all_ids_whose_account_is_known() {
        let pins = Pins::default();
        let account = pins.account("one http://a").unwrap();
        (0..9_000).for_each(|number| pins.insert(&format!("resp_{number}"), Some("alice"), account));
        pins.take_over(SharedPin { id: hash("resp_elsewhere"), client: 1, account: 7 });
        let parts: Vec<_> = (0..).map_while(|part| pins.part(part)).collect();
        assert!(parts.iter().all(|part| part.len() <= 64) && parts.len() == IDS / 64);
        let mut written: Vec<_> = parts.concat().iter().map(|pin| pin.id).collect();
        let mut expected: Vec<_> = (0..9_000).map(|number| hash(&format!("resp_{number}"))).collect();
        written.sort_unstable();
        expected.sort_unstable();
        assert_eq!(written, expected);
        let pin =
            SharedPin { id: hash("resp_1"), client: client_tag("alice"), account: hash("one http://a") };
        assert!(parts.concat().contains(&pin));
    }

    #[test]
    fn table_takes_1_mib_and_keeps_what_was_used_last() {
        assert_eq!(size_of::<Entry>() * IDS, 1 << 20);
        let pins = Pins::default();
        for number in 0..3 * IDS {
            pins.insert(&format!("resp_{number}"), Some("alice"), ONE);
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
