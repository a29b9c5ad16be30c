//! `[ledger.postgres]`: the database that collects the usage records of a fleet.

use std::fs;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::kind::{Kind, Shape, boolean, integer, past_time, text};
use super::notes::Read;
use super::reader::{Entry, Table};
use super::secrets::secret;
use super::sections::check_name;
use super::settings::Postgres;
use super::{tls, upstreams};
use crate::support::is_loopback;
use crate::support::secret::Secret;
use crate::tls::{ClientSettings, Verification};

/// The largest number of records of one round trip: a batch is held in memory, and sent again if
/// the connection breaks.
const LARGEST_BATCH: usize = 10_000;

/// The name of our connections on the server, in `pg_stat_activity`.
const APPLICATION: &str = "streamgauge";

/// `[ledger.postgres]`. The default batch of a thousand records has about 300 kB; the default
/// `max_waiting` is about 4 GB.
pub(super) fn postgres(table: &Table<'_>) -> Read<Postgres> {
    let tls = table.table("tls", tls::client_settings);
    let missing = format!("write url = {{ env = \"NAME\" }} or {{ file = \"PATH\" }}; {FORM}");
    let url = table.required("url", &missing, secret().then(|entry, text| server(entry, &text)));
    let instance =
        table.optional("instance", text().then(|entry, name| check_name(&name, entry).map(|()| name)));
    let batch = Kind::new(Shape::Integer(1, LARGEST_BATCH), |entry: &Entry<'_>| match entry.integer()? {
        batch @ 1..=LARGEST_BATCH => Ok(batch),
        _ => Err(entry.mistake(format!("must be a number of records from 1 to {LARGEST_BATCH}"))),
    });
    let batch = table.or_default("batch", batch.default(1000));
    let max_waiting = table.or_default("max_waiting", integer().default(10_000_000));
    let retention = table.or_default("retention", past_time().or_empty().default(""));
    let read = table.or_default("read", boolean().default(false));
    let (tls, url) = (tls?.unwrap_or_default(), url?);
    let tls = ClientSettings { verification: url.verification.unwrap_or(tls.verification), ..tls };
    Ok(Postgres {
        server: url.config,
        tls,
        instance: instance?.unwrap_or_else(host_name),
        batch: batch?,
        max_waiting: max_waiting? as u64,
        retention: retention?,
        read: read?,
    })
}

/// A connection string.
struct ConnectionString {
    config: Config,
    /// The value of `sslmode=verify-…`, an alternative to `verification_mode`.
    verification: Option<Verification>,
}

/// Reads a connection string in either of libpq's forms (PostgreSQL 15, section 34.1.1). It
/// contains a password, so no message repeats any of it.
fn server(entry: &Entry<'_>, text: &Secret) -> Read<ConnectionString> {
    let (text, verification) = verification(text.expose());
    let mut config: Config = text.parse().map_err(|error| entry.mistake(reason(&error)))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(entry.mistake(format!("names no host: {FORM}")));
    }
    if config.get_user().is_none() {
        return Err(entry.mistake(format!("names no user: {FORM}")));
    }
    let is_local =
        config.get_hosts().iter().all(is_local) && config.get_hostaddrs().iter().all(|&ip| is_loopback(ip));
    if !text.contains("sslmode=") {
        config.ssl_mode(if is_local { SslMode::Disable } else { SslMode::Require });
    } else if !is_local && config.get_ssl_mode() != SslMode::Require {
        entry.warning(
            "sends the password and the records over the network in the clear: write sslmode=require, or leave sslmode out",
        );
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION);
    }
    Ok(ConnectionString { config, verification })
}

const FORM: &str = "it has the form postgres://user:password@host:5432/database";

/// Translates `verify-full` and `verify-ca` into `require` and a verification mode.
fn verification(text: &str) -> (String, Option<Verification>) {
    for (mode, verification) in
        [("sslmode=verify-full", Verification::Full), ("sslmode=verify-ca", Verification::Certificate)]
    {
        if text.contains(mode) {
            return (text.replace(mode, "sslmode=require"), Some(verification));
        }
    }
    (text.to_owned(), None)
}

/// The parser's message, if it cannot contain a part of the password: in a text that was split at
/// the wrong place, an "unknown option" may be one.
fn reason(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match cause {
        cause if cause.starts_with("invalid value for option") => format!("is wrong: {cause}"),
        cause if cause.starts_with("unknown option") => format!(
            "has an unknown parameter; known are host, port, user, password, dbname, sslmode and others of libpq, and \
             certificates belong into [ledger.postgres.tls]. {FORM}, special characters in the password as %xx"
        ),
        _ => format!("is not a connection string: {FORM}, special characters in the password as %xx"),
    }
}

/// Returns true if the connection uses no network.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => upstreams::is_local(name),
        Host::Unix(_) => true,
    }
}

/// The name of the machine or the container.
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => APPLICATION.to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sslmode_verify_is_require_and_a_verification() {
        for (text, mode) in [
            ("postgres://u@h/d?sslmode=verify-full", Some(Verification::Full)),
            ("host=h user=u sslmode=verify-ca", Some(Verification::Certificate)),
            ("postgres://u@h/d?sslmode=require", None),
            ("postgres://u@h/d", None),
        ] {
            let (text, found) = verification(text);
            assert_eq!(found, mode, "{text}");
            assert!(text.parse::<Config>().is_ok(), "{text}");
        }
    }

    #[test]
    fn parser_reason_repeats_no_piece_of_the_text() {
        for text in [
            "host=h user=u password=tell nobody=secret",
            "postgres://u:tell#nobody@host/secret",
            "postgres://u:tell/nobody@host:secret/d",
            "postgres://u:p@h/d?nobody=secret",
            "tell nobody",
        ] {
            let Err(error) = text.parse::<Config>() else { continue };
            let reason = reason(&error);
            assert!(!reason.contains("nobody") && !reason.contains("secret"), "{text}: {reason}");
        }
    }

    #[test]
    fn host_name_is_not_empty() {
        assert!(!host_name().is_empty() && !host_name().ends_with('\n'));
    }
}
