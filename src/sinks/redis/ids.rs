//! The ids of stored state that replicas share: who made them, and at which upstream.
//!
//! An id is a field of one of [`NODES`] times [`HASHES`] hashes, each of at most [`MOST`] ids, so that
//! the store keeps about a million of them in some 60 MB. A hash is kept for 30 days after the last
//! write to it. What cannot be written because the server is away waits, in a bounded queue.
//!
//! If the server has lost its [`Marks`], or the last ones, it has lost ids too. Each instance then
//! writes all that it knows again, [`MAX_WRITES`] every [`PACE`]: a full table in less than a minute.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::{Cmd, ErrorKind, FromRedisValue as _, Value};
use tokio::task::JoinSet;

use super::marks::Marks;
use super::servers::Servers;
use super::trouble::Trouble;
use crate::balance::{FleetPins, HealthRegistry, PinAsk, SharedPin};
use crate::record::{IdCounts, Journal};
use crate::support::{OutageNotice, hex};

const SCRIPT: &str = include_str!("pin.lua");

/// The name of the script on the server.
static NAME: LazyLock<String> = LazyLock::new(|| {
    let mut name = String::new();
    hex::push(&mut name, digest(&SHA1_FOR_LEGACY_USE_ONLY, SCRIPT.as_bytes()).as_ref());
    name
});

/// The parts of all ids that may be at different nodes of a cluster, the hashes of a part, and the ids
/// of a hash. The first two are powers of 2.
const NODES: u64 = 256;
const HASHES: u64 = 64;
const MOST: usize = 64;

/// The seconds for which a hash is kept after its last write.
const KEPT: u64 = 30 * 86_400;

/// The largest number of ids that are written in a round, and of lookups at the same time.
const MAX_WRITES: usize = 64;
const MAX_LOOKUPS: usize = 256;

/// The pause before the next ids that the server has lost are written again.
const PACE: Duration = Duration::from_millis(50);

/// The ids, in the thread that talks to the server.
#[derive(Debug)]
pub(super) struct SharedIds {
    prefix: String,
    health: Arc<HealthRegistry>,
    journal: Journal,
    refusals: OutageNotice<String>,
    marks: Marks,
    /// The next part of the table to be written again, and the time of it. `None`: the server has lost
    /// nothing.
    lost: Option<(usize, Instant)>,
}

impl SharedIds {
    /// `writer`: the process.
    pub(super) fn new(prefix: &str, writer: &str, health: Arc<HealthRegistry>, journal: Journal) -> Self {
        let marks = Marks::new(NODES, |node| part_key(prefix, node), writer);
        let refusals = OutageNotice::default();
        journal.health().ids.get_or_init(IdCounts::default);
        Self { prefix: prefix.to_owned(), health, journal, refusals, marks, lost: None }
    }

    fn pins(&self) -> Option<&Arc<FleetPins>> {
        self.health.pins().fleet()
    }

    fn counts(&self) -> &IdCounts {
        self.journal.health().ids.get_or_init(IdCounts::default)
    }

    /// Sets whether the server is away.
    pub(super) fn set_away(&mut self, is_away: bool) {
        self.pins().into_iter().for_each(|pins| pins.set_away(is_away));
        if is_away {
            self.marks.look_soon();
            self.collect();
        }
    }

    /// Counts what has happened elsewhere.
    fn collect(&self) {
        if let Some(pins) = self.pins() {
            self.counts().failed.fetch_add(pins.take_failed(), Ordering::Relaxed);
            self.counts().dropped.fetch_add(pins.take_dropped(), Ordering::Relaxed);
        }
    }

    /// Looks up some of what requests wait for, and writes some ids. Returns the pause before the next
    /// round. `None`: there is nothing more to do.
    ///
    /// # Errors
    /// Fails if the server does not respond. Requests go on then, and ids are written later.
    pub(super) async fn round(&mut self, servers: &mut Servers) -> Result<Option<Duration>, Trouble> {
        let Some(pins) = self.pins().map(Arc::clone) else { return Ok(None) };
        let has_more = self.exchange(servers, &pins).await?;
        self.collect();
        if self.marks.look(servers).await? {
            tracing::info!(
                "Redis has lost ids of stored responses: those that are known here are written again"
            );
            self.lost = Some((0, Instant::now()));
        }
        self.write_again(servers).await?;
        Ok(if has_more { Some(Duration::ZERO) } else { self.lost.map(|_| PACE) })
    }

    /// Writes some of the ids that the server has lost.
    async fn write_again(&mut self, servers: &mut Servers) -> Result<(), Trouble> {
        let Some((part, _)) = self.lost.filter(|(_, at)| *at <= Instant::now()) else { return Ok(()) };
        let mut parts = (part..).map_while(|part| Some((part, self.health.pins().part(part)?)));
        let Some((part, pins)) = parts.find(|(_, pins)| !pins.is_empty()) else {
            self.lost = None;
            return Ok(());
        };
        let (written, refusal) = self.write(servers, &pins).await?;
        add(&self.counts().rewritten, written.len());
        // Ids that it refuses are written when it takes some again.
        let next = if refusal.is_some() { part } else { part + 1 };
        self.lost = Some((next, Instant::now() + PACE));
        Ok(())
    }

    /// Returns true if there is more to look up or to write.
    async fn exchange(&mut self, servers: &mut Servers, pins: &FleetPins) -> Result<bool, Trouble> {
        // Limits are asked about between two rounds.
        let asks = pins.take_asks(MAX_LOOKUPS);
        let found = self.look_up(servers, &asks).await;
        let are_known = found.as_ref().is_ok_and(Option::is_none);
        asks.iter().for_each(|ask| ask.end(are_known));
        let mut refused = found?;
        let mut writes = pins.take_writes(MAX_WRITES);
        match self.write(servers, &writes).await {
            Ok((written, refusal)) => {
                add(&self.counts().written, written.len());
                writes.retain(|pin| !written.contains(&pin.id));
                pins.write_later(writes);
                refused = refused.or(refusal);
            }
            Err(trouble) => {
                pins.put_back(writes);
                return Err(trouble);
            }
        }
        match refused {
            Some(reason) => {
                if self.refusals.record_failure(reason.clone()) {
                    tracing::warn!(%reason, "Redis refuses ids of stored responses; replicas do not share them meanwhile");
                }
                Ok(pins.has_asks())
            }
            None => {
                self.refusals.record_success();
                Ok(pins.has_asks() || pins.has_writes())
            }
        }
    }

    /// Returns a refusal of the server, whose ids stay unknown.
    async fn look_up(&self, servers: &mut Servers, asks: &[Arc<PinAsk>]) -> Result<Option<String>, Trouble> {
        let mut ids: Vec<_> = asks.iter().flat_map(|ask| ask.ids()).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        let lookup = |id: u64| {
            let mut lookup = redis::cmd("HGET");
            lookup.arg(self.key(id)).arg(field(id));
            lookup
        };
        let calls = ids.iter().map(|id| (*id, lookup(*id), None)).collect();
        let sent = self.send(servers, calls).await;
        let counts = self.counts();
        let replies = sent.as_ref().map_or(0, |(responses, _)| responses.len());
        add(&counts.failed, ids.len().saturating_sub(replies));
        let (responses, refused) = sent?;
        for (id, value) in responses {
            let text = Option::<String>::from_redis_value(&value).ok().flatten();
            let pin = text.and_then(|text| parse(id, &text));
            add(if pin.is_some() { &counts.found } else { &counts.unknown }, 1);
            pin.into_iter().for_each(|pin| self.health.pins().take_over(pin));
        }
        Ok(refused)
    }

    /// Returns the ids that are written, and a refusal of the server.
    async fn write(
        &mut self,
        servers: &mut Servers,
        pins: &[SharedPin],
    ) -> Result<(HashSet<u64>, Option<String>), Trouble> {
        let number = self.marks.next_write();
        let call = |pin: &SharedPin, is_known: bool| {
            let mut call = if is_known { redis::cmd("EVALSHA") } else { redis::cmd("EVAL") };
            call.arg(if is_known { &*NAME } else { SCRIPT }).arg(2);
            call.arg(self.key(pin.id)).arg(self.marks.key(part(pin.id))).arg(field(pin.id));
            call.arg(format!("{:x}", pin.client)).arg(format!("{:x}", pin.account)).arg(MOST).arg(KEPT);
            Marks::add_write(&mut call, number);
            call
        };
        let calls = pins.iter().map(|pin| (pin.id, call(pin, true), Some(call(pin, false)))).collect();
        let (responses, refused) = self.send(servers, calls).await?;
        for (id, _) in responses.iter().filter(|(_, value)| *value == Value::Int(1)) {
            self.marks.record_write(part(*id), number);
        }
        let written: HashSet<_> = responses.into_iter().map(|(id, _)| id).collect();
        add(&self.counts().refused, pins.iter().filter(|pin| !written.contains(&pin.id)).count());
        Ok((written, refused))
    }

    /// Sends commands about ids at the same time, or again, to a server without the script, as `whole`.
    /// Those that the server refuses have no response; a reason of it is returned too.
    async fn send(
        &self,
        servers: &mut Servers,
        calls: Vec<(u64, Cmd, Option<Cmd>)>,
    ) -> Result<(Vec<(u64, Value)>, Option<String>), Trouble> {
        let (mut running, mut refused) = (JoinSet::new(), None);
        for (index, (id, call, _)) in calls.iter().enumerate() {
            let response = servers.send(&self.key(*id), call.clone()).await?;
            running.spawn_local(async move { (index, response.await) });
        }
        let mut responses = Vec::with_capacity(calls.len());
        while let Some(ended) = running.join_next().await {
            let Ok((index, response)) = ended else { continue };
            let (id, call, whole) = &calls[index];
            let response = match response {
                Err(Trouble::Server(error)) => {
                    let again = whole.as_ref().unwrap_or(call);
                    match error.kind() {
                        ErrorKind::NoScriptError => servers.send(&self.key(*id), again.clone()).await?.await,
                        ErrorKind::Moved | ErrorKind::Ask => {
                            servers.follow(&self.key(*id), again, Trouble::Server(error)).await
                        }
                        _ => Err(Trouble::Server(error)),
                    }
                }
                response => response,
            };
            match response {
                Ok(value) => responses.push((*id, value)),
                Err(Trouble::Server(error)) => refused = Some(error.to_string()),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok((responses, refused))
    }

    /// The key of the hash that has an id. The part in braces decides about a cluster's node.
    fn key(&self, id: u64) -> String {
        format!("{}:{:02x}", part_key(&self.prefix, part(id) as u64), id / 16 % HASHES)
    }
}

/// The part that has an id, below [`NODES`].
fn part(id: u64) -> usize {
    (id / (u64::MAX / NODES + 1)) as usize
}

/// The beginning of the keys of a part of the ids.
fn part_key(prefix: &str, node: u64) -> String {
    format!("{{{prefix}:ids:{node:02x}}}")
}

fn add(count: &AtomicU64, ids: usize) {
    count.fetch_add(ids as u64, Ordering::Relaxed);
}

fn field(id: u64) -> String {
    format!("{id:016x}")
}

/// Reads the value of an id. `None`: it is not one of the script.
fn parse(id: u64, text: &str) -> Option<SharedPin> {
    let mut parts = text.split(' ');
    let client = u32::from_str_radix(parts.next()?, 16).ok()?;
    Some(SharedPin { id, client, account: u64::from_str_radix(parts.next()?, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_spread_over_all_hashes_and_nodes() {
        let ids = SharedIds::new("sg", "w", HealthRegistry::new(Instant::now()), Journal::new(1));
        let mut random = fastrand::Rng::with_seed(1);
        let keys: HashSet<_> = (0..400_000).map(|_| ids.key(random.u64(..))).collect();
        assert_eq!(keys.len() as u64, NODES * HASHES);
        assert_eq!((ids.key(0), ids.key(u64::MAX)), ("{sg:ids:00}:00".into(), "{sg:ids:ff}:3f".into()));
    }

    #[test]
    fn value_of_the_script_is_read_and_no_other() {
        let pin = SharedPin { id: 7, client: 0xab, account: u64::MAX };
        assert_eq!(parse(7, &format!("ab {:x} 29000000", u64::MAX)), Some(pin));
        assert_eq!(["", "ab", "x y 1", "100000000 1 1"].map(|text| parse(7, text)), [None; 4]);
    }
}
