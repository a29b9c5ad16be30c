//! `streamgauge usage`: reads the ledger, and says who used how many tokens.

mod table;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::output::{self, unwritten};
use super::{FAILED, WRONG};
use crate::config::{self, Overrides, Sources, Which};
use crate::ledger::output::{csv, json};
use crate::ledger::{Bounds, By, LedgerSource, Report, Selection, TimeSpec};
use crate::price::Prices;

/// Options of `usage`.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    /// The ledger's file, in place of the configuration's
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Where to read: this instance's file, or the fleet's database [default: as
    /// ledger.postgres.read says]
    #[arg(long, value_enum, conflicts_with = "ledger")]
    from: Option<From>,
    /// How far to look back (30m, 24h, 1w), or from when on: a day (2026-07-30), a time
    /// (2026-07-30T08:00, UTC; or with a zone, 2026-07-30T08:00+02:00), today, yesterday, "this
    /// week", "last month" and so on
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = TimeSpec::parse)]
    since: TimeSpec,
    /// Until when, in the same forms; of a day, a week or a month that is its beginning [default:
    /// now]
    #[arg(long, value_name = "TIME", value_parser = TimeSpec::parse)]
    until: Option<TimeSpec>,
    /// Only this client's requests
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Only those that named this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only those that went to this upstream
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Only those that this model answered
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// What to group by, in this order: model, client, upstream, endpoint, user, day, hour (UTC);
    /// "" for the totals alone
    #[arg(long, value_name = "FIELDS", default_value = "model", value_parser = Grouping::parse)]
    by: Grouping,
    /// The form of the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Which ledger to read.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// This instance's own
    Sqlite,
    /// That of the whole fleet
    Postgres,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people: 80 columns wide
    Table,
    /// One object with every sum
    Json,
    /// A line per group, without the totals
    Csv,
}

/// What to group by; each field once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grouping(Vec<By>);

impl Grouping {
    fn parse(text: &str) -> Result<Self, String> {
        let mut fields = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let Some(by) = By::named(name) else {
                return Err(format!("{name:?} is none of {}", By::ALL.map(By::as_str).join(", ")));
            };
            if fields.contains(&by) {
                return Err(format!("{name} is there twice"));
            }
            fields.push(by);
        }
        Ok(Self(fields))
    }
}

/// What is usually the matter where there is no file.
fn hint(place: &LedgerSource) -> String {
    match place {
        LedgerSource::File(path) if !path.exists() => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            format!(
                " ({}). `streamgauge serve` begins it when it starts; where that was done in another folder, name the file with --ledger",
                path.display()
            )
        }
        LedgerSource::File(_) | LedgerSource::Fleet(_) => String::new(),
    }
}

/// The result goes to stdout, everything else to stderr.
pub(super) fn run(args: &UsageArgs) -> ExitCode {
    let (place, prices) = match configured(args) {
        Ok(configured) => configured,
        Err(message) => {
            say!("{message}");
            return ExitCode::from(WRONG);
        }
    };
    let now = Timestamp::now();
    let (since, until) = match TimeSpec::range(args.since, args.until, now) {
        Ok(range) => range,
        Err(reason) => {
            say!("usage: {reason}");
            return ExitCode::from(WRONG);
        }
    };
    let selection = Selection {
        since,
        until,
        client: args.client.clone(),
        user: args.user.clone(),
        upstream: args.upstream.clone(),
        model: args.model.clone(),
    };
    let result = match place.report(&selection, &args.by.0, &prices, &Bounds::default()) {
        Ok(report) => print(&report, since, until.unwrap_or(now), args.format),
        Err(error) => {
            say!("usage: {error}{}", hint(&place));
            return ExitCode::from(FAILED);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unwritten(&error, 0),
    }
}

/// The ledger and the prices.
fn configured(args: &UsageArgs) -> Result<(LedgerSource, Prices), String> {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let which = match args.from {
        _ if args.ledger.is_some() => Which::Local,
        None => Which::Configured,
        Some(From::Sqlite) => Which::Local,
        Some(From::Postgres) => Which::Fleet,
    };
    let (ledger, prices) = config::load_ledger(&sources, which).map_err(|mistakes| mistakes.to_string())?;
    let place = match (args.ledger.clone().or(ledger.path), ledger.postgres) {
        // What was not wanted was not read.
        (_, Some(postgres)) => LedgerSource::Fleet(Box::new(postgres)),
        (_, None) if which == Which::Fleet => {
            return Err("usage: the configuration has no [ledger.postgres] to read from".to_owned());
        }
        (Some(path), None) => LedgerSource::File(path),
        (None, None) => {
            return Err(
                "usage: the configuration keeps no ledger: ledger.path is \"\"; name one with --ledger"
                    .to_owned(),
            );
        }
    };
    Ok((place, prices))
}

fn print(report: &Report, since: Timestamp, until: Timestamp, format: Format) -> io::Result<()> {
    let text = match format {
        Format::Table => table::write(report, since),
        Format::Json => json::write(report, since, until)?,
        Format::Csv => csv::write(report),
    };
    output::print(text)
}

#[cfg(test)]
mod tests;
