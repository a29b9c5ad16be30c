//! The configuration file: the choice of the file, and its text as TOML.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::Dict;

use super::files::{Files, MAX_CONFIGURATION};
use super::mistakes::Mistake;
use super::outline::Outline;
use crate::support::whole_file::{read_any, read_regular};

/// The variable that names the file. It is not a key of the configuration.
pub(super) const VARIABLE: &str = "STREAMGAUGE_CONFIG";

/// The files that are tried if none is named.
pub(super) const CANDIDATES: [&str; 2] = ["streamgauge.toml", "/etc/streamgauge/streamgauge.toml"];

/// The name of a configuration without a file, in messages.
pub(super) const NAMELESS: &str = "configuration";

/// A file that is valid TOML; its keys are not checked yet.
pub(super) struct File {
    /// `None` for a text that is not from a file.
    pub(super) origin: Option<PathBuf>,
    /// The file, with the contents that were read.
    pub(super) files: Files,
    pub(super) values: Dict,
    pub(super) outline: Outline,
}

/// Reads the file that `--config` names, else the one that the environment names, else the first of
/// `candidates` that exists. A named file must exist.
pub(super) fn find(
    option: Option<&Path>,
    env: &BTreeMap<String, String>,
    candidates: &[&str],
) -> Result<Option<File>, Mistake> {
    find_with(option, env, candidates, parse)
}

/// Like [`find`], with another function that reads the text.
pub(super) fn find_with(
    option: Option<&Path>,
    env: &BTreeMap<String, String>,
    candidates: &[&str],
    parse: fn((PathBuf, String)) -> Result<Option<File>, Mistake>,
) -> Result<Option<File>, Mistake> {
    let variable = env.get(VARIABLE).filter(|path| !path.is_empty());
    let named = match (option, variable) {
        (Some(path), _) => Some((path, "--config".to_owned())),
        (None, Some(path)) => Some((Path::new(path), format!("environment {VARIABLE}"))),
        (None, None) => None,
    };
    if let Some((path, place)) = named {
        return read_any(path, MAX_CONFIGURATION)
            .and_then(|(bytes, _)| text(bytes))
            .map(|text| (path.to_owned(), text))
            .map_err(|error| Mistake { place, reason: unreadable(path, &error) })
            .and_then(parse);
    }
    for path in candidates.iter().map(Path::new) {
        match read(path) {
            Ok(text) => return parse((path.to_owned(), text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(misread(path, &error)),
        }
    }
    Ok(None)
}

/// Reads the file of an earlier reading again. No other file replaces it: a running process must
/// not switch to another configuration because its file is missing.
pub(super) fn read_again(path: &Path) -> Result<Option<File>, Mistake> {
    parse((path.to_owned(), read(path).map_err(|error| misread(path, &error))?))
}

fn read(path: &Path) -> io::Result<String> {
    text(read_regular(path, MAX_CONFIGURATION)?)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn misread(path: &Path, error: &io::Error) -> Mistake {
    Mistake { place: path.display().to_string(), reason: unreadable(path, error) }
}

fn parse((path, text): (PathBuf, String)) -> Result<Option<File>, Mistake> {
    File::parse(Some(path), &text).map(Some)
}

/// Parses the lines before the first one that is not TOML.
pub(super) fn parse_begun((path, text): (PathBuf, String)) -> Result<Option<File>, Mistake> {
    let mut text = text.as_str();
    while let Err(error) = Toml::from_str::<Dict>(text) {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        // The line itself is removed too, so that the text gets shorter each time.
        let line = text.as_bytes()[..at].iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
        text = &text[..line.min(text.len().saturating_sub(1))];
    }
    parse((path, text.to_owned()))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file {}", path.display()),
        io::ErrorKind::InvalidData => format!("{} is not UTF-8 text", path.display()),
        _ => format!("cannot read {}: {error}", path.display()),
    }
}

impl File {
    /// The message does not show the line, which may contain a secret.
    pub(super) fn parse(origin: Option<PathBuf>, text: &str) -> Result<Self, Mistake> {
        let wrong = |span: Option<Range<usize>>, message: &str| {
            let (line, column) = line_and_column(text, span.map_or(0, |span| span.start));
            let message = message.trim().replace('\n', ", ");
            let file = origin.as_ref().map_or_else(|| NAMELESS.to_owned(), |path| path.display().to_string());
            Mistake {
                place: format!("{file}:{line}:{column}"),
                reason: format!("this is not TOML: {message}"),
            }
        };
        let values = Toml::from_str::<Dict>(text).map_err(|error| wrong(error.span(), error.message()))?;
        let outline = Outline::of(text).map_err(|error| wrong(error.span(), error.message()))?;
        let mut files = Files::default();
        if let Some(origin) = &origin {
            files.add_origin(origin, text.as_bytes());
        }
        Ok(Self { origin, files, values, outline })
    }
}

/// Both count from 1. Columns are characters.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or(before);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn error(option: Option<&Path>, env: &BTreeMap<String, String>, candidates: &[&str]) -> String {
        find(option, env, candidates).err().expect("a mistake").to_string()
    }

    #[test]
    fn option_wins_over_variable_and_variable_over_candidates() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["option", "variable", "first", "second"].map(|name| {
            let path = folder.path().join(name);
            fs::write(&path, format!("name = {name:?}")).unwrap();
            path
        });
        let [option, variable, first, second] = paths.each_ref().map(|path| path.to_str().unwrap());
        let gone = folder.path().join("gone");
        let gone = gone.to_str().unwrap();
        let found = |option: Option<&str>, variable: Option<&str>, candidates: &[&str]| {
            let env = variable.map(|path| (VARIABLE.to_owned(), path.to_owned())).into_iter().collect();
            find(option.map(Path::new), &env, candidates).unwrap().map(|file| file.origin.unwrap())
        };
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(found(Some(option), Some(variable), &[first]), path(option));
        assert_eq!(found(None, Some(variable), &[first]), path(variable));
        assert_eq!(found(None, Some(""), &[first, second]), path(first), "an empty variable is none");
        assert_eq!(found(None, None, &[gone, second]), path(second));
        assert_eq!(found(None, None, &[gone]), None);
    }

    #[test]
    fn named_file_that_is_missing_is_a_mistake() {
        let none = BTreeMap::new();
        assert_eq!(error(Some(Path::new("gone.toml")), &none, &[]), "--config: there is no file gone.toml");
        let env = [(VARIABLE.to_owned(), "gone.toml".to_owned())].into();
        assert_eq!(error(None, &env, &[]), "environment STREAMGAUGE_CONFIG: there is no file gone.toml");
    }

    #[test]
    fn unreadable_candidate_file_is_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latin1.toml");
        fs::write(&path, b"x = \"\xe9\"").unwrap();
        for (path, reason) in [(folder.path(), "cannot read"), (path.as_path(), "is not UTF-8 text")] {
            let error = error(None, &BTreeMap::new(), &[path.to_str().unwrap()]);
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn syntax_error_has_line_and_column_and_no_text() {
        for (text, place) in [
            ("[server\n", "1:8"),
            ("[server]\nlisten = \"127.0.0.1:1\nworkers = 1", "2:22"),
            ("\n\nk\u{e9}y = sk-marker", "3:2"),
            ("key = { value = \"sk-marker\"\n", "1:28"),
            ("[a]\nx = 1\nx = 2", "3:1"),
        ] {
            let error = File::parse(Some("f.toml".into()), text).err().expect(text).to_string();
            assert!(error.starts_with(&format!("f.toml:{place}: this is not TOML: ")), "{error}");
            assert!(!error.contains("marker") && !error.contains('\n'), "{error}");
        }
    }
}
