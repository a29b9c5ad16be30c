//! The commands, one file each. Every message goes to stderr; only results go to stdout.
//!
//! Exit status: 0 success, 1 a failure at run time, 2 a wrong command line or configuration.

/// Writes a line to stderr, like `eprintln!`, which panics if stderr cannot be written.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::say(format_args!($($words)*))
    };
}

mod admin_client;
mod check;
mod completions;
mod config;
mod control;
#[cfg(feature = "simulator")]
mod demo;
mod health;
#[cfg(feature = "import")]
mod import;
mod init;
mod keys;
mod ledger;
mod man;
mod output;
mod prices;
mod reload;
mod serve;
mod signals;
#[cfg(feature = "simulator")]
mod simulate;
mod stop_signals;
mod top;
mod upgrade;
mod usage;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::app::preflight;
use crate::support::telemetry;

fn say(words: fmt::Arguments<'_>) {
    telemetry::say(words);
}

/// A failure at run time.
const FAILED: u8 = 1;

/// A wrong command line or configuration.
const WRONG: u8 = 2;

/// A reverse proxy for OpenAI-style APIs that counts every token
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file [default: $STREAMGAUGE_CONFIG, ./streamgauge.toml,
    /// /etc/streamgauge/streamgauge.toml]
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (the default command)
    Serve(serve::ServeArgs),
    /// Check the configuration and report every mistake in it; with --live, send a request to every
    /// upstream
    Check(check::CheckArgs),
    /// Show the effective configuration, or describe all its keys
    Config(config::ConfigArgs),
    /// Start a simulated upstream and the proxy, and stream one chat completion through them
    #[cfg(feature = "simulator")]
    Demo(demo::DemoArgs),
    /// Run a simulated upstream that speaks OpenAI's API
    #[cfg(feature = "simulator")]
    Simulate(simulate::SimulateArgs),
    /// Write a first configuration, check it, and print the next commands
    Init(init::InitArgs),
    /// Check the health of the running proxy, for probes (0: healthy)
    Health(health::HealthArgs),
    /// Make the running process read its configuration again (0: in use, 2: refused)
    Reload(reload::ReloadArgs),
    /// Show running streams, rates, tokens, costs, members and limits, and keep them up to date
    Top(top::TopArgs),
    /// Report the use of tokens by client, model, time and more, from the ledger
    Usage(Box<usage::UsageArgs>),
    /// Make, list, replace and revoke the keys of clients
    Keys(keys::KeysArgs),
    /// Convert the configuration of another gateway
    #[cfg(feature = "import")]
    Import(import::ImportArgs),
    /// Take prices of models from a published list
    Prices(prices::PricesArgs),
    /// Maintain the ledger
    Ledger(ledger::LedgerArgs),
    /// Print a script that completes this command line in a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write those of all commands into a folder
    Man(man::ManArgs),
}

/// Parses the process's command line and runs the command.
pub fn run() -> ExitCode {
    let command = Cli::parse().into_command().unwrap_or_else(|error| error.exit());
    if let Err(message) = preflight::files(preflight::ANY_COMMAND) {
        say!("streamgauge: {message}");
        return ExitCode::from(FAILED);
    }
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Config(args) => config::run(&args),
        #[cfg(feature = "simulator")]
        Command::Demo(args) => demo::run(&args),
        #[cfg(feature = "simulator")]
        Command::Simulate(args) => simulate::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Health(args) => health::run(&args),
        #[cfg(feature = "import")]
        Command::Import(args) => import::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Usage(args) => usage::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Prices(args) => prices::run(&args),
        Command::Ledger(args) => ledger::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

impl Cli {
    /// The command with the options before its name.
    ///
    /// # Errors
    /// An option that the command does not have.
    fn into_command(self) -> Result<Command, clap::Error> {
        let Self { command, config, serve } = self;
        let mut command = command.unwrap_or_default();
        let conflict = |option: &str, name: &str| {
            let message = format!("the option {option} is not one of `streamgauge {name}`\n");
            Err(Self::command().error(ErrorKind::ArgumentConflict, message))
        };
        match &mut command {
            Command::Serve(args) => {
                args.config = config;
                args.listen = args.listen.take().or(serve.listen);
                args.log = args.log.take().or(serve.log);
                return Ok(command);
            }
            Command::Check(args) => args.config = config,
            Command::Config(args) => args.config = config,
            Command::Init(args) => args.config = config,
            Command::Health(args) => args.config = config,
            Command::Reload(args) => args.config = config,
            Command::Top(args) => args.config = config,
            Command::Usage(args) => args.config = config,
            Command::Keys(args) => args.config = config,
            Command::Prices(args) => args.config = config,
            Command::Ledger(args) => args.config = config,
            // Commands that read no configuration.
            other if config.is_some() => return conflict("--config", other.name()),
            _ => {}
        }
        let before = [("--listen", serve.listen.is_some()), ("--log", serve.log.is_some())];
        match before.into_iter().find(|(_, is_there)| *is_there) {
            Some((option, _)) => conflict(option, command.name()),
            None => Ok(command),
        }
    }
}

impl Default for Command {
    fn default() -> Self {
        Self::Serve(serve::ServeArgs::default())
    }
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Serve(_) => "serve",
            Self::Check(_) => "check",
            Self::Config(_) => "config",
            #[cfg(feature = "simulator")]
            Self::Demo(_) => "demo",
            #[cfg(feature = "simulator")]
            Self::Simulate(_) => "simulate",
            Self::Init(_) => "init",
            #[cfg(feature = "import")]
            Self::Import(_) => "import",
            Self::Health(_) => "health",
            Self::Reload(_) => "reload",
            Self::Top(_) => "top",
            Self::Usage(_) => "usage",
            Self::Keys(_) => "keys",
            Self::Prices(_) => "prices",
            Self::Ledger(_) => "ledger",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(words: &str) -> Result<Command, clap::Error> {
        let words = ["streamgauge"].into_iter().chain(words.split_whitespace());
        Cli::try_parse_from(words).and_then(Cli::into_command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_command_with_its_options() {
        let Command::Serve(args) = parse("--listen 127.0.0.1:1").unwrap() else { panic!("serve") };
        assert_eq!(args.listen.as_deref(), Some("127.0.0.1:1"));
    }

    #[test]
    fn options_stand_before_and_behind_the_command() {
        for words in [
            "--config a.toml --listen 127.0.0.1:1 --log debug serve",
            "serve --config a.toml --listen 127.0.0.1:1 --log debug",
            "-c a.toml --log debug serve --listen 127.0.0.1:1",
            "--listen 127.0.0.1:1 serve -ca.toml --log debug",
            "-c a.toml --listen 127.0.0.1:1 --log debug",
        ] {
            let Command::Serve(args) = parse(words).unwrap() else { panic!("{words}") };
            assert_eq!(args.config.as_deref(), Some(Path::new("a.toml")), "{words}");
            assert_eq!(
                (args.listen.as_deref(), args.log.as_deref()),
                (Some("127.0.0.1:1"), Some("debug")),
                "{words}"
            );
        }
        for (words, command) in [
            ("check", "check"),
            ("usage", "usage"),
            ("config show", "config"),
            ("keys list", "keys"),
            ("ledger migrate", "ledger"),
        ] {
            for words in [format!("-c a.toml {words}"), format!("{words} --config a.toml")] {
                let command_found = parse(&words).unwrap();
                let config = match &command_found {
                    Command::Check(args) => &args.config,
                    Command::Usage(args) => &args.config,
                    Command::Config(args) => &args.config,
                    Command::Keys(args) => &args.config,
                    Command::Ledger(args) => &args.config,
                    _ => panic!("{words}"),
                };
                assert_eq!(config.as_deref(), Some(Path::new("a.toml")), "{words}");
                assert_eq!(command_found.name(), command);
            }
        }
    }

    #[test]
    fn option_of_another_command_is_refused() {
        for (words, option) in [
            ("--listen 127.0.0.1:1 usage", "--listen"),
            ("--log debug check", "--log"),
            ("-c a.toml man", "--config"),
            ("--config a.toml completions bash", "--config"),
            #[cfg(feature = "simulator")]
            ("-c a.toml demo", "--config"),
            #[cfg(feature = "simulator")]
            ("simulate --config a.toml", "--config"),
        ] {
            let error = parse(words).expect_err(words).to_string();
            assert!(error.contains(option), "{error}");
        }
    }
}
