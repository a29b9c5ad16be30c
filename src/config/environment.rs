//! Environment variables as keys: `STREAMGAUGE_SERVER__LISTEN` is `server.listen`.
//!
//! Two underscores separate a table and its key. Values are texts, and the key's reader converts
//! them, so that a secret of digits only stays a text. A part of the name means the key of the
//! file that equals it in any case and with `_` for `-`; without one, its lower case. Arrays of
//! tables, such as routes, cannot be set by variables.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::key_path::{KeyPath, PREFIX, SEPARATOR};
use super::mistakes::Mistake;
use super::notes::Asked;

/// The process's environment. Invalid Unicode is replaced, so that the key that uses it refuses it.
pub fn environment() -> BTreeMap<String, String> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect()
}

/// Returns true if the variable begins like a key of a section, but lacks the two underscores.
/// Other variables without them belong to other programs or to the user: a secret of `{ env =
/// "STREAMGAUGE_KEY" }`, or those that Kubernetes sets for a service of our name.
pub(super) fn is_stray(variable: &str, asked: &Asked) -> bool {
    let name = variable.strip_prefix(PREFIX).filter(|name| !name.contains(SEPARATOR));
    let section = name.and_then(|name| name.split_once('_')).map(|(section, _)| section.to_lowercase());
    section.is_some_and(|section| asked.contains_key(&KeyPath::root().key(&section)))
}

/// The variables that are keys, as a tree with the names of `file`, and the mistakes in their
/// names.
pub(super) fn tree(env: &BTreeMap<String, String>, file: &Dict) -> (Dict, Vec<Mistake>) {
    let mut tree = Dict::new();
    let mut mistakes = Vec::new();
    for (variable, value) in env {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let parts: Vec<_> = name.split(SEPARATOR).collect();
        if parts.len() < 2 {
            continue;
        }
        let result = if parts.contains(&"") {
            Err(
                "is not a key: two underscores separate a section and its key, as in STREAMGAUGE_SERVER__LISTEN",
            )
        } else {
            insert(&mut tree, Some(file), &parts, value)
        };
        if let Err(reason) = result {
            mistakes.push(Mistake { place: format!("environment {variable}"), reason: reason.to_owned() });
        }
    }
    (tree, mistakes)
}

fn insert(tree: &mut Dict, file: Option<&Dict>, parts: &[&str], value: &str) -> Result<(), &'static str> {
    let Some((part, deeper)) = parts.split_first() else { return Ok(()) };
    let key = file.and_then(|file| known(file, part)).map_or_else(|| part.to_lowercase(), str::to_owned);
    if deeper.is_empty() {
        tree.insert(key, Value::from(value));
        return Ok(());
    }
    let inner = match file.and_then(|file| file.get(&key)) {
        Some(Value::Dict(_, inner)) => Some(inner),
        Some(_) | None => None,
    };
    match tree.entry(key).or_insert_with(|| Value::from(Dict::new())) {
        Value::Dict(_, table) => insert(table, inner, deeper, value),
        _ => Err("contradicts another variable, which sets the whole value of which this one sets a part"),
    }
}

/// The file's key for a part of a variable's name; an exact match comes first.
fn known<'a>(file: &'a Dict, part: &str) -> Option<&'a str> {
    let lower = part.to_lowercase();
    let like = |key: &&String| key.to_lowercase().replace('-', "_") == lower.replace('-', "_");
    file.get_key_value(&lower).map(|(key, _)| key).or_else(|| file.keys().find(like)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use figment::providers::{Format, Toml};

    use super::*;
    use crate::config::kind::{Presence, Shape};

    fn read(variables: &[(&str, &str)], file: &str) -> (Dict, Vec<String>) {
        let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (tree, mistakes) = tree(&env, &Toml::from_str(file).unwrap());
        (tree, mistakes.iter().map(Mistake::to_string).collect())
    }

    fn toml(text: &str) -> Dict {
        Toml::from_str(text).unwrap()
    }

    #[test]
    fn two_underscores_separate_keys_and_values_stay_text() {
        let (tree, mistakes) = read(
            &[
                ("STREAMGAUGE_SERVER__MAX_REQUEST_BYTES", "10"),
                ("STREAMGAUGE_CLIENTS__A__KEY__VALUE", "0123"),
                ("PATH", "/bin"),
                ("STREAMGAUGE_CONFIG", "x.toml"),
            ],
            "",
        );
        assert_eq!(tree, toml("server.max_request_bytes = \"10\"\nclients.a.key.value = \"0123\""));
        assert_eq!(mistakes, [""; 0]);
    }

    #[test]
    fn variable_finds_the_spelling_of_the_file() {
        let variables = [
            ("STREAMGAUGE_UPSTREAMS__MY_AZURE__URL", "u"),
            ("STREAMGAUGE_UPSTREAMS__MY_AZURE__HEADERS__X_TEAM", "t"),
        ];
        let (tree, _) = read(&variables, "[upstreams.My-Azure.headers]\nX-Team = \"s\"");
        assert_eq!(tree, toml("upstreams.My-Azure = { url = \"u\", headers = { X-Team = \"t\" } }"));
        let (tree, _) = read(&variables, "[upstreams.my-azure]\n[upstreams.my_azure]");
        assert_eq!(tree, toml("upstreams.my_azure = { url = \"u\", headers = { x_team = \"t\" } }"));
    }

    #[test]
    fn variable_with_an_empty_part_is_a_mistake() {
        for name in ["SERVER__", "__LISTEN", "SERVER____LISTEN"] {
            let variable = format!("STREAMGAUGE_{name}");
            let (tree, mistakes) = read(&[(&variable, "x")], "");
            assert!(tree.is_empty() && mistakes.len() == 1, "{name}");
            assert!(
                mistakes[0].starts_with(&format!("environment {variable}: is not a key")),
                "{mistakes:?}"
            );
        }
    }

    #[test]
    fn variable_with_single_underscores_is_stray_in_a_section() {
        for (name, stray) in [
            ("STREAMGAUGE_SERVER_LISTEN", true),
            ("STREAMGAUGE_LEDGER_JSONL", true),
            ("STREAMGAUGE_SERVER__LISTEN", false),
            ("STREAMGAUGE_CONFIG", false),
            ("STREAMGAUGE_OPENAI_KEY", false),
            ("STREAMGAUGE_PORT_8080_TCP_ADDR", false),
            ("STREAMGAUGE_SERVICE_HOST", false),
        ] {
            let sections = ["server", "ledger"]
                .map(|key| (KeyPath::root().key(key), (Shape::Table, Presence::Optional)));
            assert_eq!(is_stray(name, &sections.into()), stray, "{name}");
            if name != "STREAMGAUGE_SERVER__LISTEN" {
                assert_eq!(read(&[(name, "x")], ""), (Dict::new(), vec![]), "{name}");
            }
        }
    }

    #[test]
    fn variables_for_a_value_and_its_part_contradict() {
        let (_, mistakes) =
            read(&[("STREAMGAUGE_CLIENTS__A__KEY", "x"), ("STREAMGAUGE_CLIENTS__A__KEY__VALUE", "y")], "");
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].contains("KEY__VALUE: contradicts another variable"), "{mistakes:?}");
    }
}
