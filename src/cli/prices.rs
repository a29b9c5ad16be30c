//! `streamgauge prices`: takes prices of models from a published list into a file that the
//! configuration reads.
//!
//! Only `[ledger]` and the places of `[upstreams]` are read: the secrets of the proxy may be missing
//! here. Exit status: 0 done, 1 the ledger or a file cannot be read or written, 2 a wrong argument,
//! a file that is no price list, or mistakes in the configuration.

mod wanted;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;

use super::output::{print, unwritten};
use super::{FAILED, WRONG};
use crate::config::{self, Overrides, PricePlace, Sources, Which};
use crate::import::{PriceList, PriceUpdate, prices_text};
use crate::llm::price::Prices;
use crate::sinks::ledger::{Bounds, By, LedgerSource, Selection};
use crate::support::whole_file::read_any;
use wanted::{Seen, Wanted};

/// The largest price list. LiteLLM's has 4 MB.
const MAX_LIST: usize = 64 << 20;

/// Options of `prices`.
#[derive(Debug, Args)]
pub(super) struct PricesArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what LiteLLM's price list changes in the prices of the models in use, and write it with
    /// --write
    ///
    /// The list is the file model_prices_and_context_window.json of LiteLLM's repository; the
    /// Python package litellm has a copy, model_prices_and_context_window_backup.json. A model is
    /// taken if requests of text have exactly the price that the list has; the others are listed
    /// with the reason.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The price list (JSON)
    file: PathBuf,
    /// Models by their names in the list, such as gpt-4.1 or azure/gpt-4.1*, in which * stands for
    /// any characters [default: the models in the ledger, and those in ledger.prices_file]
    models: Vec<String>,
    /// Write the prices into ledger.prices_file; a running proxy takes them over within seconds
    #[arg(long)]
    write: bool,
    /// Print all prices, in TOML, in place of the changes
    #[arg(long, conflicts_with = "write")]
    toml: bool,
    /// The first day of prices that have changed [default: today, in ledger.time_zone]
    #[arg(long, value_name = "DAY")]
    from: Option<Date>,
    /// The service of an upstream by LiteLLM's name of it, such as local=hosted_vllm or
    /// gateway=groq, where its URL does not tell
    #[arg(long = "service", value_name = "UPSTREAM=SERVICE", value_parser = service)]
    services: Vec<(String, String)>,
    /// The ledger's file, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

fn service(text: &str) -> Result<(String, String), String> {
    let (upstream, service) = text.split_once('=').ok_or("write UPSTREAM=SERVICE, such as gateway=groq")?;
    Ok((upstream.to_owned(), service.to_owned()))
}

/// The reason for which the command failed, and its exit status.
struct PricesFailure(u8, String);

/// The result goes to stdout, everything else to stderr.
pub(super) fn run(args: &PricesArgs) -> ExitCode {
    let Command::Import(import) = &args.command;
    match run_import(args.config.clone(), import) {
        Ok(status) => status,
        Err(PricesFailure(status, message)) => {
            say!("prices import: {message}");
            ExitCode::from(status)
        }
    }
}

fn run_import(config: Option<PathBuf>, args: &ImportArgs) -> Result<ExitCode, PricesFailure> {
    let wrong = |message: String| PricesFailure(WRONG, message);
    let sources = Sources { file: config, env: config::environment(), overrides: Overrides::default() };
    let which = if args.ledger.is_some() { Which::Local } else { Which::Configured };
    let place = config::load_price_place(&sources, which).map_err(|mistakes| wrong(mistakes.to_string()))?;
    let file = args.file.display();
    let unread = |error| PricesFailure(FAILED, format!("{file}: {error}"));
    let (text, _) = read_any(&args.file, MAX_LIST).map_err(unread)?;
    let list = PriceList::parse(&text).map_err(|reason| wrong(format!("{file} {reason}")))?;
    let mut wanted = Wanted::new(&list, &place, &args.services);
    if args.models.is_empty() {
        let seen = seen(&place, args.ledger.as_deref())?;
        wanted.add_seen(&seen);
    } else {
        wanted.add_named(&args.models).map_err(wrong)?;
    }
    let now = || Timestamp::now().to_zoned(place.ledger.time_zone.clone()).date();
    let day = args.from.unwrap_or_else(now);
    wanted.notes().iter().for_each(|note| say!("{note}"));
    let update = PriceUpdate::new(place.stored.clone(), wanted.into_prices(), day);
    let result = match args.toml {
        true => print(prices_text(&update.prices)),
        false => update.changes.iter().try_for_each(|change| print(format_args!("{change}\n"))),
    };
    if let Err(error) = result {
        return Ok(unwritten(&error, 0));
    }
    if !args.toml {
        finish(args, &place, &update)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the prices if that is wanted, and reports what happened.
fn finish(args: &ImportArgs, place: &PricePlace, update: &PriceUpdate) -> Result<(), PricesFailure> {
    let same = update.unchanged;
    if update.changes.is_empty() {
        let prices = if same == 1 { "1 price is".to_owned() } else { format!("{same} prices are") };
        say!("prices import: nothing has changed; {prices} as in the list");
        return Ok(());
    }
    let changes = match update.changes.len() {
        1 => "1 price differs".to_owned(),
        changes => format!("{changes} prices differ"),
    };
    match (&place.ledger.prices_file, args.write) {
        (None, true) => {
            let message = "the configuration names no file of prices: ledger.prices_file is \"\"";
            return Err(PricesFailure(WRONG, message.to_owned()));
        }
        (Some(path), true) => {
            let unwritten = |error| PricesFailure(FAILED, format!("{}: {error}", path.display()));
            config::write_prices(path, &prices_text(&update.prices)).map_err(unwritten)?;
            say!("prices import: {changes}, {same} as before; written to {}", path.display());
        }
        (Some(path), false) => {
            say!("prices import: {changes}, {same} as before; --write writes them to {}", path.display());
        }
        (None, false) => say!("prices import: {changes}, {same} as before; --toml prints them as [[prices]]"),
    }
    Ok(())
}

/// The models that requests have had, with their upstreams.
fn seen(place: &PricePlace, ledger: Option<&Path>) -> Result<BTreeSet<Seen>, PricesFailure> {
    let configured = || LedgerSource::configured(&place.ledger);
    let source = ledger.map(|path| LedgerSource::File(path.to_owned())).or_else(configured);
    let missing = |why: String| {
        say!("prices import: {why}: name the models, such as gpt-4.1 or 'azure/gpt-4.1*'");
        Ok(BTreeSet::new())
    };
    let source = match source {
        None => return missing("the configuration keeps no ledger, which would know the models".to_owned()),
        Some(LedgerSource::File(path)) if !path.exists() => {
            return missing(format!("there is no ledger {} yet", path.display()));
        }
        Some(source) => source,
    };
    let selection = Selection { attempts: true, ..Selection::since(Timestamp::MIN) };
    let by = [By::Upstream, By::Model];
    let report = source.report(&selection, &by, &Prices::default(), &Bounds::default());
    let report = report.map_err(|error| PricesFailure(FAILED, error.to_string()))?;
    let pairs = report.groups.into_iter().filter_map(|group| match <[_; 2]>::try_from(group.key) {
        Ok([Some(upstream), Some(model)]) => Some(Seen { upstream, model }),
        _ => None,
    });
    Ok(pairs.collect())
}
