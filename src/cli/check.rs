//! `streamgauge check`: reads the configuration and lists every mistake, or summarizes it. `--live`
//! also sends a request to each upstream.

mod advice;
mod finding;
mod live;
mod probe;
mod reply;
mod summary;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output::{print, unwritten};
use super::{FAILED, WRONG};
use crate::app::obstacles::{Obstacle, obstacles};
use crate::config::{self, Loaded, Overrides, Sources, Upstream};
use finding::Finding;
use probe::Probe;
use summary::Summary;

/// Options of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[arg(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Also send a small request through each upstream, as `serve` would, and report the response;
    /// it costs some tokens, which no ledger counts
    #[arg(long)]
    live: bool,
    /// Only this upstream; may be repeated
    #[arg(long, value_name = "NAME", requires = "live")]
    upstream: Vec<String>,
    #[command(flatten)]
    question: Probe,
}

/// Prints the summary and findings to stdout, mistakes and warnings to stderr.
pub(super) fn run(args: &CheckArgs) -> ExitCode {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            say!("{mistakes}\n{}", verdict(mistakes.0.len()));
            return ExitCode::from(WRONG);
        }
    };
    for warning in &loaded.warnings {
        say!("warning: {warning}");
    }
    let mut status = 0;
    let ended = if args.live { check(args, &loaded, &mut status) } else { offline(&loaded, &mut status) };
    match ended {
        Ok(()) => ExitCode::from(status),
        Err(Failed::Here(code, message)) => {
            say!("{message}");
            ExitCode::from(code)
        }
        Err(Failed::Stdout(error)) => unwritten(&error, status),
    }
}

/// Prints the summary, and whether a start would succeed now.
fn offline(loaded: &Loaded, status: &mut u8) -> Result<(), Failed> {
    print(Summary(loaded))?;
    let mut fatal = 0;
    for obstacle in obstacles(loaded) {
        match obstacle {
            Obstacle::Fatal(message) => {
                say!("{message}");
                fatal += 1;
            }
            Obstacle::Replaced(message) => say!("warning: {message}; a restart ends it first"),
        }
    }
    if fatal > 0 {
        *status = WRONG;
        say!("{}", verdict(fatal));
        return Ok(());
    }
    Ok(print(format_args!("{}\n", verdict(0)))?)
}

/// The last line of a check.
fn verdict(mistakes: usize) -> String {
    match mistakes {
        0 => "configuration is valid".to_owned(),
        1 => "configuration is not valid: 1 mistake".to_owned(),
        more => format!("configuration is not valid: {more} mistakes"),
    }
}

/// The reason for which a check ended early.
enum Failed {
    Here(u8, String),
    Stdout(io::Error),
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self::Here(FAILED, message)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Stdout(error)
    }
}

/// Sends a request to each selected upstream; sets the exit status as findings arrive.
fn check(args: &CheckArgs, loaded: &Loaded, status: &mut u8) -> Result<(), Failed> {
    let wrong = |message| Failed::Here(WRONG, message);
    let upstreams = selected(&args.upstream, &loaded.settings.upstreams).map_err(wrong)?;
    let body = args.question.body().map_err(wrong)?;
    if args.upstream.is_empty() {
        print(Summary(loaded))?;
    }
    let mut gap = if args.upstream.is_empty() { "\n" } else { "" };
    live::each(&loaded.settings, &upstreams, &args.question, body.as_ref(), |finding: &Finding<'_>| {
        if finding.failure.is_some() {
            *status = FAILED;
        }
        Ok(print(format_args!("{}{finding}", std::mem::replace(&mut gap, "\n")))?)
    })
}

/// The upstreams with these names; all if there are no names.
fn selected<'a>(names: &[String], upstreams: &'a [Upstream]) -> Result<Vec<&'a Upstream>, String> {
    if names.is_empty() {
        return Ok(upstreams.iter().collect());
    }
    let find = |name: &String| {
        upstreams.iter().find(|upstream| upstream.name == *name).ok_or_else(|| {
            let known: Vec<_> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
            format!("--upstream: there is no upstream {name:?}, only {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}
