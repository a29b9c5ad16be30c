//! `streamgauge init`: writes a first configuration, checks it, and prints the next commands.
//!
//! The file has no secret, but the names of variables. Exit status: 0 written and valid, 1 the file
//! cannot be written, 2 a file that exists, a wrong argument, or a configuration that is not valid
//! yet, for example since a variable is not set.

mod choice;
mod configuration;
mod next;

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;

use super::output::{print, unwritten};
use super::{FAILED, WRONG};
use crate::config;
use choice::{Choice, KINDS, Kind};
use configuration::configuration;

/// Options of `init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    /// Ask nothing: the services are those of --service, else those whose keys are in the
    /// environment, else a simulated one on this machine
    #[arg(long, short)]
    yes: bool,
    /// A service: openai, azure=URL, anthropic, gemini, other=URL (with OpenAI's API) or simulator;
    /// may be repeated, and replaces the first question
    #[arg(long = "service", value_name = "SERVICE", value_parser = Choice::parse)]
    services: Vec<Choice>,
}

/// The name of the file if none is named.
const FILE: &str = "streamgauge.toml";

/// Questions and messages go to stderr, the next commands to stdout.
pub(super) fn run(args: &InitArgs) -> ExitCode {
    match init(args) {
        Ok(status) => status,
        Err((status, message)) => {
            say!("init: {message}");
            ExitCode::from(status)
        }
    }
}

fn init(args: &InitArgs) -> Result<ExitCode, (u8, String)> {
    let path = args.config.clone().unwrap_or_else(|| FILE.into());
    // Before the questions; the creation decides.
    if path.exists() || path.is_symlink() {
        return Err((WRONG, exists(&path)));
    }
    let env = config::environment();
    let choices = match (args.services.is_empty(), args.yes) {
        (false, _) => args.services.clone(),
        (true, true) => Choice::of_environment(&env),
        (true, false) => ask_services(&env).map_err(|reason| (WRONG, reason))?,
    };
    let choices = match args.yes {
        true => choices,
        false => ask_keys(choices).map_err(|reason| (WRONG, reason))?,
    };
    write(&path, &configuration(&choices))?;
    say!("init: wrote {}", path.display());
    let missing: Vec<_> =
        choices.iter().filter_map(Choice::variable).filter(|name| !env.contains_key(*name)).collect();
    if missing.is_empty() {
        // `check` says what is wrong.
        if !run_check(&path, false)? {
            return Ok(ExitCode::from(WRONG));
        }
        if !args.yes
            && ask_yes("Send a small request to every service now (check --live)?")
                .map_err(|reason| (WRONG, reason))?
        {
            run_check(&path, true)?;
        }
    }
    match print(next::commands(&choices, &missing, args.config.as_deref())) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Ok(unwritten(&error, 0)),
    }
}

fn exists(path: &Path) -> String {
    format!(
        "{} exists, and is not overwritten: remove it, or name another file with --config",
        path.display()
    )
}

fn write(path: &Path, text: &str) -> Result<(), (u8, String)> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => (WRONG, exists(path)),
        _ => (FAILED, format!("{}: {error}", path.display())),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// Runs `check` as a user would. Returns whether the configuration is valid.
fn run_check(path: &Path, live: bool) -> Result<bool, (u8, String)> {
    let failed = |error: io::Error| (FAILED, format!("check: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let words = [OsStr::new("check"), OsStr::new("--config"), path.as_os_str()];
    let mut command = Command::new(program);
    command.args(words);
    if live {
        command.arg("--live");
    }
    Ok(command.status().map_err(failed)?.success())
}

/// Asks which services there are.
fn ask_services(env: &std::collections::BTreeMap<String, String>) -> Result<Vec<Choice>, String> {
    let found = Choice::of_environment(env);
    let is_found = |kind: Kind| found.iter().any(|choice| choice.kind == kind);
    say!("Which services will requests go to? Numbers, with commas between them:");
    for (number, kind) in KINDS.iter().enumerate() {
        let note =
            if is_found(*kind) && *kind != Kind::Simulator { " (its key is in the environment)" } else { "" };
        say!("  {} {}{note}", number + 1, kind.title());
    }
    let usual: Vec<_> = KINDS.iter().enumerate().filter(|(_, kind)| is_found(**kind)).collect();
    let usual: Vec<_> = usual.iter().map(|(number, _)| (number + 1).to_string()).collect();
    let numbers = ask("Services", &usual.join(","))?;
    let mut choices = Vec::new();
    for number in numbers.split(',').map(str::trim).filter(|number| !number.is_empty()) {
        let kind = number.parse().ok().and_then(|number: usize| KINDS.get(number.checked_sub(1)?));
        let kind = *kind.ok_or_else(|| format!("{number:?} is none of the numbers 1 to {}", KINDS.len()))?;
        if choices.iter().all(|choice: &Choice| choice.kind != kind) {
            let url = kind.url_question().map(|(question, usual)| ask(question, usual)).transpose()?;
            choices.push(Choice::new(kind, url)?);
        }
    }
    if choices.is_empty() { Err("no service was chosen".to_owned()) } else { Ok(choices) }
}

/// Asks for the variables of keys.
fn ask_keys(choices: Vec<Choice>) -> Result<Vec<Choice>, String> {
    let with_key = |choice: Choice| {
        let Some(usual) = choice.variable() else { return Ok(choice) };
        let question = format!("{}: variable with the key (- for none)", choice.kind.title());
        let name = ask(&question, usual)?;
        choice.with_variable(&name)
    };
    choices.into_iter().map(with_key).collect()
}

fn ask_yes(question: &str) -> Result<bool, String> {
    let reply = ask(&format!("{question} y/n"), "y")?;
    Ok(matches!(reply.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks on stderr, and reads a line of stdin. An empty one means `usual`.
fn ask(question: &str, usual: &str) -> Result<String, String> {
    let mut line = String::new();
    say!("{question} [{usual}]:");
    let read = io::stdin().lock().read_line(&mut line).map_err(|error| format!("stdin: {error}"))?;
    if read == 0 {
        let hint = if io::stdin().is_terminal() { "" } else { "; --yes asks nothing" };
        return Err(format!("the input has ended before all questions had a reply{hint}"));
    }
    let line = line.trim();
    Ok(if line.is_empty() { usual } else { line }.to_owned())
}
