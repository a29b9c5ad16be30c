//! The treatment of a response whose client disconnects: `on_disconnect` and
//! `[upstreams.NAME.drain_limits]`.

use std::time::Duration;

use super::kind::{Kind, Shape, bytes, integer};
use super::notes::Read;
use super::reader::Table;
use super::settings::DrainLimits;

/// The longest time to read the rest of a response: a day.
const MAX_SECONDS: usize = 86_400;

/// `drain_limits`.
///
/// The defaults: five minutes are longer than nearly every response takes. The longest responses of
/// current models have 128,000 tokens, with about 350 bytes for the event of each: 45 MB. Each
/// drain holds a connection to the upstream, a task, and a few KiB.
pub(super) fn drain_limits(table: &Table<'_>) -> Read<DrainLimits> {
    let seconds = Kind::new(Shape::Integer(1, MAX_SECONDS), |entry| match entry.integer()? {
        0 => Err(entry.mistake("must be at least 1; on_disconnect = \"cancel\" drains nothing")),
        seconds if seconds > MAX_SECONDS => {
            Err(entry.mistake(format!("{seconds} seconds are too long: at most {MAX_SECONDS}, a day")))
        }
        seconds => Ok(Duration::from_secs(seconds as u64)),
    });
    let bytes = bytes().default("64MiB").then(|_, bytes| Ok(bytes as u64));
    read_all!(DrainLimits {
        time: table.or_default("seconds", seconds.default(300)),
        bytes: table.or_default("bytes", bytes),
        concurrent: table.or_default("concurrent", integer().default(256)),
    })
}
