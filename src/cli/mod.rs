//! The commands, one file each. Every message goes to stderr; only results go to stdout.
//!
//! Exit status: 0 done, 1 it failed while running, 2 the command line or the configuration is wrong.

/// Writes a line to stderr, as `eprintln!`, which panics where stderr cannot be written.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::say(format_args!($($words)*))
    };
}

mod check;
mod control;
mod demo;
mod ledger;
mod output;
mod serve;
mod signals;
mod simulate;
mod usage;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::preflight;
use crate::telemetry;

fn say(words: fmt::Arguments<'_>) {
    telemetry::say(words);
}

/// It failed while running.
const FAILED: u8 = 1;

/// The command line or the configuration is wrong.
const WRONG: u8 = 2;

/// A reverse proxy for OpenAI-style APIs that knows exactly how many tokens went by.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (the default command)
    Serve(serve::ServeArgs),
    /// Read the configuration and name every mistake in it; with --live, try every upstream
    Check(check::CheckArgs),
    /// Run the simulator and the proxy, and stream one chat completion through
    Demo(demo::DemoArgs),
    /// Run an OpenAI-style upstream that answers from nothing
    Simulate(simulate::SimulateArgs),
    /// Read the ledger: who used how many tokens
    Usage(usage::UsageArgs),
    /// Look after a fleet's ledger in PostgreSQL
    Ledger(ledger::LedgerArgs),
}

/// Parses the process's command line and runs the command.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    if let Err(message) = preflight::files(preflight::ANY_COMMAND) {
        say!("streamgauge: {message}");
        return ExitCode::from(FAILED);
    }
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Usage(args) => usage::run(&args),
        Command::Ledger(args) => ledger::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_command_with_its_options() {
        let cli = Cli::try_parse_from(["streamgauge", "--listen", "127.0.0.1:1"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.listen.as_deref(), Some("127.0.0.1:1"));
    }
}
