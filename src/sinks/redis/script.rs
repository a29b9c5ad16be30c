//! An ask as a call of the script, and its reply.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use jiff::Timestamp;
use redis::{Cmd, FromRedisValue as _, Value};

use crate::gate::limit::{Ask, Reply, Units};
use crate::support::hex;

const SCRIPT: &str = include_str!("grant.lua");

/// The name of the script on the server.
static NAME: LazyLock<String> = LazyLock::new(|| {
    let mut name = String::new();
    hex::push(&mut name, digest(&SHA1_FOR_LEGACY_USE_ONLY, SCRIPT.as_bytes()).as_ref());
    name
});

/// The seconds for which a key is kept after the end of its period, or after its last use.
const KEPT: i64 = 86_400;

/// The instance, as the fields of a key name it.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// The ledger's identity.
    pub(super) ledger: String,
    /// The process's.
    pub(super) writer: String,
}

/// The key of the state that an ask is about. The part in braces decides about a cluster's node.
pub(super) fn key(prefix: &str, limit: &str, ask: &Ask) -> String {
    match ask.period {
        Some((begin, _)) => format!("{{{prefix}:{limit}}}:{}", begin.as_second()),
        None => format!("{{{prefix}:{limit}}}"),
    }
}

/// The call of the script. `is_known`: the server has the script. `is_heir`: what earlier processes
/// have reported of this ledger is in what this one reports.
pub(super) fn call(key: &str, ask: &Ask, writer: &Writer, is_known: bool, is_heir: bool) -> Cmd {
    let mut call = if is_known { redis::cmd("EVALSHA") } else { redis::cmd("EVAL") };
    call.arg(if is_known { &*NAME } else { SCRIPT }).arg(1).arg(key);
    let kept =
        ask.period.map_or(KEPT, |(_, end)| KEPT + (end.as_second() - Timestamp::now().as_second()).max(0));
    call.arg(format!("{}/{}", writer.ledger, writer.writer))
        .arg((ask.spent - signed(ask.foreign)).to_string())
        .arg(ask.held.0.to_string())
        .arg(ask.want.0.to_string())
        .arg(ask.least.0.to_string())
        .arg(ask.keep.0.to_string())
        .arg(ask.soon.0.to_string())
        .arg(ask.idle.0.to_string())
        .arg(ask.most.0.to_string())
        .arg(ask.valid / NANOS_PER_MILLI)
        .arg(kept)
        .arg(if is_heir { format!("{}/", writer.ledger) } else { String::new() })
        .arg(if ask.was_away { "away" } else { "" })
        .arg(if ask.is_known { "known" } else { "" })
        .arg(ask.alone.0.to_string())
        .arg(ask.instances);
    if let Some(rate) = &ask.rate {
        call.arg(format!("{:e}", rate.refill)).arg(rate.unconfirmed.to_string()).arg(rate.level.to_string());
        call.arg(rate.beginning);
    }
    call
}

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Reads the reply, and whether the server has lost what this instance had reported. `None`: it is
/// not one of the script.
pub(super) fn reply(value: &Value) -> Option<(Reply, bool)> {
    let (granted, left, instances, elsewhere, unused, is_lost) =
        <(String, String, u32, String, String, u8)>::from_redis_value(value).ok()?;
    let units =
        |text: String| text.parse::<i128>().ok().map(|units| Units(u128::try_from(units).unwrap_or(0)));
    let reply = Reply {
        granted: units(granted)?,
        left: left.parse().ok()?,
        instances,
        elsewhere: units(elsewhere)?,
        unused: units(unused)?,
    };
    Some((reply, is_lost != 0))
}

fn signed(units: Units) -> i128 {
    i128::try_from(units.0).unwrap_or(i128::MAX)
}
