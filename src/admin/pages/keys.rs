//! The page of stored keys, whose forms need no script.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::{Depth, brand, document};
use crate::config::{CreatedKey, KeyListing, KeyPlace, ListedKey, RevokedKeys, time_zone_name};

/// The result of a form.
pub(in crate::admin) enum Notice {
    Created(CreatedKey),
    Revoked(RevokedKeys),
    Failed(String),
}

/// The page, with the keys or the reason for which they cannot be read.
pub(in crate::admin) fn page(
    listing: Result<&KeyListing, String>,
    place: &KeyPlace,
    notice: Option<&Notice>,
    zone: &TimeZone,
) -> Markup {
    let body = html! {
        header.top {
            (brand())
            div.state { a href="./" { "To the dashboard" } }
        }
        main.keys #content tabindex="-1" {
            h1 { "Keys" }
            @if let Some(notice) = notice { (result(notice, zone)) }
            @match &listing {
                Err(reason) => p.alert role="alert" { (reason) },
                Ok(listing) => {
                    section.card aria-label="Stored keys" { (table(listing, zone)) }
                    @if place.clients.is_empty() {
                        p.hint { "There are no clients: add " code { "[clients.NAME]" } " to the configuration." }
                    } @else {
                        section.card aria-label="New key" { h2 { "New key" } (create(place)) }
                        @if !listing.keys.is_empty() {
                            section.card aria-label="Replace keys" { h2 { "Replace the keys of a client" } (rotate(listing)) }
                        }
                    }
                }
            }
        }
    };
    document(Depth::ROOT, "Keys · streamgauge", false, &body)
}

fn result(notice: &Notice, zone: &TimeZone) -> Markup {
    html! {
        @match notice {
            Notice::Failed(reason) => p.alert role="alert" { (reason) },
            Notice::Revoked(RevokedKeys { revoked, cut, warning }) => {
                @for key in revoked {
                    p.done role="status" {
                        "Revoked " code { (key.id) } " of " (key.client) "."
                        @if *cut { " Its requests that run end within two seconds." }
                    }
                }
                @if let Some(warning) = warning { p.alert role="alert" { (warning) } }
            }
            Notice::Created(created) => div.done role="status" {
                p { "A key of " (created.client) ". It is shown this once only:" }
                p { code #key { (created.key.expose()) } }
                @for key in &created.replaced {
                    p { code { (key.id) } " ends at " (moment(key.until, zone)) "." }
                }
                @if let Some(warning) = &created.warning { p.alert role="alert" { (warning) } }
            },
        }
    }
}

fn table(listing: &KeyListing, zone: &TimeZone) -> Markup {
    html! {
        @if listing.keys.is_empty() {
            p { "No keys are stored in " code { (listing.store) } "." }
        } @else {
            div.scroll {
                table {
                    caption.sr { "Stored keys; times in " (time_zone_name(zone)) }
                    thead { tr {
                        th scope="col" { "Client" }
                        th scope="col" { "Key" }
                        th scope="col" { "Created" }
                        th scope="col" { "Until" }
                        th scope="col" { "Last used" }
                        th scope="col" { span.sr { "Revoke" } }
                    } }
                    tbody { @for key in &listing.keys { (row(key, zone)) } }
                }
            }
            p.hint {
                "Times in " (time_zone_name(zone)) ". Stored in " code { (listing.store) } "."
                @if listing.ledger.is_none() { " The last use is unknown: the ledger cannot be read, or none is kept." }
            }
        }
    }
}

fn row(key: &ListedKey, zone: &TimeZone) -> Markup {
    html! {
        tr {
            td { (key.client) }
            td { code { (key.id) } }
            td { (moment(key.created, zone)) }
            td {
                (moment(key.until, zone))
                @if key.cut { " (revoked)" } @else if key.expired { " (expired)" }
            }
            td { (moment(key.last_used, zone)) }
            td {
                form method="post" action="keys" {
                    input type="hidden" name="action" value="revoke";
                    input type="hidden" name="id" value=(key.id);
                    button.quiet type="submit" aria-label={ "Revoke " (key.id) " of " (key.client) } { "Revoke" }
                    button.quiet type="submit" name="now" value="true"
                        aria-label={ "Revoke " (key.id) " of " (key.client) " and end its requests" } { "and end its requests" }
                }
            }
        }
    }
}

fn create(place: &KeyPlace) -> Markup {
    html! {
        form method="post" action="keys" {
            input type="hidden" name="action" value="create";
            label { "Client " (choice(place.clients.iter().map(String::as_str))) }
            label { "Until " input name="until" placeholder="no end" autocomplete="off" aria-describedby="until-hint"; }
            button type="submit" { "Create" }
            p.hint #until-hint { "A duration such as 90d, a day such as 2027-01-31, or a time." }
        }
    }
}

fn rotate(listing: &KeyListing) -> Markup {
    let mut clients: Vec<_> =
        listing.keys.iter().filter(|key| !key.expired).map(|key| &*key.client).collect();
    clients.sort_unstable();
    clients.dedup();
    html! {
        form method="post" action="keys" {
            input type="hidden" name="action" value="rotate";
            label { "Client " (choice(clients.into_iter())) }
            label { "Its other keys end after " input name="grace" value="24h" required autocomplete="off"; }
            button type="submit" { "Replace" }
        }
    }
}

fn choice<'a>(names: impl Iterator<Item = &'a str>) -> Markup {
    html! {
        select name="client" required { @for name in names { option value=(name) { (name) } } }
    }
}

fn moment(at: Option<Timestamp>, zone: &TimeZone) -> Markup {
    html! {
        @match at {
            Some(at) => time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) {
                (at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S"))
            },
            None => "–",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::secret::Secret;

    fn place() -> KeyPlace {
        let clients = vec!["<b>".to_owned(), "search".to_owned()];
        KeyPlace { store: None, clients, own_keys: Vec::new(), time_zone: TimeZone::UTC, has_keys: false }
    }

    fn listing() -> KeyListing {
        let key = ListedKey {
            client: "search".to_owned(),
            id: "9f86d081".to_owned(),
            created: Some(Timestamp::UNIX_EPOCH),
            until: None,
            expired: false,
            cut: false,
            last_used: None,
        };
        KeyListing { store: "keys.toml".to_owned(), ledger: None, keys: vec![key] }
    }

    #[test]
    fn page_has_forms_without_a_script_and_escapes_names() {
        let page = page(Ok(&listing()), &place(), None, &TimeZone::UTC).into_string();
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        for action in ["create", "rotate", "revoke"] {
            assert!(page.contains(&format!("name=\"action\" value=\"{action}\"")), "{action} in {page}");
        }
    }

    #[test]
    fn new_key_is_on_the_page_of_its_form_only() {
        let created = CreatedKey {
            client: "search".to_owned(),
            id: "9f86d081".to_owned(),
            key: Secret::new("sg-marker".to_owned()),
            created: None,
            until: None,
            replaced: Vec::new(),
            warning: None,
        };
        let notice = Notice::Created(created);
        let after = page(Ok(&listing()), &place(), Some(&notice), &TimeZone::UTC).into_string();
        assert!(after.contains("sg-marker"), "{after}");
        let later = page(Ok(&listing()), &place(), None, &TimeZone::UTC).into_string();
        assert!(!later.contains("sg-marker"), "{later}");
        let failed = page(Err("<i>".to_owned()), &place(), None, &TimeZone::UTC).into_string();
        assert!(failed.contains("&lt;i&gt;") && !failed.contains("<form"), "{failed}");
    }
}
