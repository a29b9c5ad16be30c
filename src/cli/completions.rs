//! `streamgauge completions`: a script for a shell that completes this command line.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::aot::{Shell, generate};

use super::Cli;
use super::output::{print, unwritten};

/// Options of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shells,
}

/// The shells for which the scripts are tested.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shells {
    Bash,
    Fish,
    Zsh,
}

/// The script goes to stdout.
pub(super) fn run(args: &CompletionsArgs) -> ExitCode {
    let shell = match args.shell {
        Shells::Bash => Shell::Bash,
        Shells::Fish => Shell::Fish,
        Shells::Zsh => Shell::Zsh,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "streamgauge", &mut script);
    match print(String::from_utf8_lossy(&script)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unwritten(&error, 0),
    }
}
