//! `[groups.NAME]` `concurrent`, `wait` and `queue`: running and waiting requests.

use std::time::Duration;

use crate::balance::RetryPolicy;
use crate::config::kind::{Kind, Shape, requests, time};
use crate::config::notes::Read;
use crate::config::reader::{Entry, Table};

/// The default of `queue`.
const QUEUE: i32 = 1000;

/// The largest `queue`.
const MAX_QUEUE: usize = 100_000;

pub(super) fn concurrent(table: &Table<'_>) -> Read<u32> {
    table.or_default("concurrent", requests().default(0))
}

pub(super) fn wait(table: &Table<'_>, retry: Read<RetryPolicy>) -> Read<Option<Duration>> {
    let wait = time().or_empty().default("").then(|entry, wait| match (wait, retry) {
        (Some(wait), Ok(RetryPolicy { deadline, .. })) if wait > deadline => Err(entry.mistake(format!(
            "is longer than retry.deadline, {deadline:?}, after which no attempt begins: write at most that, or a longer deadline"
        ))),
        _ => Ok(wait),
    });
    table.or_default("wait", wait)
}

/// `wait`: that of the group.
pub(super) fn queue(table: &Table<'_>, wait: Read<Option<Duration>>) -> Read<usize> {
    let queue = Kind::new(Shape::Integer(1, MAX_QUEUE), |entry: &Entry<'_>| match entry.integer()? {
        0 => Err(entry.mistake("must be at least 1; without `wait` no request is in the queue")),
        queue if queue > MAX_QUEUE => Err(entry.mistake(format!("must be at most {MAX_QUEUE}"))),
        queue => {
            if matches!(wait, Ok(None)) && queue != QUEUE as usize {
                entry.warning("has no effect without `wait`: add that, or remove this");
            }
            Ok(queue)
        }
    });
    table.or_default("queue", queue.default(QUEUE))
}
