//! The rows of the table: the groups of a field, with those of the period before.

use std::collections::{BTreeMap, HashMap};

use maud::{Markup, html};

use crate::sinks::ledger::{By, Group, Overview, Sums, Teams};

/// A row of the table.
pub(super) struct Row {
    /// Its key has one part.
    pub(super) group: Group,
    /// The sums of the period before, if there are any.
    before: Option<Sums>,
}

impl Row {
    pub(super) fn name(&self) -> Option<&str> {
        self.group.key.first().and_then(Option::as_deref)
    }

    /// The change from the period before: of the cost, else of tokens, else of requests.
    pub(super) fn change(&self, overview: &Overview) -> Markup {
        let size = |sums: &Sums| match overview.currencies.as_slice() {
            [currency] => sums.cost.amount(*currency).map_or(0.0, |amount| amount.to_f64()),
            _ => sums.total_tokens.unwrap_or(sums.requests) as f64,
        };
        let now = size(&self.group.sums);
        let before = self.before.as_ref().map(size).filter(|before| *before > 0.0);
        html! {
            @match before {
                None => span.unknown { "new" },
                Some(before) => (format!("{:+.0}%", (now / before - 1.0) * 100.0)),
            }
        }
    }
}

/// The rows of a field, in the order of their names.
pub(super) fn rows(by: By, overview: &Overview, before: &Overview, teams: &Teams) -> Vec<Row> {
    let earlier: HashMap<_, _> =
        groups(by, before, teams).into_iter().map(|group| (group.key, group.sums)).collect();
    let row = |group: Group| Row { before: earlier.get(&group.key).cloned(), group };
    groups(by, overview, teams).into_iter().map(row).collect()
}

fn groups(by: By, overview: &Overview, teams: &Teams) -> Vec<Group> {
    match by {
        By::User => overview.users.clone(),
        By::Client => overview.clients.clone(),
        By::Upstream => overview.upstreams.clone(),
        By::Endpoint => overview.endpoints.clone(),
        By::Outcome => overview.outcomes.clone(),
        By::Team => of_teams(overview, teams),
        By::Tag(name) => {
            let tag = overview.tags.iter().find(|(known, _)| *known == name);
            tag.map(|(_, groups)| groups.clone()).unwrap_or_default()
        }
        _ => overview.models.clone(),
    }
}

/// The groups of clients as groups of their teams.
fn of_teams(overview: &Overview, teams: &Teams) -> Vec<Group> {
    let mut groups: BTreeMap<Option<String>, Sums> = BTreeMap::new();
    for Group { key, sums } in &overview.clients {
        let client = key.first().and_then(Option::as_ref);
        let team = client.and_then(|client| teams.get(client)).cloned();
        groups.entry(team).or_default().add(sums);
    }
    groups.into_iter().map(|(team, sums)| Group { key: vec![team], sums }).collect()
}
