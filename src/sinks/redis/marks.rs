//! Marks in the server, by which an instance sees that the server has lost ids.
//!
//! An instance has a mark of its own in each part of the ids to which it writes: the number of its
//! latest write there, which the script sets together with the id. A server that takes over with the
//! last writes lost, such as a replica, has an earlier number. Some parts have a mark in any case, so
//! that each node of a cluster most likely has one.

use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue as _, Value};

use super::servers::Servers;
use super::trouble::Trouble;

/// One of so many parts has a mark before anything is written to it, and is looked at each time. The
/// others have their turn, and all are looked at after an outage.
const STEP: usize = 16;

/// The time after which marks are looked at again.
const INTERVAL: Duration = Duration::from_secs(1);

/// The seconds for which the server keeps a mark that is not set again, and the time after which it
/// is set again.
const KEPT: u64 = 86_400;
const FRESH: Duration = Duration::from_secs(KEPT / 4);

/// The marks of an instance.
#[derive(Debug)]
pub(super) struct Marks {
    marks: Vec<Mark>,
    /// The number of the latest write.
    writes: u64,
    looked: Option<Instant>,
    /// The turn of marks, from 1 to `STEP - 1`.
    turn: usize,
    /// A mark was gone, and not all of those that were to be looked at have been.
    are_lost: bool,
}

#[derive(Debug)]
struct Mark {
    key: String,
    /// The number that the server has had, and the time at which it was set.
    had: Option<(u64, Instant)>,
}

impl Marks {
    /// `parts`: the number of the parts of ids, and `key` begins those of one.
    pub(super) fn new(parts: u64, key: impl Fn(u64) -> String, writer: &str) -> Self {
        let mark = |part| Mark { key: format!("{}:writer:{writer}", key(part)), had: None };
        Self { marks: (0..parts).map(mark).collect(), writes: 0, looked: None, turn: 1, are_lost: false }
    }

    /// The key of a part's mark.
    pub(super) fn key(&self, part: usize) -> &str {
        &self.marks[part].key
    }

    /// The number of the next write.
    pub(super) fn next_write(&mut self) -> u64 {
        self.writes += 1;
        self.writes
    }

    /// Adds the arguments by which the script sets the mark of a write.
    pub(super) fn add_write(call: &mut Cmd, number: u64) {
        call.arg(number).arg(KEPT);
    }

    /// Notes that the server has set the mark of a write.
    pub(super) fn record_write(&mut self, part: usize, number: u64) {
        self.marks[part].had = Some((number, Instant::now()));
    }

    /// Looks at all marks as soon as the server is back.
    pub(super) fn look_soon(&mut self) {
        self.looked = None;
    }

    /// Looks at marks if it is time. Returns true if one that the server has had is gone, or is an
    /// earlier one.
    ///
    /// # Errors
    /// Fails if the server does not respond. A mark that it refuses is never gone.
    pub(super) async fn look(&mut self, servers: &mut Servers) -> Result<bool, Trouble> {
        if self.looked.is_some_and(|looked| looked.elapsed() < INTERVAL) {
            return Ok(false);
        }
        let (takes_all, turn) = (self.looked.is_none(), self.turn);
        let is_due = |part: usize| takes_all || [0, turn].contains(&(part % STEP));
        self.look_at(servers, is_due).await?;
        if self.are_lost && !takes_all {
            // One loss is noticed once.
            self.look_at(servers, |_| true).await?;
        }
        (self.looked, self.turn) = (Some(Instant::now()), turn % (STEP - 1) + 1);
        Ok(std::mem::take(&mut self.are_lost))
    }

    /// Looks at some marks, and sets those that are gone or old.
    async fn look_at(
        &mut self,
        servers: &mut Servers,
        is_due: impl Fn(usize) -> bool,
    ) -> Result<(), Trouble> {
        let parts = self.marks.iter().enumerate();
        let due = parts.filter(|(part, mark)| is_due(*part) && (mark.had.is_some() || part % STEP == 0));
        let due: Vec<_> = due.map(|(part, _)| part).collect();
        let found = self.send(servers, &due, get).await?;
        let mut old = Vec::new();
        for (part, value) in found {
            let found = Option::<u64>::from_redis_value(&value).ok().flatten();
            let had = self.marks[part].had;
            self.are_lost |= had.is_some_and(|(had, _)| found.is_none_or(|found| found < had));
            let is_fresh = had.is_some_and(|(had, at)| found >= Some(had) && at.elapsed() < FRESH);
            old.extend((!is_fresh).then_some(part));
        }
        for (part, _) in self.send(servers, &old, set).await? {
            let mark = &mut self.marks[part];
            mark.had = Some((mark.number(), Instant::now()));
        }
        Ok(())
    }

    /// Sends a command about each of some marks at the same time. Those that the server refuses have no
    /// response.
    async fn send(
        &self,
        servers: &mut Servers,
        parts: &[usize],
        command: fn(&Mark) -> Cmd,
    ) -> Result<Vec<(usize, Value)>, Trouble> {
        let mut replies = Vec::with_capacity(parts.len());
        for part in parts {
            let mark = &self.marks[*part];
            replies.push(servers.send(&mark.key, command(mark)).await?);
        }
        let mut values = Vec::with_capacity(parts.len());
        for (part, reply) in parts.iter().zip(replies) {
            let mark = &self.marks[*part];
            let reply = match reply.await {
                Err(trouble @ Trouble::Server(_)) => servers.follow(&mark.key, &command(mark), trouble).await,
                reply => reply,
            };
            match reply {
                Ok(value) => values.push((*part, value)),
                Err(Trouble::Server(_) | Trouble::Astray) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(values)
    }
}

impl Mark {
    fn number(&self) -> u64 {
        self.had.map_or(0, |(number, _)| number)
    }
}

fn get(mark: &Mark) -> Cmd {
    let mut get = redis::cmd("GET");
    get.arg(&mark.key);
    get
}

fn set(mark: &Mark) -> Cmd {
    let mut set = redis::cmd("SET");
    set.arg(&mark.key).arg(mark.number()).arg("EX").arg(KEPT);
    set
}
