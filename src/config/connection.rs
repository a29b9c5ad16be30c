//! `timeouts` and `tls` of `[upstreams.NAME]`, and of `[[network.hosts]]` for every upstream on a
//! host. Both are read by the same function, so that both take the same keys.

use std::time::Duration;

use super::duration::duration;
use super::kind::time;
use super::notes::Read;
use super::reader::Table;
use super::settings::Timeouts;
use super::tls::{self, TlsKeys};
use crate::tls::ClientSettings;

/// The defaults. `config/default.toml` cannot name the user's upstreams, so they are here.
const CONNECT: &str = "5s";
const FIRST_BYTE: &str = "200s";
/// Longer than the 600 s after which the SDKs of OpenAI and Anthropic give up: if the proxy cut a
/// response earlier, its tokens would be billed, and the SDK would send the request again.
const FIRST_BYTE_UNSTREAMED: &str = "660s";
const IDLE: &str = "120s";

/// The keys of one place, before the defaults.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    first_byte_unstreamed: Option<Duration>,
    idle: Option<Duration>,
    /// The inner `None` means no limit.
    total: Option<Option<Duration>>,
    tls: TlsKeys,
}

/// Reads the two tables; `is_https` is the scheme of the URL, if that is valid.
pub(super) fn connection(table: &Table<'_>, is_https: Option<bool>) -> Read<Connection> {
    let tls = table.section("tls", tls::client);
    if let (Some(entry), Some(false)) = (table.at(&["tls"]), is_https) {
        entry.mistake("has no effect on an http:// url: write https:// there, or remove this table");
    }
    let timeouts = table.section("timeouts", |table| {
        read_all!(Connection {
            connect: table.optional("connect", time().default(CONNECT)),
            first_byte: table.optional("first_byte", time().default(FIRST_BYTE)),
            first_byte_unstreamed: table
                .optional("first_byte_unstreamed", time().default(FIRST_BYTE_UNSTREAMED)),
            idle: table.optional("idle", time().default(IDLE)),
            total: table.optional("total", time().or_empty().default("")),
            tls: Ok(TlsKeys::default()),
        })
    });
    Ok(Connection { tls: tls?, ..timeouts? })
}

impl Connection {
    /// Returns true if there is a client certificate.
    pub(super) fn has_identity(&self) -> bool {
        self.tls.has_identity()
    }

    /// Takes each missing key from `other`; a certificate and its private key go together.
    pub(super) fn or(self, other: Option<&Self>) -> Self {
        let Some(other) = other else { return self };
        Self {
            connect: self.connect.or(other.connect),
            first_byte: self.first_byte.or(other.first_byte),
            first_byte_unstreamed: self.first_byte_unstreamed.or(other.first_byte_unstreamed),
            idle: self.idle.or(other.idle),
            total: self.total.or(other.total),
            tls: self.tls.or(&other.tls),
        }
    }

    /// The TLS settings; `table` is the one whose `tls` this is.
    pub(super) fn tls(&self, table: &Table<'_>) -> Read<ClientSettings> {
        self.tls.clone().settings(table.at(&["tls", tls::ADDS]))
    }

    /// The timeouts with their defaults. `first_byte` alone also applies to responses that are not
    /// streamed, as it did before these had a key of their own.
    pub(super) fn timeouts(&self) -> Timeouts {
        let or = |time: Option<Duration>, default| {
            time.unwrap_or_else(|| duration(default).expect("a default is valid"))
        };
        Timeouts {
            connect: or(self.connect, CONNECT),
            first_byte: or(self.first_byte, FIRST_BYTE),
            first_byte_unstreamed: or(self.first_byte_unstreamed.or(self.first_byte), FIRST_BYTE_UNSTREAMED),
            idle: or(self.idle, IDLE),
            total: self.total.flatten(),
        }
    }
}
