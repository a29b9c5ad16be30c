//! How a host is spoken with: said of an upstream (`[upstreams.NAME.timeouts]`), or of a host for every upstream on it
//! (`[network.hosts.timeouts]`). Both tables are read by the same function, so that what one takes the other takes too.

use std::time::Duration;

use super::notes::Read;
use super::reader::Table;
use super::sections::{time, time_or_none};
use super::settings::Timeouts;

/// The defaults. They are here because `config/default.toml` cannot name the user's upstreams; a test holds its examples
/// to them.
const CONNECT: Duration = Duration::from_secs(5);
const FIRST_BYTE: Duration = Duration::from_secs(200);
const IDLE: Duration = Duration::from_secs(120);

/// What was said, key by key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connection {
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    idle: Option<Duration>,
    /// The inner `None` is any time.
    total: Option<Option<Duration>>,
}

/// Reads the tables of an upstream or a host that say how it is spoken with.
pub(super) fn connection(table: &Table<'_>) -> Read<Connection> {
    table.section("timeouts", |table| {
        let connect = table.optional("connect", time);
        let first_byte = table.optional("first_byte", time);
        let idle = table.optional("idle", time);
        let total = table.optional("total", time_or_none);
        Ok(Connection { connect: connect?, first_byte: first_byte?, idle: idle?, total: total? })
    })
}

impl Connection {
    /// What is not said here is what `other` says.
    pub(super) fn or(self, other: Option<&Self>) -> Self {
        let Some(other) = other else { return self };
        Self {
            connect: self.connect.or(other.connect),
            first_byte: self.first_byte.or(other.first_byte),
            idle: self.idle.or(other.idle),
            total: self.total.or(other.total),
        }
    }

    /// What is not said at all is the default.
    pub(super) fn timeouts(self) -> Timeouts {
        Timeouts {
            connect: self.connect.unwrap_or(CONNECT),
            first_byte: self.first_byte.unwrap_or(FIRST_BYTE),
            idle: self.idle.unwrap_or(IDLE),
            total: self.total.flatten(),
        }
    }
}
