//! The keys of clients: secrets, or the digests of keys that are known elsewhere.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::secrets::{secret, secret_file, secret_text, secret_variable};
use super::super::sections::too_short;
use super::{Entry, Kind, Read, Shape, Table, all, parsed};
use crate::config::settings::ClientKey;
use crate::config::tags::fixed;
use crate::gate::{KeyDigest, TagRule};
use crate::support::secret::Secret;

/// The keys of a table that say what a client's key is.
const FORMS: &str = "write one of sha256 = \"DIGEST\", env = \"NAME\", file = \"PATH\", or value = \"...\" if it must stand here";

/// The form of `until`, for messages.
const UNTIL: &str = "a day such as \"2027-01-31\", or a time such as \"2027-01-31T12:00:00Z\"";

/// The keys of all clients that were read so far.
pub(super) struct Keys<'a> {
    zone: &'a TimeZone,
    rules: Option<&'a [TagRule]>,
    /// The digests, with the names of their clients.
    known: Vec<(KeyDigest, String)>,
}

impl<'a> Keys<'a> {
    /// `zone` is that of days. `rules` are the listed tags, unless they have a mistake.
    pub(super) fn new(zone: &'a TimeZone, rules: Option<&'a [TagRule]>) -> Self {
        Self { zone, rules, known: Vec::new() }
    }

    /// The keys of a client: `key` and `keys`. `needs_none`: a certificate may name the client, or its
    /// keys are stored.
    pub(super) fn of_client(
        &mut self,
        client: &str,
        table: &Table<'_>,
        needs_none: bool,
    ) -> Read<Vec<ClientKey>> {
        let key = secret().then(|entry, secret| {
            let digest = digest_of(entry, &secret);
            let (until, tags, place) = (None, Vec::new(), entry.place());
            self.take(client, entry, digest).map(|()| ClientKey { digest, until, tags, place })
        });
        let key = table.optional("key", key);
        let keys = table.entry("keys", Shape::List(Box::new(Shape::Table)));
        let keys = keys.map_or(Ok(Vec::new()), |entry| self.list(client, &entry));
        let keys: Vec<_> = key?.into_iter().chain(keys?).collect();
        if keys.is_empty() && !needs_none {
            let reason = "is missing: write key = { env = \"NAME\" } or { file = \"PATH\" }";
            return Err(table.mistake("key", reason));
        }
        Ok(keys)
    }

    fn list(&mut self, client: &str, entry: &Entry<'_>) -> Read<Vec<ClientKey>> {
        let items = entry.array("a list of keys, such as [{ file = \"PATH\" }]")?;
        all(items.iter().map(|item| {
            let key = item.table(|table| {
                let tags = fixed(table, self.rules);
                let (digest, until) = listed(table, self.zone)?;
                Ok(ClientKey { digest, until, tags: tags?, place: item.place() })
            })?;
            self.take(client, item, key.digest).map(|()| key)
        }))
    }

    /// Reports a key that was read before.
    fn take(&mut self, client: &str, entry: &Entry<'_>, digest: KeyDigest) -> Read<()> {
        let Some((_, other)) = self.known.iter().find(|(known, _)| *known == digest) else {
            self.known.push((digest, client.to_owned()));
            return Ok(());
        };
        Err(entry.mistake(match other == client {
            true => "is a key that this client has already: remove one of the two".to_owned(),
            false => format!("is the key of clients.{other} too: give each client its own"),
        }))
    }
}

/// A key of the list `keys`, and its end.
fn listed(table: &Table<'_>, zone: &TimeZone) -> Read<(KeyDigest, Option<Timestamp>)> {
    let found = [
        table.optional("sha256", digest()),
        table.optional("env", hashed(secret_variable())),
        table.optional("file", hashed(secret_file())),
        table.optional("value", hashed(secret_text())),
    ];
    let until = table.optional("until", until(zone));
    let count = found.iter().filter(|found| !matches!(found, Ok(None))).count();
    if count != 1 {
        let wrong = if count == 0 { "is missing" } else { "has other sources beside it: keep one of them" };
        return Err(table.mistake("sha256", format!("{wrong}; {FORMS}")));
    }
    let digest = all(found)?.into_iter().flatten().next().expect("one was found");
    Ok((digest, until?))
}

fn hashed(
    secret: Kind<impl Fn(&Entry<'_>) -> Read<Secret>>,
) -> Kind<impl FnOnce(&Entry<'_>) -> Read<KeyDigest>> {
    secret.then(|entry, secret| Ok(digest_of(entry, &secret)))
}

/// Warns of a key that can be guessed.
fn digest_of(entry: &Entry<'_>, secret: &Secret) -> KeyDigest {
    if let Some(reason) = too_short(secret) {
        entry.warning(&reason);
    }
    KeyDigest::of(secret.expose().as_bytes())
}

pub(in crate::config) fn digest() -> Kind<impl Fn(&Entry<'_>) -> Read<KeyDigest>> {
    const WHAT: &str = "64 hexadecimal digits in quotes, as from `printf %s KEY | sha256sum`";
    // Other text may be the key itself, so the message does not show it.
    parsed("SHA-256 digest", Some("^[0-9a-fA-F]{64}$"), WHAT, |text| {
        KeyDigest::parse(text).ok_or_else(|| format!("is not a digest: write {WHAT}"))
    })
}

/// The time from which a key is refused: the beginning of a day of `zone`, or a moment.
fn until(zone: &TimeZone) -> Kind<impl Fn(&Entry<'_>) -> Read<Timestamp>> {
    let shape = Shape::Text("day or time", Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$"));
    Kind::new(shape, move |entry: &Entry<'_>| {
        let text = entry.date(UNTIL)?;
        let until = day_or_time(text, zone)
            .ok_or_else(|| entry.mistake(format!("{text:?} is not a time: write {UNTIL}")))?;
        if until <= Timestamp::now() {
            entry.warning("is over: the key is refused, and can be removed");
        }
        Ok(until)
    })
}

/// The beginning of a day of `zone`, or a moment.
pub(in crate::config) fn day_or_time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    match text.parse::<Date>().ok().filter(|day| day.to_string() == text) {
        Some(day) => day.to_zoned(zone.clone()).ok().map(|day| day.timestamp()),
        None => text.parse::<Timestamp>().ok(),
    }
}
