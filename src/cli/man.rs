//! `streamgauge man`: the manual pages, made from the same descriptions as `--help`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use jiff::Timestamp;

use super::output::{print, unwritten};
use super::{Cli, FAILED};

/// Options of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write the page of each command into this folder, as streamgauge-NAME.1
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// The main page goes to stdout, unless a folder is named.
pub(super) fn run(args: &ManArgs) -> ExitCode {
    let Some(folder) = &args.into else {
        return match page(command()).and_then(|page| print(String::from_utf8_lossy(&page))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => unwritten(&error, 0),
        };
    };
    match write(command(), folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("man: {}: {error}", folder.display());
            ExitCode::from(FAILED)
        }
    }
}

/// The command line, with the whole names of subcommands.
fn command() -> Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

/// Writes the page of a command, and those of its subcommands.
fn write(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for subcommand in command.get_subcommands() {
        write(subcommand.clone(), folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    fs::write(folder.join(format!("{name}.1")), page(command)?)
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_uppercase();
    let mut page = Vec::new();
    Man::new(command).title(name).date(date()).manual("User Commands").render(&mut page)?;
    Ok(tidy(&String::from_utf8_lossy(&page)).into_bytes())
}

/// The date of the pages: `SOURCE_DATE_EPOCH` where it is set
/// (reproducible-builds.org/specs/source-date-epoch), today otherwise.
fn date() -> String {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let time = given.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_else(Timestamp::now);
    time.strftime("%Y-%m-%d").to_string()
}

/// Removes what makes `mandoc -T lint` complain: breaks beside empty lines, and trailing spaces.
fn tidy(page: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in page.lines().map(str::trim_end) {
        match (lines.last(), line) {
            (Some(&"" | &".sp" | &".br"), ".br") => continue,
            (Some(&".br"), "" | ".sp") => drop(lines.pop()),
            _ => {}
        }
        lines.push(line);
    }
    lines.iter().flat_map(|line| [*line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_beside_empty_lines_are_removed() {
        assert_eq!(tidy("a \n.br\n.sp\n.br\n.br\nb\n.br\n\n.br\nc"), "a\n.sp\nb\n\nc\n");
    }

    #[test]
    fn every_command_has_a_page_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        write(command(), folder.path()).unwrap();
        for name in ["streamgauge", "streamgauge-serve", "streamgauge-keys-create"] {
            let page = fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(&format!(".TH {} 1", name.to_uppercase())), "{page}");
        }
    }
}
