//! `streamgauge check`: reads the configuration, names every mistake, or says what it means; with `--live` it also asks every
//! upstream something.

mod advice;
mod answer;
mod finding;
mod live;
mod summary;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{FAILED, WRONG};
use crate::config::{self, Loaded, Overrides, Sources, Upstream};
use finding::Finding;
use live::Question;
use summary::Summary;

/// Options of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file [default: $STREAMGAUGE_CONFIG, ./streamgauge.toml, /etc/streamgauge/streamgauge.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Also send a small request through each upstream, as `serve` would, and say what came back; it costs some tokens, and is
    /// in no ledger
    #[arg(long)]
    live: bool,
    /// Only this upstream; may be repeated
    #[arg(long, value_name = "NAME", requires = "live")]
    upstream: Vec<String>,
    #[command(flatten)]
    question: Question,
}

/// A summary and what was found go to stdout; mistakes and warnings go to stderr.
pub(super) fn run(args: &CheckArgs) -> ExitCode {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(WRONG);
        }
    };
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let written = if args.live { check(args, &loaded) } else { write(&Summary(&loaded)).map(|()| 0) };
    match written {
        Ok(status) => ExitCode::from(status),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(FAILED)
        }
    }
}

/// Asks the chosen upstreams; the exit status.
fn check(args: &CheckArgs, loaded: &Loaded) -> Result<u8, String> {
    let upstreams = match chosen(&args.upstream, &loaded.settings.upstreams) {
        Ok(upstreams) => upstreams,
        Err(message) => {
            eprintln!("{message}");
            return Ok(WRONG);
        }
    };
    let body = match args.question.body() {
        Ok(body) => body,
        Err(message) => {
            eprintln!("{message}");
            return Ok(WRONG);
        }
    };
    if args.upstream.is_empty() {
        write(&Summary(loaded))?;
    }
    let mut status = 0;
    let mut gap = if args.upstream.is_empty() { "\n" } else { "" };
    live::each(&loaded.settings, &upstreams, &args.question, body.as_ref(), |finding: &Finding<'_>| {
        if finding.failure.is_some() {
            status = FAILED;
        }
        write(&format_args!("{}{finding}", std::mem::replace(&mut gap, "\n")))
    })?;
    Ok(status)
}

/// The upstreams of these names; all of them where there are no names.
fn chosen<'a>(names: &[String], upstreams: &'a [Upstream]) -> Result<Vec<&'a Upstream>, String> {
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

fn write(text: &dyn std::fmt::Display) -> Result<(), String> {
    let mut out = io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).map_err(|error| format!("stdout: {error}"))
}
