//! Marks in the server, by whose absence an instance sees that the server has lost its ids.
//!
//! An instance has a mark of its own in each of some parts of the ids, so that each node of a cluster
//! most likely has one.

use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::servers::Servers;
use super::trouble::Trouble;

/// The parts of the ids that have a mark.
const MARKS: usize = 16;

/// The time after which marks are looked at again.
const INTERVAL: Duration = Duration::from_secs(1);

/// The seconds for which the server keeps a mark that is not set again.
const KEPT: u64 = 86_400;

/// The marks of an instance.
#[derive(Debug)]
pub(super) struct Marks {
    /// The keys; true: the server has had the mark.
    keys: Vec<(String, bool)>,
    looked: Option<Instant>,
}

impl Marks {
    /// `parts`: the number of the parts of ids, and `key` begins those of one.
    pub(super) fn new(parts: u64, key: impl Fn(u64) -> String, writer: &str) -> Self {
        let step = parts / MARKS as u64;
        let keys = (0..MARKS as u64).map(|mark| (format!("{}:writer:{writer}", key(mark * step)), false));
        Self { keys: keys.collect(), looked: None }
    }

    /// Looks at the marks again as soon as the server is back.
    pub(super) fn look_soon(&mut self) {
        self.looked = None;
    }

    /// Sets the marks if it is time. Returns true if one is gone that the server has had.
    ///
    /// # Errors
    /// Fails if the server does not respond. A mark that it refuses is never gone.
    pub(super) async fn look(&mut self, servers: &mut Servers) -> Result<bool, Trouble> {
        if self.looked.is_some_and(|looked| looked.elapsed() < INTERVAL) {
            return Ok(false);
        }
        let mut replies = Vec::with_capacity(MARKS);
        for (key, _) in &self.keys {
            replies.push(servers.send(key, mark(key)).await?);
        }
        let mut are_lost = false;
        for ((key, is_set), reply) in self.keys.iter_mut().zip(replies) {
            let reply = match reply.await {
                Err(trouble @ Trouble::Server(_)) => servers.follow(key, &mark(key), trouble).await,
                reply => reply,
            };
            let before = match reply {
                Ok(before) => before,
                Err(Trouble::Server(_) | Trouble::Astray) => continue,
                Err(trouble) => return Err(trouble),
            };
            are_lost |= *is_set && before == Value::Nil;
            *is_set = true;
        }
        self.looked = Some(Instant::now());
        Ok(are_lost)
    }
}

/// Sets a mark. The reply is the mark before.
fn mark(key: &str) -> Cmd {
    let mut mark = redis::cmd("SET");
    mark.arg(key).arg(1).arg("GET").arg("EX").arg(KEPT);
    mark
}
