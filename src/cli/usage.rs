//! `streamgauge usage`: reads the ledger, and prints the use of tokens.

mod layout;
mod markdown;
mod table;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::output::{self, unwritten};
use super::{FAILED, WRONG};
use crate::config::{self, Overrides, Sources, Which};
use crate::llm::price::Prices;
use crate::sinks::ledger::output::{csv, json};
use crate::sinks::ledger::{Bounds, By, LedgerSource, Order, Selection, Teams, TimeSpec, earlier};
use crate::support::tags::TagName;

/// Options of `usage`.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    /// The ledger's file, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Ledger to read: this instance's file, or the fleet's database [default: the one that
    /// ledger.postgres.read names]
    #[arg(long, value_enum, conflicts_with = "ledger")]
    from: Option<From>,
    /// Start of the period: a duration back from now (30m, 24h, 1w), a day (2026-07-30), a time
    /// (2026-07-30T08:00, or with an offset, 2026-07-30T08:00+02:00), today, yesterday, "this
    /// week", "last month" and so on
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = TimeSpec::parse)]
    since: TimeSpec,
    /// End of the period, in the same forms; a day, a week or a month means its beginning [default:
    /// now]
    #[arg(long, value_name = "TIME", value_parser = TimeSpec::parse)]
    until: Option<TimeSpec>,
    /// Only this client's requests
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Only requests of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only requests to this upstream
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Only responses of this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only requests of the clients in this team
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// Only requests to this endpoint, such as chat/completions
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Only requests with this outcome; "failed" for all that failed
    #[arg(long, value_name = "NAME")]
    outcome: Option<String>,
    /// Only requests with this value of a tag; several: with all of them
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    tags: Vec<(TagName, String)>,
    /// Compare with the time before: of equal length, or the same part of the day, week or month
    /// before, if --since names one
    #[arg(long)]
    compare: bool,
    /// Add the tokens of attempts at members of a group whose response was thrown away, each to its
    /// own upstream and model; they are no requests
    #[arg(long)]
    attempts: bool,
    /// Fields to group by, in this order: model, client, team, key, user, upstream, group, provider,
    /// endpoint, status, outcome, usage_source, hour, day, week, month, or tag.NAME; "" for the
    /// totals alone
    #[arg(long, value_name = "FIELDS", default_value = "model", value_parser = fields)]
    by: Fields,
    /// Columns to sort by, from the smallest up, or with - before one (--sort -cost) from the
    /// largest down: requests, input, cached, output, total, cost and so on, or one of --by
    /// [default: --by, in its order]
    #[arg(long, value_name = "COLUMNS", allow_hyphen_values = true, value_parser = orders)]
    sort: Option<Orders>,
    /// Reverse the order of --sort
    #[arg(long, requires = "sort")]
    reverse: bool,
    /// Show the first N groups, and the others as one line (in JSON as "rest"; CSV leaves them out)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Time zone of days, weeks, months and times, and of the days on which prices change: UTC,
    /// local, Europe/Berlin, +02:00 [default: ledger.time_zone of the configuration]
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, value_parser = config::time_zone)]
    time_zone: Option<TimeZone>,
    /// The form of the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Selects the ledger to read.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// The instance's own
    Sqlite,
    /// The one of the whole fleet
    Postgres,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people: as wide as the terminal, otherwise with whole names
    Table,
    /// A table for documents, tickets and chats
    Markdown,
    /// One object with every sum
    Json,
    /// A line per group, without the totals
    Csv,
}

/// A list is one value of its option, for clap.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields(Vec<By>);

fn fields(text: &str) -> Result<Fields, String> {
    By::list(text).map(Fields)
}

fn tag(text: &str) -> Result<(TagName, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as team=search")?;
    let name = TagName::parse(name).ok_or_else(|| format!("{name:?} is not the name of a tag"))?;
    Ok((name, value.to_owned()))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Orders(Vec<Order>);

fn orders(text: &str) -> Result<Orders, String> {
    Order::list(text).map(Orders)
}

/// The usual cause if there is no file.
fn hint(source: &LedgerSource) -> String {
    match source {
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
    let Configured { source, prices, zone, teams } = match configured(args) {
        Ok(configured) => configured,
        Err(message) => {
            say!("{message}");
            return ExitCode::from(WRONG);
        }
    };
    let now = Timestamp::now();
    let (since, until) = match TimeSpec::range(args.since, args.until, now, &zone) {
        Ok(range) => range,
        Err(reason) => {
            say!("usage: {reason}");
            return ExitCode::from(WRONG);
        }
    };
    let mut orders = args.sort.clone().map_or_else(Vec::new, |Orders(orders)| orders);
    if args.reverse {
        orders = orders.into_iter().map(Order::reversed).collect();
    }
    // Checked before the ledger is read, which may take a while.
    if let Err(reason) = Order::check(&orders, &args.by.0, prices.currencies()) {
        say!("usage: --sort: {reason}");
        return ExitCode::from(WRONG);
    }
    let selection = Selection {
        until,
        client: args.client.clone(),
        user: args.user.clone(),
        upstream: args.upstream.clone(),
        model: args.model.clone(),
        team: args.team.clone(),
        endpoint: args.endpoint.clone(),
        outcome: args.outcome.clone(),
        tags: args.tags.clone(),
        zone,
        attempts: args.attempts,
        teams,
        ..Selection::since(since)
    };
    let mut report = match source.report(&selection, &args.by.0, &prices, &Bounds::default()) {
        Ok(report) => report,
        Err(error) => {
            say!("usage: {error}{}", hint(&source));
            return ExitCode::from(FAILED);
        }
    };
    if args.compare {
        let (begin, end) = earlier(args.since.period(), since, until, now, &selection.zone);
        let before = Selection { since: begin, until: Some(end), ..selection.clone() };
        let before = match source.report(&before, &args.by.0, &prices, &Bounds::default()) {
            Ok(before) => before,
            Err(error) => {
                say!("usage: {error}{}", hint(&source));
                return ExitCode::from(FAILED);
            }
        };
        if let Err(reason) = report.compare(before, begin, end) {
            say!("usage: --compare: {reason}");
            return ExitCode::from(WRONG);
        }
    }
    if let Err(reason) = report.sort(&orders) {
        say!("usage: --sort: {reason}");
        return ExitCode::from(WRONG);
    }
    if let Some(until) = report.coarse_until {
        say!(
            "usage: records of hours up to {until} are deleted, and only their sums are kept: hours that a bound, a period \
             or a change of prices splits count as a whole"
        );
    }
    if let Some(limit) = args.limit {
        report.limit(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let text = match args.format {
        Format::Table => Ok(table::write(&report, since, until, terminal_width())),
        Format::Markdown => Ok(markdown::write(&report, since, until)),
        Format::Json => json::write(&report, since, until.unwrap_or(now)),
        Format::Csv => Ok(csv::write(&report)),
    };
    match text.and_then(output::print) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unwritten(&error, 0),
    }
}

/// The parts of the configuration that a report needs.
struct Configured {
    source: LedgerSource,
    prices: Prices,
    /// The time zone of reports and prices.
    zone: TimeZone,
    teams: Teams,
}

fn configured(args: &UsageArgs) -> Result<Configured, String> {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let which = match args.from {
        _ if args.ledger.is_some() => Which::Local,
        None => Which::Configured,
        Some(From::Sqlite) => Which::Local,
        Some(From::Postgres) => Which::Fleet,
    };
    let config::ReadLedger { ledger, prices, teams } =
        config::load_ledger(&sources, which).map_err(|mistakes| mistakes.to_string())?;
    let teams = Teams::new(teams);
    let (zone, prices) = match &args.time_zone {
        Some(zone) => (zone.clone(), prices.in_zone(zone)),
        None => (ledger.time_zone, prices),
    };
    let source = match (args.ledger.clone().or(ledger.path), ledger.postgres) {
        // The reader omits the ledger that was not requested.
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
    Ok(Configured { source, prices, zone, teams })
}

/// The width of the terminal that shows the result. `None` if stdout is not a terminal.
fn terminal_width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).map_or(0, |size| size.ws_col);
    let told = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns > 0);
    Some(if size > 0 { size.into() } else { told().unwrap_or(80) })
}

#[cfg(test)]
mod tests;
