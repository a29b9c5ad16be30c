//! The results of `keys`, for people and as JSON.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::config::{CreatedKey, EndedKey, KeyListing, ListedKey, RevokedKeys};
use crate::sinks::ledger::output::numbers::{name, width_of};

/// The gap between two columns.
const GAP: usize = 2;

impl fmt::Display for CreatedKey {
    /// Says all but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key of {} with the id {}", name(&self.client), self.id)?;
        if let Some(until) = self.until {
            write!(f, ", until {until}")?;
        }
        f.write_str("; it is printed this once only")?;
        for EndedKey { id, until, .. } in &self.replaced {
            write!(f, "\n{id} ends at {}", text(*until))?;
        }
        Ok(())
    }
}

impl fmt::Display for RevokedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let also = if self.cut { ", and the requests with it that run end" } else { "" };
        self.revoked
            .iter()
            .try_for_each(|key| writeln!(f, "revoked {} of {}{also}", key.id, name(&key.client)))
    }
}

impl fmt::Display for KeyListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keys.is_empty() {
            return writeln!(f, "no keys are stored in {}", self.store);
        }
        let head = ["CLIENT", "ID", "CREATED", "UNTIL", "LAST USED"].map(str::to_owned);
        let line = |key: &ListedKey| {
            let over = match (key.cut, key.expired) {
                (true, _) => " (revoked)",
                (false, true) => " (expired)",
                (false, false) => "",
            };
            let until = format!("{}{over}", text(key.until));
            [name(&key.client), key.id.clone(), text(key.created), until, text(key.last_used)]
        };
        let lines: Vec<_> = [head].into_iter().chain(self.keys.iter().map(line)).collect();
        let widths: [usize; 5] =
            std::array::from_fn(|column| lines.iter().map(|line| width_of(&line[column])).max().unwrap_or(0));
        for line in &lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width - width_of(cell) + GAP));
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        match &self.ledger {
            Some(ledger) => writeln!(f, "\nlast used: {ledger}"),
            None => Ok(()),
        }
    }
}

/// A time without its fraction; `-` for none.
fn text(at: Option<Timestamp>) -> String {
    let Some(at) = at else { return "-".to_owned() };
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// One object, with a line break at its end.
pub(super) fn json<T: Serialize>(result: &T) -> String {
    let text = serde_json::to_string_pretty(result).expect("texts, times and lists are JSON");
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoredKey;
    use crate::gate::KeyDigest;
    use crate::support::secret::Secret;

    fn at(text: &str) -> Option<Timestamp> {
        text.parse().ok()
    }

    fn stored(client: &str, until: Option<Timestamp>) -> StoredKey {
        StoredKey {
            client: client.to_owned(),
            digest: KeyDigest::of(b"test"),
            created: at("2026-11-30T09:00:00Z"),
            until,
            cut: false,
            place: String::new(),
        }
    }

    #[test]
    fn list_has_a_line_for_each_key() {
        let now = at("2026-12-01T00:00:00Z").unwrap();
        let keys = vec![
            ListedKey::new(&stored("search", None), at("2026-11-30T10:00:00.123Z"), now),
            ListedKey::new(&stored("q\u{e9}", at("2026-11-30T12:00:00Z")), None, now),
        ];
        let ledger = Some("this instance, from l.db".to_owned());
        let mut listing = KeyListing { store: "keys.toml".to_owned(), ledger, keys };
        let expected = "\
CLIENT  ID        CREATED               UNTIL                           LAST USED
search  9f86d081  2026-11-30T09:00:00Z  -                               2026-11-30T10:00:00Z
q\u{e9}      9f86d081  2026-11-30T09:00:00Z  2026-11-30T12:00:00Z (expired)  -

last used: this instance, from l.db
";
        assert_eq!(listing.to_string(), expected);
        let value: serde_json::Value = serde_json::from_str(&json(&listing)).unwrap();
        assert_eq!(value["keys"][1]["expired"], true);
        assert_eq!(value["keys"][0]["last_used"], "2026-11-30T10:00:00.123Z");
        listing.keys.clear();
        assert_eq!(listing.to_string(), "no keys are stored in keys.toml\n");
    }

    #[test]
    fn new_key_is_in_its_json_and_not_in_its_message() {
        let replaced = vec![EndedKey::new(&stored("search", at("2026-12-01T09:00:00Z")))];
        let created = CreatedKey::new(&stored("search", None), Secret::new("sg-marker".to_owned()), replaced);
        let message = created.to_string();
        assert_eq!(
            message,
            "a key of search with the id 9f86d081; it is printed this once only\n9f86d081 ends at 2026-12-01T09:00:00Z"
        );
        let value: serde_json::Value = serde_json::from_str(&json(&created)).unwrap();
        assert_eq!((&value["key"], &value["replaced"][0]["id"]), (&"sg-marker".into(), &"9f86d081".into()));
    }
}
