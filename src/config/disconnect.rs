//! What becomes of an answer whose client leaves: `on_disconnect` and
//! `[upstreams.NAME.drain_limits]`.

use std::time::Duration;

use super::notes::Read;
use super::reader::{Entry, Table};
use super::sections::bytes;
use super::settings::{DrainLimits, OnDisconnect};

/// The defaults. They are here because `config/default.toml` cannot name the user's upstreams; a
/// test holds its examples to them.
///
/// Five minutes are longer than nearly every answer takes. The longest answers of today's models
/// have 128,000 tokens, at some 350 bytes for the event of each: 45 MB. Each drain holds a
/// connection to the upstream, a task, and a few KiB.
const SECONDS: u64 = 300;
const BYTES: usize = 64 << 20;
const CONCURRENT: usize = 256;

/// The longest drain that can be asked for: a day.
const MAX_SECONDS: usize = 86_400;

/// `on_disconnect`.
pub(super) fn on_disconnect(entry: &Entry<'_>) -> Read<OnDisconnect> {
    entry.parse(OnDisconnect::VALUES, |text| {
        OnDisconnect::parse(text).ok_or_else(|| format!("{text:?} is not {}", OnDisconnect::VALUES))
    })
}

/// `drain_limits`.
pub(super) fn drain_limits(table: &Table<'_>) -> Read<DrainLimits> {
    let seconds = table.optional("seconds", |entry| match entry.integer()? {
        0 => Err(entry.mistake("must be at least 1; on_disconnect = \"cancel\" drains nothing")),
        seconds if seconds > MAX_SECONDS => {
            Err(entry.mistake(format!("{seconds} seconds are too long: a day is {MAX_SECONDS}")))
        }
        seconds => Ok(Duration::from_secs(seconds as u64)),
    });
    let bytes = table.optional("bytes", bytes);
    let concurrent = table.optional("concurrent", Entry::integer);
    Ok(DrainLimits {
        time: seconds?.unwrap_or(Duration::from_secs(SECONDS)),
        bytes: bytes?.unwrap_or(BYTES) as u64,
        concurrent: concurrent?.unwrap_or(CONCURRENT),
    })
}
