//! How a host is spoken with: said of an upstream (`timeouts` and `tls` of `[upstreams.NAME]`), or
//! of a host for every upstream on it (those of `[[network.hosts]]`). Both are read by the same
//! function, so that what one takes the other takes too.

use std::time::Duration;

use super::notes::Read;
use super::reader::Table;
use super::sections::{time, time_or_none};
use super::settings::Timeouts;
use super::tls::{self, Said};
use crate::tls::ClientSettings;

/// The defaults. They are here because `config/default.toml` cannot name the user's upstreams; a
/// test holds its examples to them.
const CONNECT: Duration = Duration::from_secs(5);
const FIRST_BYTE: Duration = Duration::from_secs(200);
/// Beyond the 600 s after which the SDKs of OpenAI and Anthropic give up themselves: a response
/// that is cut before costs its tokens, and the SDK asks for it again.
const FIRST_BYTE_UNSTREAMED: Duration = Duration::from_secs(660);
const IDLE: Duration = Duration::from_secs(120);

/// What was said, key by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    first_byte_unstreamed: Option<Duration>,
    idle: Option<Duration>,
    /// The inner `None` is any time.
    total: Option<Option<Duration>>,
    tls: Said,
}

/// Reads the tables of an upstream or a host that say how it is spoken with; `is_https` is what its
/// URL says, if it has a valid one.
pub(super) fn connection(table: &Table<'_>, is_https: Option<bool>) -> Read<Connection> {
    let tls = table.section("tls", tls::client);
    if let (Some(entry), Some(false)) = (table.at(&["tls"]), is_https) {
        entry.mistake(
            "says nothing of an http:// url, which has no TLS: write https:// there, or take this table out",
        );
    }
    let timeouts = table.section("timeouts", |table| {
        let connect = table.optional("connect", time);
        let first_byte = table.optional("first_byte", time);
        let first_byte_unstreamed = table.optional("first_byte_unstreamed", time);
        let idle = table.optional("idle", time);
        let total = table.optional("total", time_or_none);
        let tls = Said::default();
        Ok(Connection {
            connect: connect?,
            first_byte: first_byte?,
            first_byte_unstreamed: first_byte_unstreamed?,
            idle: idle?,
            total: total?,
            tls,
        })
    });
    Ok(Connection { tls: tls?, ..timeouts? })
}

impl Connection {
    /// Whether there is a client certificate.
    pub(super) fn has_identity(&self) -> bool {
        self.tls.has_identity()
    }

    /// What is not said here is what `other` says, key by key; a certificate and its key are one.
    pub(super) fn or(self, other: Option<&Self>) -> Self {
        let Some(other) = other else { return self };
        Self {
            connect: self.connect.or(other.connect),
            first_byte: self.first_byte.or(other.first_byte),
            first_byte_unstreamed: self.first_byte_unstreamed.or(other.first_byte_unstreamed),
            idle: self.idle.or(other.idle),
            total: self.total.or(other.total),
            tls: self.tls.or(Some(&other.tls)),
        }
    }

    /// How TLS is spoken, in all; `table` is the one whose `tls` this is.
    pub(super) fn tls(&self, table: &Table<'_>) -> Read<ClientSettings> {
        self.tls.clone().settings(table.at(&["tls", tls::ADDS]))
    }

    /// What is not said at all is the default. A `first_byte` alone holds for responses that are
    /// not streamed too, as it did before there was a key for these.
    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts {
            connect: self.connect.unwrap_or(CONNECT),
            first_byte: self.first_byte.unwrap_or(FIRST_BYTE),
            first_byte_unstreamed: self
                .first_byte_unstreamed
                .or(self.first_byte)
                .unwrap_or(FIRST_BYTE_UNSTREAMED),
            idle: self.idle.unwrap_or(IDLE),
            total: self.total.flatten(),
        }
    }
}
