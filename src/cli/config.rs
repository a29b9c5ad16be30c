//! `streamgauge config`: the effective configuration, and the description of all keys.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::output::{print, unwritten};
use super::{FAILED, WRONG};
use crate::config::{self, Overrides, Sources};

/// Options of `config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the effective configuration: defaults, file and environment merged, without secrets
    Show(ShowArgs),
    /// Print a JSON Schema of the file, for editors that check it
    Schema,
    /// Print a page about every key, as Markdown
    Docs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The form of the result
    #[arg(long, value_enum, default_value_t = Format::Toml)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A configuration file
    Toml,
    /// One JSON object
    Json,
}

/// The result goes to stdout, mistakes and warnings to stderr.
pub(super) fn run(args: &ConfigArgs) -> ExitCode {
    let text = match &args.command {
        Command::Show(ShowArgs { format }) => match shown(args, *format) {
            Ok(text) => text,
            Err(status) => return ExitCode::from(status),
        },
        Command::Schema => format!("{:#}\n", config::schema()),
        Command::Docs => config::docs(),
    };
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unwritten(&error, 0),
    }
}

/// The effective configuration, which is also at `/config` of the admin pages; or the exit status.
fn shown(args: &ConfigArgs, format: Format) -> Result<String, u8> {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let loaded = config::load(&sources).map_err(|mistakes| {
        say!("{mistakes}");
        WRONG
    })?;
    for warning in &loaded.warnings {
        say!("warning: {warning}");
    }
    let effective = &loaded.settings.effective;
    match format {
        Format::Toml => toml::to_string(effective).map_err(|error| {
            say!("config show: {error}");
            FAILED
        }),
        Format::Json => Ok(format!("{effective:#}\n")),
    }
}
