//! `streamgauge config`: what the program would run with.

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
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The form of the result
    #[arg(long, value_enum, default_value_t = Format::Toml)]
    format: Format,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// As a file would have it
    Toml,
    /// One object
    Json,
}

/// The result goes to stdout, mistakes and warnings to stderr. `/config` of the admin pages has the
/// same text.
pub(super) fn run(args: &ConfigArgs) -> ExitCode {
    let Command::Show(ShowArgs { format }) = &args.command;
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            say!("{mistakes}");
            return ExitCode::from(WRONG);
        }
    };
    for warning in &loaded.warnings {
        say!("warning: {warning}");
    }
    let effective = &loaded.settings.effective;
    let text = match format {
        Format::Toml => toml::to_string(effective).map_err(|error| error.to_string()),
        Format::Json => Ok(format!("{effective:#}\n")),
    };
    match text.map(print) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => unwritten(&error, 0),
        Err(error) => {
            say!("config show: {error}");
            ExitCode::from(FAILED)
        }
    }
}
