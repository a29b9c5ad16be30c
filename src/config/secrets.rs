//! Secrets: never written as such unless the user insists, never repeated in a message.

use std::fs;
use std::io;

use super::notes::Read;
use super::reader::Entry;
use crate::secret::Secret;

/// The ways to say where a secret is.
const FORMS: &str =
    "write { env = \"NAME\" } or { file = \"PATH\" }, or { value = \"...\" } if it must stand here";

/// A secret, fetched from where the table says it is. Relative paths begin at the folder of the
/// file. One line break at the end of a file is not part of the secret. All come out fit to be a
/// header's value.
pub(super) fn secret(entry: &Entry<'_>) -> Read<Secret> {
    let text = fetch(entry)?;
    if let Some(reason) = unfit(&text) {
        return Err(entry.mistake(format!("the secret {reason}")));
    }
    if is_quoted(&text) {
        entry.warning(
            "the secret begins and ends with a quote, which is sent as a part of it: take the quotes out",
        );
    }
    Ok(Secret::new(text))
}

/// Whether the text was taken over with the quotes that a shell or a file of variables had around
/// it.
fn is_quoted(text: &str) -> bool {
    text.len() > 1 && ['"', '\'', '`'].iter().any(|quote| text.starts_with(*quote) && text.ends_with(*quote))
}

fn fetch(entry: &Entry<'_>) -> Read<String> {
    let Some(said) = entry.last_layer() else {
        return Err(entry.mistake(not_a_table(entry)));
    };
    let mut forms = Vec::new();
    for (key, form) in &said {
        if matches!(*key, "env" | "file" | "value") {
            form.known();
            forms.push((*key, form));
        } else {
            form.unknown();
        }
    }
    match forms.as_slice() {
        [(key, form)] => {
            let text = form.text()?;
            match *key {
                "env" => from_variable(form, text),
                "file" => from_file(form, text),
                _ if text.is_empty() => Err(form.mistake("is empty")),
                _ => Ok(text.to_owned()),
            }
        }
        [] => Err(entry.mistake(format!("does not say where the secret is: {FORMS}"))),
        _ => {
            let keys: Vec<_> = forms.iter().map(|(key, _)| *key).collect();
            Err(entry.mistake(format!("says {} at once: keep one of them", keys.join(" and "))))
        }
    }
}

/// The text itself may be the secret, so it is not shown.
fn not_a_table(entry: &Entry<'_>) -> String {
    if entry.is_from_environment() {
        let variable = |form: &str| entry.path().key(form).variable();
        return format!(
            "must say where the secret is: set {} or {}, or {} to the secret itself",
            variable("env"),
            variable("file"),
            variable("value")
        );
    }
    format!("is a secret, which is a table that says where it is: {FORMS}")
}

/// Who took `env` for the place of the secret itself finds no secret in the message: only what
/// looks like a variable's name is repeated.
pub(super) fn from_variable(form: &Entry<'_>, name: &str) -> Read<String> {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    match form.variable(name) {
        Some(value) => Ok(value.to_owned()),
        None if name.is_empty() => Err(form.mistake("names no environment variable")),
        None if name.bytes().all(is_name) => {
            Err(form.mistake(format!("the environment variable {name} is not set, or empty")))
        }
        None => Err(form.mistake(
            "there is no environment variable of that name: write the name of one, not the secret itself",
        )),
    }
}

fn from_file(form: &Entry<'_>, path: &str) -> Read<String> {
    if path.is_empty() {
        return Err(form.mistake("names no file"));
    }
    let path = form.folder().join(path);
    let text = fs::read_to_string(&path).map_err(|error| {
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

/// Why a text cannot be sent in a header as it is. Spaces at the ends would be trimmed on the way.
pub(super) fn unfit(text: &str) -> Option<&'static str> {
    if text.ends_with(['\n', '\r']) {
        Some("ends with a line break: take it out")
    } else if text.contains(['\n', '\r']) {
        Some("has a line break inside")
    } else if !text.is_ascii() || text.bytes().any(|byte| byte.is_ascii_control()) {
        Some("has characters that a header cannot carry; it must be plain ASCII")
    } else if text.trim() != text || text.is_empty() {
        Some("begins or ends with a space, or is nothing else")
    } else {
        None
    }
}
