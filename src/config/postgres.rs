//! `[ledger.postgres]`: the database in which the usage records of a fleet come together.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::duration::past;
use super::notes::Read;
use super::reader::{Entry, Table};
use super::secrets::secret;
use super::sections::named;
use super::settings::Postgres;
use super::tls;
use crate::secret::Secret;
use crate::tls::{ClientSettings, Verification};

/// Records of one round trip, where nothing is said. A thousand are some 300 kB.
const BATCH: usize = 1000;

/// The most of them: a batch is held in memory, and lost work when the connection breaks.
const LARGEST_BATCH: usize = 10_000;

/// Records beyond `ledger.retention` that are kept while they cannot be shipped, where nothing is
/// said: some 4 GB.
const MAX_WAITING: usize = 10_000_000;

/// What connections are called on the server, in `pg_stat_activity`.
const APPLICATION: &str = "streamgauge";

/// The database and how to use it.
pub(super) fn postgres(table: &Table<'_>) -> Read<Postgres> {
    let tls = table
        .optional("tls", |entry| entry.table(|table| tls::client(table)?.settings(table.at(&[tls::ADDS]))));
    let server = table.required("url", URL_MISSING, |entry| server(entry, secret(entry)?));
    let instance = table.optional("instance", |entry| {
        let name = entry.text()?;
        named(name, entry).map(|()| name.to_owned())
    });
    let batch = table.optional("batch", |entry| match entry.integer()? {
        batch @ 1..=LARGEST_BATCH => Ok(batch),
        _ => Err(entry.mistake(format!("must be a number of records from 1 to {LARGEST_BATCH}"))),
    });
    let max_waiting = table.optional("max_waiting", Entry::integer);
    let retention = table.optional("retention", |entry| match entry.as_text() {
        Some("") => Ok(None),
        _ => entry.parse("a length of time in quotes, such as \"730d\"", past).map(Some),
    });
    let read = table.optional("read", Entry::boolean);
    let (tls, said) = (tls?.unwrap_or_default(), server?);
    let tls = ClientSettings { verification: said.verification.unwrap_or(tls.verification), ..tls };
    Ok(Postgres {
        server: said.config,
        tls,
        instance: instance?.unwrap_or_else(host_name),
        batch: batch?.unwrap_or(BATCH),
        max_waiting: max_waiting?.unwrap_or(MAX_WAITING) as u64,
        retention: retention?.flatten(),
        read: read?.unwrap_or_default(),
    })
}

const URL_MISSING: &str = "write url = { env = \"NAME\" } or { file = \"PATH\" }; it has the form postgres://user:password@host:5432/database";

/// What a connection string says.
struct Said {
    config: Config,
    /// As libpq's `sslmode` says it, in place of `verification_mode`.
    verification: Option<Verification>,
}

/// Reads a connection string in either of libpq's forms (PostgreSQL 15, section 34.1.1).
///
/// The password in it is a reason to repeat nothing of it in a message.
fn server(entry: &Entry<'_>, text: Secret) -> Read<Said> {
    let (text, verification) = verification(text.expose());
    let mut config: Config = text.parse().map_err(|error| entry.mistake(reason(&error)))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(entry.mistake(format!("names no host: {FORM}")));
    }
    if config.get_user().is_none() {
        return Err(entry.mistake(format!("names no user: {FORM}")));
    }
    let is_near =
        config.get_hosts().iter().all(is_near) && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
    if !text.contains("sslmode=") {
        config.ssl_mode(if is_near { SslMode::Disable } else { SslMode::Require });
    } else if !is_near && config.get_ssl_mode() != SslMode::Require {
        entry.warning(
            "lets the password and the records cross the network in the clear: write sslmode=require, or leave sslmode out",
        );
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION);
    }
    Ok(Said { config, verification })
}

const FORM: &str = "it has the form postgres://user:password@host:5432/database";

/// `verify-full` and `verify-ca` are `require` with what the certificate is held to, which
/// `require` does not say.
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

/// The parser's words, where they are its own. Of a text that was split at the wrong place, an
/// "unknown option" may be a piece of the password.
fn reason(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match cause {
        cause if cause.starts_with("invalid value for option") => format!("is wrong: {cause}"),
        cause if cause.starts_with("unknown option") => format!(
            "has a parameter that is not known; known are host, port, user, password, dbname, sslmode and others of libpq, and \
             certificates stand in [ledger.postgres.tls]. {FORM}, special characters in the password as %xx"
        ),
        _ => format!("is no connection string: {FORM}, special characters in the password as %xx"),
    }
}

/// Whether nobody is in between.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        Host::Unix(_) => true,
    }
}

/// What the machine, or the container, is called.
fn host_name() -> String {
    let name = fs::read_to_string(PathBuf::from("/proc/sys/kernel/hostname")).unwrap_or_default();
    match name.trim() {
        "" => APPLICATION.to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_calls_verify_is_require_and_how_to_verify() {
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
    fn no_message_repeats_a_piece_of_the_text() {
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
    fn the_machine_has_a_name() {
        assert!(!host_name().is_empty() && !host_name().ends_with('\n'));
    }
}
