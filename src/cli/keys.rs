//! `streamgauge keys`: makes, lists, replaces and revokes the keys of clients that are stored beside
//! the configuration, or in the fleet's database.
//!
//! Only `[keys]`, the names of `[clients]` and `[ledger]` are read: the secrets of the proxy may be
//! missing here. Exit status: 0 done, 1 a file cannot be written, 2 a wrong argument or mistakes in
//! the configuration or the file of keys.

mod output;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::output::{print, unwritten};
use super::{FAILED, WRONG};
use crate::config::{
    self, CreatedKey, KeyError, KeyListing, KeyPlace, KeyStore, ListedKey, Overrides, Sources, StoreError,
    StoredKey, Which,
};
use crate::sinks::ledger::postgres::KeyTable;
use crate::sinks::ledger::{Bounds, LedgerSource};

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
    /// The key alone goes to stdout. Its SHA-256 digest is stored in the file or table of `[keys]`: a
    /// running proxy accepts the key within two seconds.
    Create(CreateArgs),
    /// List the stored keys, with their last use
    List(ListArgs),
    /// Make a new key for a client, and end the others that are stored for it after a time
    Rotate(RotateArgs),
    /// Remove stored keys: a running proxy refuses further requests with them within two seconds
    ///
    /// Requests that run continue to their end, unless --now ends them too.
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
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = config::duration, allow_hyphen_values = true)]
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
    /// Also end the requests and sockets with these keys that run, within two seconds
    #[arg(long)]
    now: bool,
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

impl From<KeyError> for KeysFailure {
    fn from(error: KeyError) -> Self {
        let status = match error {
            KeyError::NoRandom
            | KeyError::Store(StoreError::Unwritten(..) | StoreError::Locked(_) | StoreError::Table(..)) => {
                FAILED
            }
            _ => WRONG,
        };
        // The names of options.
        let option = if matches!(error, KeyError::Until(_) | KeyError::Grace(_)) { "--" } else { "" };
        Self(status, format!("{option}{error}"))
    }
}

/// The result goes to stdout, everything else to stderr.
pub(super) fn run(args: &KeysArgs) -> ExitCode {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let place = match config::load_key_place(&sources, KeyTable::shared) {
        Ok(place) => place,
        Err(mistakes) => {
            say!("{mistakes}");
            return ExitCode::from(WRONG);
        }
    };
    let store = match place.store() {
        Ok(store) => store,
        Err(error) => {
            say!("keys: {error}");
            return ExitCode::from(WRONG);
        }
    };
    let is_json = args.format == Format::Json;
    let result = match &args.command {
        Command::Create(CreateArgs { client, until }) => place
            .create_key(client, until.as_deref())
            .map(|created| made(&created, is_json))
            .map_err(KeysFailure::from),
        Command::Rotate(rotate) => self::rotate(&place, rotate).map(|created| made(&created, is_json)),
        Command::List(list) => self::list(&sources, store, list).map(|listing| shown(&listing, is_json)),
        Command::Revoke(RevokeArgs { ids, now }) => {
            place.revoke_keys(ids, *now).map(|revoked| shown(&revoked, is_json)).map_err(KeysFailure::from)
        }
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

fn rotate(place: &KeyPlace, args: &RotateArgs) -> Result<CreatedKey, KeysFailure> {
    let created = place.rotate_keys(&args.client, args.grace, args.until.as_deref())?;
    created.warning.iter().for_each(|warning| say!("{warning}"));
    Ok(created)
}

fn list(sources: &Sources, store: &dyn KeyStore, args: &ListArgs) -> Result<KeyListing, KeysFailure> {
    let (keys, now) = (store.keys().map_err(KeyError::from)?, Timestamp::now());
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
    Ok(KeyListing { store: store.name(), ledger, keys })
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
            let config::ReadLedger { ledger, .. } = loaded.map_err(|mistakes| mistakes.to_string())?;
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

/// Prints a new key. It exists only here, so that a failure says how to get rid of it.
fn made(created: &CreatedKey, is_json: bool) -> ExitCode {
    let text = if is_json { output::json(created) } else { format!("{}\n", created.key.expose()) };
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
                created.id
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
