//! `streamgauge ledger`: commands for the owner of a ledger.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{FAILED, WRONG};
use crate::config::{self, Overrides, Postgres, Sources, Which};
use crate::sinks::ledger::postgres::{Migrated, migrate};
use crate::sinks::ledger::{Rebuilt, backup, rebuild};

/// Options of `ledger`.
#[derive(Debug, Args)]
pub(super) struct LedgerArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create the tables in the database of [ledger.postgres], or migrate them
    ///
    /// The command can be repeated, also by several processes at once. The user of the url must own the
    /// tables, and may be another than the one that ships records, which needs SELECT and INSERT on
    /// them.
    Migrate,
    /// Copy this instance's ledger to a new file, also while it is being written
    ///
    /// The copy is one file, with all records up to one moment. An existing file is not
    /// overwritten. `cp` of a ledger in use misses the records in its log.
    Backup(BackupArgs),
    /// Add up the hourly sums of this instance's ledger again, from its records
    ///
    /// Reports over long times read hourly sums. Rebuild them if another program has changed or
    /// deleted records. Hours whose records are deleted by ledger.retention keep their sums. The
    /// ledger may be in use.
    Rebuild(RebuildArgs),
}

#[derive(Debug, Args)]
struct RebuildArgs {
    /// The ledger's file, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct BackupArgs {
    /// The file to create
    #[arg(value_name = "FILE")]
    to: PathBuf,
    /// The ledger's file, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// Messages go to stderr; there is no result.
pub(super) fn run(args: &LedgerArgs) -> ExitCode {
    match &args.command {
        Command::Migrate => run_migrate(args),
        Command::Backup(backup) => run_backup(args, backup),
        Command::Rebuild(rebuild) => run_rebuild(args, rebuild),
    }
}

fn run_rebuild(args: &LedgerArgs, RebuildArgs { ledger }: &RebuildArgs) -> ExitCode {
    let path = match ledger.clone().map_or_else(|| local(args, "rebuild"), Ok) {
        Ok(path) => path,
        Err(message) => {
            say!("{message}");
            return ExitCode::from(WRONG);
        }
    };
    match rebuild(&path) {
        Ok(rebuilt) => {
            say!("{}: {}", path.display(), rebuilt_in_words(&rebuilt));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say!("ledger rebuild: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn rebuilt_in_words(rebuilt: &Rebuilt) -> String {
    let Rebuilt { hours, records, changed, kept, since } = rebuilt;
    let numbered = |count: u64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let kept = match *kept {
        0 => String::new(),
        kept => format!("; {} with deleted records kept as before", numbered(kept, "earlier hour")),
    };
    match since {
        None => format!("there are no records to add up{kept}"),
        Some(since) => format!(
            "the sums of {} since {since} are added up from {}, {} of them changed{kept}",
            numbered(*hours, "hour"),
            numbered(*records, "record"),
            changed
        ),
    }
}

fn run_backup(args: &LedgerArgs, BackupArgs { to, ledger }: &BackupArgs) -> ExitCode {
    let from = match ledger.clone().map_or_else(|| local(args, "backup"), Ok) {
        Ok(from) => from,
        Err(message) => {
            say!("{message}");
            return ExitCode::from(WRONG);
        }
    };
    match backup(&from, to) {
        Ok(records) => {
            let records = if records == 1 { "1 record".to_owned() } else { format!("{records} records") };
            say!("{} has {records}", to.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            say!("ledger backup: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// The file of this instance.
fn local(args: &LedgerArgs, command: &str) -> Result<PathBuf, String> {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let config::ReadLedger { ledger, .. } =
        config::load_ledger(&sources, Which::Local).map_err(|mistakes| mistakes.to_string())?;
    ledger.path.ok_or_else(|| {
        format!(
            "ledger {command}: the configuration keeps no ledger: ledger.path is \"\"; name one with --ledger"
        )
    })
}

fn run_migrate(args: &LedgerArgs) -> ExitCode {
    let settings = match configured(args) {
        Ok(settings) => settings,
        Err(message) => {
            say!("{message}");
            return ExitCode::from(WRONG);
        }
    };
    match migrate(&settings) {
        Ok(migrated) => {
            say!("{}", said(&migrated));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say!("ledger migrate: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn configured(args: &LedgerArgs) -> Result<Postgres, String> {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let config::ReadLedger { ledger, .. } =
        config::load_ledger(&sources, Which::Fleet).map_err(|mistakes| mistakes.to_string())?;
    ledger.postgres.ok_or_else(|| {
        "ledger migrate: the configuration has no [ledger.postgres] with the url of a database".to_owned()
    })
}

fn said(migrated: &Migrated) -> String {
    let Migrated { from, to, months } = migrated;
    let version = match from {
        None => format!("the ledger was created, with schema {to}"),
        Some(from) if from == to => format!("the ledger has schema {to} already"),
        Some(from) => format!("the ledger was brought from schema {from} to {to}"),
    };
    match months.as_slice() {
        [] => version,
        months => format!("{version}; new partitions: {}", months.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rebuilding_is_told_in_one_line() {
        let since = Some("2026-11-01T00:00:00Z".parse().unwrap());
        let told = |rebuilt| rebuilt_in_words(&rebuilt);
        assert_eq!(
            told(Rebuilt { hours: 1, records: 7, changed: 0, kept: 0, since }),
            "the sums of 1 hour since 2026-11-01T00:00:00Z are added up from 7 records, 0 of them changed"
        );
        assert_eq!(
            told(Rebuilt { hours: 0, records: 0, changed: 0, kept: 2, since: None }),
            "there are no records to add up; 2 earlier hours with deleted records kept as before"
        );
    }

    #[test]
    fn migration_is_told_in_one_line() {
        let months = || vec!["2026-11".to_owned(), "2026-12".to_owned()];
        let said = |from, to, months| said(&Migrated { from, to, months });
        assert_eq!(
            said(None, 1, months()),
            "the ledger was created, with schema 1; new partitions: 2026-11, 2026-12"
        );
        assert_eq!(said(Some(1), 1, Vec::new()), "the ledger has schema 1 already");
        assert_eq!(said(Some(1), 3, Vec::new()), "the ledger was brought from schema 1 to 3");
    }
}
