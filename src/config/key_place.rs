//! The part of a configuration that commands need to change stored keys. Mistakes in other parts do
//! not count, and neither do missing secrets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::clients::day_or_time;
use super::duration::past;
use super::key_file::KeyFile;
use super::key_store::KeyStore;
use super::layers::Layers;
use super::mistakes::Mistakes;
use super::reader::Reader;
use super::settings::{KeyStorage, Postgres, Settings};
use super::stored_keys::{self, NO_DATABASE};
use super::suggest::suggest;
use super::time_zone::time_zone;
use super::{Sources, file, sections};

/// The place of stored keys, and the clients to which they can belong.
#[derive(Debug)]
pub struct KeyPlace {
    /// `None`: no keys are stored.
    pub store: Option<Arc<dyn KeyStore>>,
    /// The names of `[clients]`.
    pub clients: Vec<String>,
    /// Those with keys in the configuration too.
    pub own_keys: Vec<String>,
    /// The zone of days.
    pub time_zone: TimeZone,
    /// Stored keys of a file are in use.
    pub has_keys: bool,
}

/// Reads `[keys]`, the names of `[clients]` and `ledger.time_zone`, from the same sources as
/// [`load`](super::load); all of `[ledger]` if its database has the keys, in the table that
/// `table` makes of it.
///
/// # Errors
/// Fails if the file cannot be read, or with the mistakes in these parts.
pub fn load_key_place(
    sources: &Sources,
    table: impl FnOnce(&Postgres) -> Arc<dyn KeyStore>,
) -> Result<KeyPlace, Mistakes> {
    let file = file::find(sources.file.as_deref(), &sources.env, &file::CANDIDATES).map_err(Mistakes::one)?;
    let (layers, _) = Layers::merge(file, &sources.env, &sources.overrides);
    let reader = Reader::new(&layers, &sources.env);
    let place = reader.read_part(|root| {
        let clients = root.keys("clients");
        let has_own =
            |name: &&String| ["key", "keys"].iter().any(|key| root.at(&["clients", name, key]).is_some());
        let zone = root.at(&["ledger", "time_zone"]).map(|entry| {
            let text = entry.text("a time zone in quotes")?;
            time_zone(text).map_err(|reason| entry.mistake(reason))
        });
        let zone = zone.transpose();
        let storage = root.section("keys", stored_keys::storage);
        let store = match storage? {
            KeyStorage::Nowhere => None,
            KeyStorage::File(path) => Some(in_file(path)),
            KeyStorage::Table => {
                let database = root.section("ledger", sections::ledger)?.postgres;
                let missing = || root.section("keys", |keys| Err(keys.mistake("store", NO_DATABASE)));
                Some(table(&database.map_or_else(missing, Ok)?))
            }
        };
        Ok(KeyPlace {
            store,
            own_keys: clients.iter().filter(has_own).cloned().collect(),
            clients,
            time_zone: zone?.unwrap_or(TimeZone::UTC),
            has_keys: false,
        })
    });
    reader.finish(place, Vec::new()).map(|(place, _)| place)
}

impl KeyPlace {
    /// The place in a configuration in use. `table` is that of its database, if that has the keys.
    pub fn of(settings: &Settings, table: Option<&Arc<dyn KeyStore>>) -> Self {
        let own = settings.clients.iter().filter(|client| !client.keys.is_empty());
        Self {
            store: settings.keys.file().map(|path| in_file(path.to_owned())).or(table.cloned()),
            own_keys: own.map(|client| client.name.clone()).collect(),
            clients: settings.clients.iter().map(|client| client.name.clone()).collect(),
            time_zone: settings.ledger.time_zone.clone(),
            has_keys: settings.keys.file().is_some() && !settings.keys.stored.is_empty(),
        }
    }

    /// # Errors
    /// Fails with what to write if the configuration does not have the client.
    pub fn check_client(&self, name: &str) -> Result<(), String> {
        if self.clients.iter().any(|client| client == name) {
            return Ok(());
        }
        let meant = suggest(name, self.clients.iter().map(String::as_str));
        let meant = meant.map(|name| format!("did you mean {name:?}? If not, ")).unwrap_or_default();
        Err(format!("the configuration has no client {name:?}: {meant}add [clients.{name}] to it first"))
    }
}

fn in_file(path: PathBuf) -> Arc<dyn KeyStore> {
    Arc::new(KeyFile::new(path))
}

/// The end of a key: a duration from `now`, the beginning of a day of `zone`, or a time.
///
/// # Errors
/// Fails with the mistake in the text, and the right form.
pub fn key_end(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    const FORMS: &str =
        "write a duration such as 90d, a day such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z";
    if let Some(end) = day_or_time(text, zone) {
        return match end > now {
            true => Ok(end),
            false => Err(format!("{text:?} is in the past")),
        };
    }
    let is_duration = !text.contains('-') && text.starts_with(|first: char| first.is_ascii_digit());
    let duration: Duration = past(text).map_err(|reason| match is_duration {
        true => reason,
        false => format!("{text:?} is not a time: {FORMS}"),
    })?;
    now.checked_add(duration).map_err(|_| format!("{text:?} is too long: {FORMS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_key_is_a_duration_a_day_or_a_time() {
        let now: Timestamp = "2026-11-30T09:00:00Z".parse().unwrap();
        let zone = time_zone("Europe/Berlin").unwrap();
        let end = |text: &str| key_end(text, now, &zone).map(|end| end.to_string());
        for (text, expected) in [
            ("90d", "2027-02-28T09:00:00Z"),
            ("1h30m", "2026-11-30T10:30:00Z"),
            ("2027-01-31", "2027-01-30T23:00:00Z"),
            ("2027-01-31T12:00:00+01:00", "2027-01-31T11:00:00Z"),
        ] {
            assert_eq!(end(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, reason) in [
            ("2026-11-30", "is in the past"),
            ("2026-11-30T09:00:00Z", "is in the past"),
            ("2027-02-30", "is not a time: write a duration"),
            ("-1d", "is not a time"),
            ("90", "has no unit"),
            ("0d", "longer than zero"),
            ("soon", "is not a time: write a duration such as 90d"),
        ] {
            let error = end(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
