//! `streamgauge keys`: makes, lists, replaces and revokes the keys of clients that are stored beside
//! the configuration.
//!
//! Only `[keys]`, the names of `[clients]` and `[ledger]` are read: the secrets of the proxy may be
//! missing here. Exit status: 0 done, 1 a file cannot be written, 2 a wrong argument or mistakes in
//! the configuration or the file of keys.

mod output;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::output::{print, unwritten};
use super::{FAILED, WRONG};
use crate::config::{self, KeyPlace, KeyStore, Overrides, Sources, StoreError, StoredKey, Which};
use crate::gate::{ID_DIGITS, KeyDigest, RANDOM_BYTES, new_key};
use crate::sinks::ledger::{Bounds, LedgerSource};
use crate::support::secret::Secret;
use output::{CreatedKey, EndedKey, KeyListing, ListedKey, RevokedKeys};

/// Options of `keys`.
#[derive(Debug, Args)]
pub(super) struct KeysArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
    /// The form of the result
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key for a client of the configuration, and print it: this once only
    ///
    /// The key alone goes to stdout. Its SHA-256 digest is stored in `keys.file`: a running proxy
    /// accepts the key within two seconds.
    Create(CreateArgs),
    /// List the stored keys, with their last use
    List(ListArgs),
    /// Make a new key for a client, and end the others that are stored for it after a time
    Rotate(RotateArgs),
    /// Remove stored keys: a running proxy refuses further requests with them within two seconds
    ///
    /// Requests that run continue to their end.
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The name of the client, as in [clients.NAME]
    client: String,
    /// The end of the key: a duration from now (90d), a day (2027-01-31) or a time
    /// (2027-01-31T12:00:00Z) [default: none]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The ledger's file for the last use, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// The name of the client, as in [clients.NAME]
    client: String,
    /// The time for which the client's other stored keys are still accepted; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = config::duration)]
    grace: Duration,
    /// The end of the new key, as in `keys create`
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The id of a key: the first 8 digits of its digest, as `keys list` shows it
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people; a new key alone
    Table,
    /// One object
    Json,
}

/// The reason for which a command failed, and its exit status.
struct KeysFailure(u8, String);

impl From<StoreError> for KeysFailure {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Unread(_) | StoreError::Refused(_) => WRONG,
            StoreError::Unwritten(..) | StoreError::Locked(_) => FAILED,
        };
        Self(status, error.to_string())
    }
}

/// The result goes to stdout, everything else to stderr.
pub(super) fn run(args: &KeysArgs) -> ExitCode {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let place = match config::load_key_place(&sources) {
        Ok(place) => place,
        Err(mistakes) => {
            say!("{mistakes}");
            return ExitCode::from(WRONG);
        }
    };
    let Some(store) = &place.store else {
        say!("keys: no keys are stored: `file` in [keys] is \"\"; name a file there");
        return ExitCode::from(WRONG);
    };
    let is_json = args.format == Format::Json;
    let result = match &args.command {
        Command::Create(create) => self::create(&place, store, create).map(|created| made(&created, is_json)),
        Command::Rotate(rotate) => self::rotate(&place, store, rotate).map(|created| made(&created, is_json)),
        Command::List(list) => self::list(&sources, store, list).map(|listing| shown(&listing, is_json)),
        Command::Revoke(revoke) => self::revoke(store, revoke).map(|revoked| shown(&revoked, is_json)),
    };
    result.unwrap_or_else(|KeysFailure(status, message)| {
        say!("keys {}: {message}", args.command.name());
        ExitCode::from(status)
    })
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::List(_) => "list",
            Self::Rotate(_) => "rotate",
            Self::Revoke(_) => "revoke",
        }
    }
}

fn create(place: &KeyPlace, store: &KeyStore, args: &CreateArgs) -> Result<CreatedKey, KeysFailure> {
    let now = this_second();
    let (stored, key) = new(place, &args.client, args.until.as_deref(), now)?;
    store.change(|keys| {
        keys.push(stored.clone());
        Ok(())
    })?;
    Ok(CreatedKey::new(&stored, key, Vec::new()))
}

fn rotate(place: &KeyPlace, store: &KeyStore, args: &RotateArgs) -> Result<CreatedKey, KeysFailure> {
    let now = this_second();
    let (stored, key) = new(place, &args.client, args.until.as_deref(), now)?;
    let end = now.checked_add(args.grace).map_err(|error| KeysFailure(WRONG, format!("--grace: {error}")))?;
    let replaced = store.change(|keys| {
        let of_client = |key: &&mut StoredKey| key.client == args.client && !key.has_expired(now);
        let mut replaced = Vec::new();
        for key in keys.iter_mut().filter(of_client) {
            key.until = Some(key.until.map_or(end, |until| until.min(end)));
            replaced.push(EndedKey::new(key));
        }
        if replaced.is_empty() {
            return Err(format!(
                "no key of {0} is stored that could be replaced: write `streamgauge keys create {0}`",
                args.client
            ));
        }
        keys.push(stored.clone());
        Ok(replaced)
    })?;
    if place.own_keys.contains(&args.client) {
        say!(
            "the keys in [clients.{}] of the configuration are still accepted: remove them there, or add an `until`",
            args.client
        );
    }
    Ok(CreatedKey::new(&stored, key, replaced))
}

/// A new key and what is stored of it.
fn new(
    place: &KeyPlace,
    client: &str,
    until: Option<&str>,
    now: Timestamp,
) -> Result<(StoredKey, Secret), KeysFailure> {
    let wrong = |reason| KeysFailure(WRONG, reason);
    place.check_client(client).map_err(wrong)?;
    let until = until.map(|text| config::key_end(text, now, &place.time_zone)).transpose();
    let until = until.map_err(|reason| wrong(format!("--until: {reason}")))?;
    let mut random = [0; RANDOM_BYTES];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| KeysFailure(FAILED, "the system gives no random bytes".to_owned()))?;
    let key = new_key(random);
    let digest = KeyDigest::of(key.expose().as_bytes());
    let (client, created) = (client.to_owned(), Some(now));
    Ok((StoredKey { client, digest, created, until, place: String::new() }, key))
}

fn list(sources: &Sources, store: &KeyStore, args: &ListArgs) -> Result<KeyListing, KeysFailure> {
    let (keys, now) = (store.keys()?, Timestamp::now());
    let used = match keys.is_empty() {
        true => None,
        false => last_used(sources, args.ledger.as_deref(), &keys).unwrap_or_else(|reason| {
            say!("keys list: the last use is unknown: {reason}");
            None
        }),
    };
    let (ledger, used) = used.unzip();
    let used = used.unwrap_or_default();
    let keys = keys.iter().map(|key| ListedKey::new(key, used.get(&key.digest.id()).copied(), now)).collect();
    Ok(KeyListing { file: store.path().display().to_string(), ledger, keys })
}

type LastUsed = HashMap<String, Timestamp>;

/// The name of the ledger, and the last use of each key. `None`: there is no ledger.
fn last_used(
    sources: &Sources,
    file: Option<&Path>,
    keys: &[StoredKey],
) -> Result<Option<(String, LastUsed)>, String> {
    let source = match file {
        Some(path) => Some(LedgerSource::File(path.to_owned())),
        None => {
            let loaded = config::load_ledger(sources, Which::Configured);
            let (ledger, _) = loaded.map_err(|mistakes| mistakes.to_string())?;
            LedgerSource::configured(&ledger)
        }
    };
    let Some(source) = source else { return Ok(None) };
    let ids: Vec<_> = keys.iter().map(|key| key.digest.id()).collect();
    let since = keys.iter().map(|key| key.created.unwrap_or(Timestamp::UNIX_EPOCH)).min();
    let used = source.last_used(&ids, since.unwrap_or(Timestamp::UNIX_EPOCH), &Bounds::default());
    let used = used.map_err(|error| match &source {
        LedgerSource::File(path) if !path.exists() => format!("{error}; name the file with --ledger"),
        LedgerSource::File(_) | LedgerSource::Fleet(_) => error.to_string(),
    })?;
    Ok(Some((source.to_string(), used)))
}

fn revoke(store: &KeyStore, args: &RevokeArgs) -> Result<RevokedKeys, KeysFailure> {
    let ids = args.ids.iter().map(|id| checked_id(id)).collect::<Result<_, _>>();
    let ids: BTreeSet<_> = ids.map_err(|reason| KeysFailure(WRONG, reason))?;
    let revoked = store.change(|keys| {
        let mut revoked = Vec::new();
        for id in &ids {
            let found: Vec<_> = keys.extract_if(.., |key| key.digest.to_hex().starts_with(id)).collect();
            match &found[..] {
                [] => {
                    let file = store.path().display();
                    return Err(format!(
                        "no key {id} is stored in {file}, so that nothing was revoked: `streamgauge keys list` shows them"
                    ));
                }
                [key] => revoked.push(EndedKey::new(key)),
                more => {
                    let digests: Vec<_> = more.iter().map(|key| key.digest.to_hex()).collect();
                    return Err(format!(
                        "{id} is the beginning of {}, so that nothing was revoked: write one of them",
                        digests.join(" and ")
                    ));
                }
            }
        }
        Ok(revoked)
    })?;
    Ok(RevokedKeys { revoked })
}

/// The message does not repeat the text, which may be a key.
fn checked_id(text: &str) -> Result<String, String> {
    if text.len() < ID_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!(
            "an id has {ID_DIGITS} hexadecimal digits, the first of a key's digest: `streamgauge keys list` shows it"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

/// Prints a new key. It exists only here, so that a failure says how to get rid of it.
fn made(created: &CreatedKey, is_json: bool) -> ExitCode {
    let text = if is_json { output::json(created) } else { format!("{}\n", created.key()) };
    match print(text) {
        Ok(()) => {
            if !is_json {
                say!("{created}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            say!(
                "the new key could not be printed, and is lost ({error}): `streamgauge keys revoke {}`",
                created.id()
            );
            ExitCode::from(FAILED)
        }
    }
}

fn shown<T: serde::Serialize + std::fmt::Display>(result: &T, is_json: bool) -> ExitCode {
    let text = if is_json { output::json(result) } else { result.to_string() };
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unwritten(&error, 0),
    }
}

/// The present time without a fraction, for people who read the file.
fn this_second() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_that_may_be_a_key_is_not_repeated() {
        assert_eq!(checked_id("9F86D081"), Ok("9f86d081".to_owned()));
        assert_eq!(checked_id("9f86d081884c"), Ok("9f86d081884c".to_owned()));
        for text in ["", "9f86d08", "sg-marker-0123456789", "9f86d08g"] {
            let reason = checked_id(text).expect_err(text);
            assert!(!reason.contains("marker"), "{reason}");
        }
    }
}
