//! LiteLLM's virtual keys as clients: an export of the columns of `LiteLLM_VerificationToken`, as CSV
//! with a header or as JSON.
//!
//! LiteLLM stores the SHA-256 digest of a key, which is what we store: the keys stay valid, and
//! stay unknown.

mod csv;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::litellm::Treatment;
use super::toml_text::{key as toml_key, quoted};

/// The largest name of a client, in bytes.
const MAX_NAME: usize = 64;

/// Values of `models` that allow every model.
const ALL_MODELS: [&str; 3] = ["all-proxy-models", "all-team-models", "*"];

/// Columns that are read.
const READ: [&str; 12] = [
    "token",
    "key_alias",
    "key_name",
    "max_budget",
    "budget_duration",
    "tpm_limit",
    "rpm_limit",
    "max_parallel_requests",
    "models",
    "expires",
    "blocked",
    "team_id",
];

/// Columns whose values say nothing about future requests.
const NEEDLESS: [&str; 16] = [
    "spend",
    "total_spend",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
    "settings_updated_at",
    "last_active",
    "rotation_count",
    "last_rotation_at",
    "key_rotation_at",
    "budget_reset_at",
    "model_spend",
    "soft_budget_cooldown",
    "user_id",
    "metadata",
];

/// Clients for the keys of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedKeys {
    /// Tables of `[clients]`.
    pub toml: String,
    /// A line for each key, and for each value that has no counterpart.
    pub notes: Vec<(Treatment, String)>,
}

/// Converts an export. Keys that have expired at `now` are left out.
///
/// # Errors
/// Fails with the reason for which the text is no such export.
pub fn import_keys(text: &str, now: Timestamp) -> Result<ImportedKeys, String> {
    let rows = rows(text)?;
    if !rows.iter().all(|row| row.contains_key("token")) || rows.is_empty() {
        return Err("is no export of LiteLLM's keys: it has no rows with a column `token`".to_owned());
    }
    let mut names = BTreeSet::new();
    let mut imported = ImportedKeys { toml: HEADER.to_owned(), notes: Vec::new() };
    for row in &rows {
        one(row, now, &mut names, &mut imported)?;
    }
    Ok(imported)
}

const HEADER: &str = "\
# Virtual keys of LiteLLM, converted by `streamgauge import litellm-keys`: add these tables to the
# configuration. The digests are those of LiteLLM's database; the keys stay valid.
";

/// A JSON array, an object in each line, or CSV.
fn rows(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.chars().next() {
        Some('[') => serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}")),
        Some('{') => {
            let rows = serde_json::Deserializer::from_str(text).into_iter();
            rows.collect::<Result<_, _>>().map_err(|error| format!("is not JSON: {error}"))
        }
        _ => csv::rows(text),
    }
}

fn one(
    row: &Map<String, Value>,
    now: Timestamp,
    names: &mut BTreeSet<String>,
    imported: &mut ImportedKeys,
) -> Result<(), String> {
    let digest = text(row, "token").unwrap_or_default().to_ascii_lowercase();
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_digest {
        // A key that is no digest would be shown here.
        return Err("has a token that is no SHA-256 digest".to_owned());
    }
    let wanted = text(row, "key_alias")
        .or_else(|| text(row, "key_name"))
        .unwrap_or_else(|| format!("key-{}", &digest[..8]));
    let name = free_name(&wanted, names);
    let mut note = |verdict, words: String| imported.notes.push((verdict, format!("{name}: {words}")));
    if row.get("blocked").is_some_and(is_true) {
        note(Treatment::Taken, "is blocked, and left out".to_owned());
        return Ok(());
    }
    let until = match text(row, "expires") {
        None => None,
        Some(text) => match time(&text) {
            Some(end) if end <= now => {
                note(Treatment::Taken, "has expired, and is left out".to_owned());
                return Ok(());
            }
            Some(end) => Some(end),
            None => {
                note(Treatment::ByHand, format!("expires: {text:?} is no time: write `until` of its key"));
                None
            }
        },
    };
    let Some(limits) = limits(row, &mut note) else { return Ok(()) };
    if let Some(team) = text(row, "team_id") {
        let words = format!(
            "team_id: {team}: its limits are not in the export: write [teams.NAME], and team = \"NAME\" here"
        );
        note(Treatment::ByHand, words);
    }
    for (column, value) in row.iter().filter(|(column, value)| !is_known(column) && !is_off(value)) {
        note(Treatment::NotHere, format!("{column}: {value} has no counterpart"));
    }
    note(Treatment::Taken, format!("the key {}", &digest[..8]));
    let until = until.map(|until| format!(", until = \"{until}\"")).unwrap_or_default();
    let text = &mut imported.toml;
    // A string takes all that is written.
    let _ = writeln!(text, "\n[clients.{}]\nkeys = [{{ sha256 = \"{digest}\"{until} }}]", toml_key(&name));
    let models = models(row);
    if !models.is_empty() {
        let models: Vec<_> = models.iter().map(|model| quoted(model)).collect();
        let _ = writeln!(text, "models = [{}]", models.join(", "));
    }
    if !limits.is_empty() {
        let _ = writeln!(text, "limits = [{}]", limits.join(", "));
    }
    Ok(())
}

/// The limits, as TOML. `None`: one of them has no counterpart, and without it the key could do
/// more than before, so that it is left out.
fn limits(row: &Map<String, Value>, note: &mut impl FnMut(Treatment, String)) -> Option<Vec<String>> {
    let mut limits = Vec::new();
    for (column, what, per) in [
        ("rpm_limit", "requests", ", per = \"minute\""),
        ("tpm_limit", "tokens", ", per = \"minute\""),
        ("max_parallel_requests", "concurrent", ""),
    ] {
        match number(row, column) {
            Some(count) if count >= 1.0 && count.fract() == 0.0 => {
                limits.push(format!("{{ {what} = {count}{per} }}"))
            }
            Some(count) => {
                let words = format!("{column}: {count} is no limit here: the key is left out");
                note(Treatment::ByHand, words);
                return None;
            }
            None => {}
        }
    }
    let Some(budget) = number(row, "max_budget") else { return Some(limits) };
    match text(row, "budget_duration").as_deref().map(period) {
        Some(Some((per, is_same))) if budget > 0.0 => {
            limits.push(format!("{{ cost = {budget}, per = \"{per}\" }}"));
            let words = match is_same {
                true => {
                    "max_budget: by [[prices]], which `streamgauge prices import` takes from LiteLLM's list"
                        .to_owned()
                }
                false => format!("max_budget: per {per}, which begins with the calendar's; by [[prices]]"),
            };
            note(Treatment::Near, words);
        }
        _ => {
            let words = format!(
                "max_budget: {budget}: a limit of cost is per day, week or month: the key is left out, write it with one"
            );
            note(Treatment::ByHand, words);
            return None;
        }
    }
    Some(limits)
}

/// The period of a duration, and whether it is as long.
fn period(duration: &str) -> Option<(&'static str, bool)> {
    match duration {
        "24h" | "1d" => Some(("day", true)),
        "7d" | "1w" | "168h" => Some(("week", true)),
        "1mo" => Some(("month", true)),
        "28d" | "30d" | "31d" | "720h" => Some(("month", false)),
        "1h" | "60m" => Some(("hour", true)),
        _ => None,
    }
}

/// The models; none for all.
fn models(row: &Map<String, Value>) -> Vec<String> {
    let models: Vec<String> = match row.get("models") {
        Some(Value::Array(models)) => models.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        // PostgreSQL's text of an array.
        Some(Value::String(text)) => {
            let inside = text.trim().trim_start_matches(['{', '[']).trim_end_matches(['}', ']']);
            let items = inside.split(',').map(|item| item.trim().trim_matches(['"', '\'']).to_owned());
            items.filter(|item| !item.is_empty()).collect()
        }
        _ => Vec::new(),
    };
    match models.iter().any(|model| ALL_MODELS.contains(&model.as_str())) {
        true => Vec::new(),
        false => models,
    }
}

/// A name for a client, which no other has.
fn free_name(wanted: &str, names: &mut BTreeSet<String>) -> String {
    let word = |c: char| if c.is_whitespace() || c.is_control() { '-' } else { c };
    let mut wanted: String = wanted.chars().map(word).collect();
    while wanted.len() > MAX_NAME - 5 {
        wanted.pop();
    }
    let numbered = (2..=names.len() + 2).map(|number| format!("{wanted}-{number}"));
    let name = std::iter::once(wanted.clone()).chain(numbered).find(|name| !names.contains(name));
    let name = name.unwrap_or(wanted);
    names.insert(name.clone());
    name
}

fn is_known(column: &str) -> bool {
    READ.contains(&column) || NEEDLESS.contains(&column)
}

fn is_true(value: &Value) -> bool {
    matches!(value, Value::Bool(true))
        || value.as_str().is_some_and(|text| ["t", "true", "1"].contains(&text.to_ascii_lowercase().as_str()))
}

/// Returns true for a value that limits nothing.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => {
            ["", "{}", "[]", "f", "false", "null", "0"].contains(&text.trim().to_ascii_lowercase().as_str())
        }
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

fn text(row: &Map<String, Value>, column: &str) -> Option<String> {
    let text = row.get(column)?.as_str()?.trim();
    (!text.is_empty() && !text.eq_ignore_ascii_case("null")).then(|| text.to_owned())
}

fn number(row: &Map<String, Value>, column: &str) -> Option<f64> {
    let value = row.get(column)?;
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number| number.is_finite())
}

/// A time with an offset, or of UTC.
fn time(text: &str) -> Option<Timestamp> {
    let iso = text.trim().replacen(' ', "T", 1);
    // PostgreSQL writes the hours of an offset alone.
    let with_minutes = format!("{iso}:00");
    iso.parse().or_else(|_| with_minutes.parse()).ok().or_else(|| {
        let local: DateTime = iso.parse().ok()?;
        local.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

#[cfg(test)]
mod tests;
