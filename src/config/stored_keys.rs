//! `[keys]`: keys of clients in a file or table of their own. Commands change it, and a running
//! process takes it over without the rest of the configuration, which may be refused meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::clients::digest;
use super::file::File;
use super::files::Files;
use super::kind::{Kind, Shape, boolean, choice, text};
use super::layers::Layers;
use super::mistakes::{Mistake, Mistakes};
use super::notes::Read;
use super::reader::{Entry, Reader, Table, all};
use super::settings::{Client, KeySettings, KeyStorage, LedgerSettings, Settings, StoredKey};
use super::suggest::suggest;
use crate::gate::LiveKey;

/// The largest number of ids in one warning.
const MOST_IDS: usize = 3;

/// The value of `store`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    File,
    Table,
}

/// `[keys]`, with the keys in the file.
pub(super) fn keys(table: &Table<'_>) -> Read<KeySettings> {
    let store = store(table);
    let read = |entry: &Entry<'_>, file: PathBuf| match store {
        Ok(Store::Table) => Ok(KeySettings::default()),
        _ => Ok(KeySettings { stored: entry.stored_keys(&file)?, storage: KeyStorage::File(file) }),
    };
    let in_file = table.defaulted("file", path().then(read).or_empty());
    match (store?, in_file?) {
        (Store::Table, _) => Ok(KeySettings { storage: KeyStorage::Table, stored: Vec::new() }),
        (Store::File, keys) => Ok(keys.unwrap_or_default()),
    }
}

/// The store alone.
pub(super) fn storage(table: &Table<'_>) -> Read<KeyStorage> {
    let (store, file) = (store(table), table.defaulted("file", path().or_empty()));
    match (store?, file?) {
        (Store::Table, _) => Ok(KeyStorage::Table),
        (Store::File, file) => Ok(file.map_or(KeyStorage::Nowhere, KeyStorage::File)),
    }
}

fn store(table: &Table<'_>) -> Read<Store> {
    const STORES: &[(&str, Store)] = &[("file", Store::File), ("postgres", Store::Table)];
    table.defaulted("store", choice(STORES))
}

/// The mistake of `store = "postgres"` without a database.
pub(super) const NO_DATABASE: &str = "is \"postgres\", and there is no [ledger.postgres]: add it";

fn path() -> Kind<impl FnOnce(&Entry<'_>) -> Read<PathBuf>> {
    text().then(|entry, path| Ok(entry.folder().join(path)))
}

/// Reads the file, which may be missing unless that would lose keys. Adds it to `files`.
///
/// # Errors
/// Fails with all mistakes in the file.
pub(super) fn load(path: &Path, files: &mut Files) -> Result<Vec<StoredKey>, Mistakes> {
    let wrong = |reason| Mistakes::one(Mistake { place: path.display().to_string(), reason });
    let text = files.read_keys(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            wrong(format!("cannot be read: {error}; the user of `streamgauge serve` must be able to read it"))
        }
        _ => wrong(format!("cannot be read: {error}")),
    })?;
    let Some(text) = text else {
        if files.had_keys() {
            let reason = "is missing or empty, and its keys are in use: restore it, or write a line `# none` into it, which revokes all of them";
            return Err(wrong(reason.to_owned()));
        }
        return Ok(Vec::new());
    };
    let keys = parse(path, &text)?;
    if !keys.is_empty() {
        files.note_keys();
    }
    Ok(keys)
}

/// The keys in the text of the file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<StoredKey>, Mistakes> {
    let file = File::parse(Some(path.to_owned()), text).map_err(Mistakes::one)?;
    let (layers, env) = (Layers::of(file), BTreeMap::new());
    let reader = Reader::new(&layers, &env);
    let keys = reader.read(|root| {
        let mut known = HashMap::new();
        all(root.tables("keys")?.into_iter().map(|entry| {
            let key = entry.table(|table| key(table, entry.place()))?;
            match known.insert(key.digest, key.place.clone()) {
                Some(place) => {
                    Err(entry.mistake(format!("is the same key as {place}: remove one of the two")))
                }
                None => Ok(key),
            }
        }))
    });
    reader.finish(keys, Vec::new()).map(|(keys, _)| keys)
}

fn key(table: &Table<'_>, place: String) -> Read<StoredKey> {
    let client = text().then(|entry, client| match client.is_empty() {
        true => Err(entry.mistake("is empty: write the name of a client")),
        false => Ok(client),
    });
    read_all!(StoredKey {
        client: table.required("client", "write the name of a client", client),
        digest: table.required("sha256", "write the digest of the key", digest()),
        created: table.optional("created", time()),
        until: table.optional("until", time()),
        cut: table.or_default("cut", boolean().default(false)),
        place: Ok(place),
    })
}

fn time() -> Kind<impl Fn(&Entry<'_>) -> Read<Timestamp>> {
    const WHAT: &str = "a time such as \"2027-01-31T12:00:00Z\"";
    Kind::new(Shape::Text("time", None), |entry: &Entry<'_>| {
        let text = entry.date(WHAT)?;
        text.parse().map_err(|_| entry.mistake(format!("{text:?} is not a time: write {WHAT}")))
    })
}

/// Compares the stored keys with the clients of the configuration. Returns mistakes, and warnings.
/// `needs_no_key`: certificates name clients.
fn compare(keys: &KeySettings, clients: &[Client], needs_no_key: bool) -> (Vec<Mistake>, Vec<String>) {
    let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
    if let (Some(first), []) = (keys.stored.first(), clients) {
        let reason = format!(
            "is a key, and without any [clients.NAME] every request would be accepted without one: add [clients.{}]",
            first.client
        );
        mistakes.push(Mistake { place: first.place.clone(), reason });
        return (mistakes, warnings);
    }
    let configured = clients.iter().flat_map(|client| &client.keys).map(|key| (key.digest, &*key.place));
    let configured: HashMap<_, _> = configured.collect();
    for key in &keys.stored {
        if let Some(place) = configured.get(&key.digest) {
            let reason = format!("is the same key as {place}: remove one of the two");
            mistakes.push(Mistake { place: key.place.clone(), reason });
        }
        if !clients.iter().any(|client| client.name == key.client) {
            let meant = suggest(&key.client, clients.iter().map(|client| client.name.as_str()));
            let meant = meant.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
            warnings.push(format!(
                "{}: the key {} is refused: there is no [clients.{}]{meant}",
                key.place,
                key.digest.id(),
                key.client
            ));
        }
    }
    let has_key =
        |client: &Client| !client.keys.is_empty() || keys.stored.iter().any(|key| key.client == client.name);
    if !needs_no_key {
        warnings.extend(clients.iter().filter(|client| !has_key(client)).map(|client| {
            format!(
                "clients.{0} has no key, so that no request is accepted for it: `streamgauge keys create {0}` makes one",
                client.name
            )
        }));
    }
    let now = Timestamp::now();
    let expired: Vec<_> = keys.stored.iter().filter(|key| key.has_expired(now) && !key.cut).collect();
    if let (Some(first), Some(file)) = (expired.first(), keys.file()) {
        let ids: Vec<_> = expired.iter().take(MOST_IDS).map(|key| key.digest.id()).collect();
        let more = if expired.len() > MOST_IDS { " and others" } else { "" };
        warnings.push(format!(
            "{}: expired, and refused: {}{more}; `streamgauge keys revoke {}` removes a key",
            file.display(),
            ids.join(", "),
            first.digest.id()
        ));
    }
    (mistakes, warnings)
}

/// Reports contradictions between the stored keys, the clients and the database.
pub(super) fn check(
    root: &Table<'_>,
    keys: &KeySettings,
    clients: &[Client],
    needs_no_key: bool,
    ledger: &Read<LedgerSettings>,
) {
    if let (KeyStorage::Table, Some(store)) = (&keys.storage, root.at(&["keys", "store"])) {
        if ledger.as_ref().is_ok_and(|ledger| ledger.postgres.is_none()) {
            store.mistake(NO_DATABASE);
        }
        if clients.is_empty() {
            store.mistake(
                "is \"postgres\", and without any [clients.NAME] every request would be accepted without a key: add the clients",
            );
        }
        return;
    }
    let Some(file) = root.at(&["keys", "file"]) else { return };
    let (mistakes, warnings) = compare(keys, clients, needs_no_key || keys.file().is_none());
    for mistake in mistakes {
        file.mistake_in_file(mistake);
    }
    for warning in warnings {
        file.warning_in_file(warning);
    }
}

/// Stored keys that fit the configuration in use.
#[derive(Debug)]
pub struct LoadedKeys {
    pub stored: Vec<StoredKey>,
    /// Keys that have no effect.
    pub warnings: Vec<String>,
    /// The files of the configuration in use, with the present one of keys.
    pub files: Files,
}

/// Reads the stored keys of a configuration in use again, and nothing else. `files` are those of the
/// earlier reading.
///
/// # Errors
/// Fails with all mistakes, also if a missing file would lose keys.
pub fn load_keys_again(settings: &Settings, files: &Files) -> Result<LoadedKeys, Mistakes> {
    let mut files = files.before_keys();
    let stored = settings.keys.file().map_or(Ok(Vec::new()), |path| load(path, &mut files))?;
    let keys = KeySettings { storage: settings.keys.storage.clone(), stored };
    let needs_no_key = settings.server.has_client_certificates() || keys.file().is_none();
    let (mistakes, warnings) = compare(&keys, &settings.clients, needs_no_key);
    match mistakes.is_empty() {
        true => Ok(LoadedKeys { stored: keys.stored, warnings, files }),
        false => Err(Mistakes(mistakes)),
    }
}

/// Compares keys of the table with the configuration in use. A contradiction refuses no key of the
/// others, which other instances use: a configured key has precedence.
pub fn warn_of_table(settings: &Settings, stored: &[StoredKey]) -> Vec<String> {
    let keys = KeySettings { storage: KeyStorage::Table, stored: stored.to_vec() };
    let needs_no_key = settings.server.has_client_certificates();
    let (mistakes, warnings) = compare(&keys, &settings.clients, needs_no_key);
    let mistakes = mistakes.into_iter().map(|Mistake { place, reason }| format!("{place}: {reason}"));
    mistakes.chain(warnings).collect()
}

impl StoredKey {
    /// The key as authentication uses it.
    pub fn live(&self) -> LiveKey<'_> {
        LiveKey { digest: self.digest, client: &self.client, until: self.until, is_cut: self.cut }
    }
}
