//! `streamgauge import`: configurations of other gateways as ours, on stdout, with a verdict for each
//! key on stderr.
//!
//! Exit status: 0 everything was taken, or nearly, 1 something is left, or the result cannot be
//! written, 2 a wrong argument, or a file of another kind.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::output::{print, unwritten};
use super::{FAILED, WRONG};
use crate::import::litellm::{Treatment, import};
use crate::import::litellm_keys::import_keys;
use crate::support::whole_file::read_any;

/// The largest file. An export of 100,000 keys has 40 MB.
const MAX_FILE: usize = 256 << 20;

/// Options of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Convert the config.yaml of LiteLLM's proxy
    ///
    /// The configuration goes to stdout. On stderr is a line for each key of the source: taken,
    /// near (with the difference), by hand (with what to do), or not here (with the reason).
    Litellm(LitellmArgs),
    /// Convert virtual keys of LiteLLM's database into clients
    ///
    /// FILE is an export of "LiteLLM_VerificationToken", as CSV with a header or as JSON: the
    /// column token, and as far as they are used key_alias, max_budget, budget_duration, tpm_limit,
    /// rpm_limit, max_parallel_requests, models, expires, blocked and team_id. Both programs store
    /// SHA-256 digests, so that the keys stay valid.
    LitellmKeys(KeysArgs),
}

#[derive(Debug, Args)]
struct LitellmArgs {
    /// The configuration (YAML)
    file: PathBuf,
    /// Write nothing unless everything is taken or near
    #[arg(long)]
    strict: bool,
    /// Copy secrets that are in the file, in place of naming variables for them
    #[arg(long)]
    with_secrets: bool,
}

#[derive(Debug, Args)]
struct KeysArgs {
    /// The export (CSV or JSON)
    file: PathBuf,
    /// Write nothing unless everything is taken or near
    #[arg(long)]
    strict: bool,
}

/// A converted file: its text, and the verdicts with their lines.
type Converted = (String, Vec<(Treatment, String)>);

/// The result goes to stdout, everything else to stderr.
pub(super) fn run(args: &ImportArgs) -> ExitCode {
    let (file, strict) = match &args.command {
        Command::Litellm(args) => (&args.file, args.strict),
        Command::LitellmKeys(args) => (&args.file, args.strict),
    };
    let text = match read(file) {
        Ok(text) => text,
        Err((status, message)) => {
            say!("import: {message}");
            return ExitCode::from(status);
        }
    };
    match converted(&args.command, file, &text) {
        Ok(converted) => finish(&converted, strict),
        Err(reason) => {
            say!("import: {} {reason}", file.display());
            ExitCode::from(WRONG)
        }
    }
}

fn read(file: &Path) -> Result<String, (u8, String)> {
    let (bytes, _) =
        read_any(file, MAX_FILE).map_err(|error| (FAILED, format!("{}: {error}", file.display())))?;
    String::from_utf8(bytes).map_err(|_| (WRONG, format!("{} is not UTF-8 text", file.display())))
}

fn converted(command: &Command, file: &Path, text: &str) -> Result<Converted, String> {
    match command {
        Command::Litellm(args) => {
            let imported = import(text, args.with_secrets)?;
            let line = |finding: &crate::import::litellm::Finding| {
                (finding.verdict, format!("{}:{finding}", file.display()))
            };
            Ok((imported.toml, imported.findings.iter().map(line).collect()))
        }
        Command::LitellmKeys(_) => {
            let imported = import_keys(text, Timestamp::now())?;
            let line =
                |(verdict, note): (Treatment, String)| (verdict, format!("{}: {note}", verdict.as_str()));
            Ok((imported.toml, imported.notes.into_iter().map(line).collect()))
        }
    }
}

fn finish((toml, findings): &Converted, strict: bool) -> ExitCode {
    findings.iter().for_each(|(_, line)| say!("{line}"));
    let count = |wanted: Treatment| findings.iter().filter(|(verdict, _)| *verdict == wanted).count();
    say!(
        "import: {} taken, {} near, {} by hand, {} not here",
        count(Treatment::Taken),
        count(Treatment::Near),
        count(Treatment::ByHand),
        count(Treatment::NotHere)
    );
    let is_left = findings.iter().any(|(verdict, _)| verdict.is_left());
    if toml.is_empty() {
        say!("import: nothing is written, since no deployment could be taken");
        return ExitCode::from(FAILED);
    }
    if is_left && strict {
        say!("import: nothing is written, since --strict takes everything or nothing");
        return ExitCode::from(FAILED);
    }
    let status = if is_left { FAILED } else { 0 };
    match print(toml) {
        Ok(()) => ExitCode::from(status),
        Err(error) => unwritten(&error, status),
    }
}
