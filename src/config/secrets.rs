//! Secrets: read from a variable or a file, never repeated in a message.

use std::io;

use super::kind::{Kind, Shape};
use super::notes::Read;
use super::reader::Entry;
use crate::support::secret::Secret;

/// The keys that locate a secret.
const FORMS: &[&str] = &["env", "file", "value"];

const ADVICE: &str =
    "write { env = \"NAME\" } or { file = \"PATH\" }, or { value = \"...\" } if it must stand here";

/// A secret that is valid as a header's value. Relative paths refer to the directory of the file.
/// One line break at the end of a file is not part of the secret.
pub(super) fn secret() -> Kind<impl Fn(&Entry<'_>) -> Read<Secret>> {
    Kind::new(secret_shape(), read)
}

pub(super) fn secret_shape() -> Shape {
    Shape::Source("secret", FORMS)
}

/// A text, or a secret that is marked with `true`.
pub(super) fn text_or_secret(entry: &Entry<'_>) -> Read<(String, bool)> {
    match entry.as_text() {
        Some(text) => Ok((text.to_owned(), false)),
        None => Ok((read(entry)?.expose().to_owned(), true)),
    }
}

pub(super) fn text_or_secret_shape() -> Shape {
    Shape::AnyOf(vec![Shape::Text("text", None), secret_shape()])
}

fn read(entry: &Entry<'_>) -> Read<Secret> {
    checked(entry, locate(entry)?)
}

fn locate(entry: &Entry<'_>) -> Read<String> {
    Ok(match source(entry, "the secret", FORMS, ADVICE, || not_a_table(entry))? {
        ("env", form, name) => {
            let text = from_variable(&form, &name)?;
            entry.comes_from(&name);
            text
        }
        ("file", form, path) => from_file(&form, &path)?,
        (_, _, text) => text,
    })
}

/// A text with secrets, such as a file of credentials, which may have several lines.
pub(super) fn document() -> Kind<impl Fn(&Entry<'_>) -> Read<Secret>> {
    Kind::new(secret_shape(), |entry: &Entry<'_>| locate(entry).map(Secret::new))
}

/// The name of a variable that has a secret, as a key of its own.
pub(super) fn secret_variable() -> Kind<impl Fn(&Entry<'_>) -> Read<Secret>> {
    Kind::new(Shape::Text("name of a variable", Some("^.+$")), |entry: &Entry<'_>| {
        let name = entry.text("the name of an environment variable in quotes")?;
        let text = from_variable(entry, name)?;
        entry.comes_from(name);
        checked(entry, text)
    })
}

/// The path of a file that has a secret, as a key of its own.
pub(super) fn secret_file() -> Kind<impl Fn(&Entry<'_>) -> Read<Secret>> {
    Kind::new(Shape::Text("path", Some("^.+$")), |entry: &Entry<'_>| {
        match entry.text("a path in quotes")? {
            "" => Err(entry.mistake("names no file")),
            path => checked(entry, from_file(entry, path)?),
        }
    })
}

/// A secret as text, as a key of its own.
pub(super) fn secret_text() -> Kind<impl Fn(&Entry<'_>) -> Read<Secret>> {
    Kind::new(Shape::Secret, |entry: &Entry<'_>| checked(entry, entry.text("text in quotes")?.to_owned()))
}

/// Reports a text that a header cannot carry, and warns of quotes around it.
fn checked(entry: &Entry<'_>, text: String) -> Read<Secret> {
    if let Some(reason) = unfit(&text) {
        return Err(entry.mistake(format!("the secret {reason}")));
    }
    if is_quoted(&text) {
        entry.warning(
            "the secret begins and ends with a quote, which is sent as a part of it: remove the quotes",
        );
    }
    Ok(Secret::new(text))
}

/// Reads a table that locates `what` with one of `forms`. Returns the form, its entry, and its
/// text, which is not empty.
pub(super) fn source<'a>(
    entry: &Entry<'a>,
    what: &str,
    forms: &[&'static str],
    advice: &str,
    not_a_table: impl FnOnce() -> String,
) -> Read<(&'static str, Entry<'a>, String)> {
    let (key, form) = entry.one_of(forms).map_err(|found| {
        entry.mistake(match found {
            None => not_a_table(),
            Some(found) if found.is_empty() => format!("does not say where {what} is: {advice}"),
            Some(found) => format!("has {} at once: keep one of them", found.join(" and ")),
        })
    })?;
    match (form.text("text in quotes")?, key) {
        ("", "env") => Err(form.mistake("names no environment variable")),
        ("", "file") => Err(form.mistake("names no file")),
        ("", _) => Err(form.mistake("is empty")),
        (text, _) => {
            let text = text.to_owned();
            Ok((key, form, text))
        }
    }
}

/// Returns true if the text includes the quotes of a shell or of a file of variables.
fn is_quoted(text: &str) -> bool {
    text.len() > 1 && ['"', '\'', '`'].iter().any(|quote| text.starts_with(*quote) && text.ends_with(*quote))
}

/// The text itself may be the secret, so the message does not show it.
fn not_a_table(entry: &Entry<'_>) -> String {
    if !entry.is_from_environment() {
        return format!("is a secret, which is a table that says where it is: {ADVICE}");
    }
    let [env, file, value] = ["env", "file", "value"].map(|form| entry.path().key(form).variable());
    format!("must say where the secret is: set {env} or {file}, or {value} to the secret itself")
}

/// The value of the variable. A name that does not look like a variable's may be the secret itself,
/// so the message does not repeat it.
pub(super) fn from_variable(form: &Entry<'_>, name: &str) -> Read<String> {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    match form.variable(name) {
        Some(value) => Ok(value.to_owned()),
        None if name.bytes().all(is_name) => {
            Err(form.mistake(format!("the environment variable {name} is not set, or empty")))
        }
        None => Err(form.mistake(
            "there is no environment variable of that name: write the name of one, not the secret itself",
        )),
    }
}

fn from_file(form: &Entry<'_>, path: &str) -> Read<String> {
    let path = form.folder().join(path);
    let text = form.secret_file(&path).map_err(|error| {
        let path = path.display();
        form.mistake(match error.kind() {
            io::ErrorKind::NotFound => format!("there is no file {path}"),
            io::ErrorKind::InvalidData => format!("{path} is not text"),
            _ => format!("cannot read {path}: {error}"),
        })
    })?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        Err(form.mistake(format!("{} is empty", path.display())))
    } else {
        Ok(text.to_owned())
    }
}

/// The reason for which a header cannot carry the text unchanged. Receivers trim spaces at the
/// ends.
pub(super) fn unfit(text: &str) -> Option<&'static str> {
    if text.ends_with(['\n', '\r']) {
        Some("ends with a line break: remove it")
    } else if text.contains(['\n', '\r']) {
        Some("has a line break inside")
    } else if !text.is_ascii() || text.bytes().any(|byte| byte.is_ascii_control()) {
        Some("has characters that a header cannot carry; it must be plain ASCII")
    } else if text.trim() != text || text.is_empty() {
        Some("begins or ends with a space, or has nothing else")
    } else {
        None
    }
}
