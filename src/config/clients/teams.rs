//! `[teams.NAME]`: clients that share limits. A team may be in another.

use std::iter::successors;

use super::super::groups::unknown;
use super::{
    Entry, Kind, LimitContext, NAME_PATTERN, Read, Shape, Table, Team, all, check_name, limits, text,
};

/// The names of all teams, and the valid ones in the order of the file.
pub(in crate::config) fn teams(
    root: &Table<'_>,
    context: &LimitContext<'_>,
) -> (Vec<String>, Read<Vec<Team>>) {
    let tables = match root.names("teams", Some(NAME_PATTERN.to_owned()), Shape::Table) {
        Ok(tables) => tables,
        Err(noted) => return (Vec::new(), Err(noted)),
    };
    let names: Vec<_> = tables.iter().map(|(name, _)| name.clone()).collect();
    let teams = all(tables.iter().map(|(name, entry)| {
        let named = check_name(name, entry);
        let team = entry.table(|table| {
            read_all!(Team {
                name: Ok(name.clone()),
                team: table.optional("team", team_of(&names)),
                limits: limits(table, context),
            })
        });
        named.and(team)
    }));
    let teams = teams.and_then(|teams| check_circles(root, &teams).map(|()| teams));
    (names, teams)
}

/// The index of the named team.
pub(super) fn team_of(names: &[String]) -> Kind<impl FnOnce(&Entry<'_>) -> Read<usize>> {
    text().then(|entry, name| {
        let team = names.iter().position(|known| *known == name);
        team.ok_or_else(|| match names.is_empty() {
            true => entry.mistake(format!("there is no team {name:?}: add [teams.{name}]")),
            false => entry.mistake(unknown("team", &name, names)),
        })
    })
}

/// Reports teams that contain themselves, each circle at its first team.
fn check_circles(root: &Table<'_>, teams: &[Team]) -> Read<()> {
    let circles = (0..teams.len()).map(|team| {
        let above = successors(teams[team].team, |above| teams[*above].team);
        let circle: Vec<_> = above.take(teams.len()).take_while(|above| *above != team).collect();
        let last = circle.last().copied().unwrap_or(team);
        if teams[last].team != Some(team) || circle.iter().any(|other| *other < team) {
            return Ok(());
        }
        let name = |team: usize| &*teams[team].name;
        let others: Vec<_> = circle.iter().map(|other| name(*other)).collect();
        let path = if others.is_empty() { String::new() } else { format!(", by {}", others.join(", ")) };
        let entry = root.at(&["teams", name(team), "team"]).expect("the team has the key");
        Err(entry.mistake(format!("leads back to {}{path}: end the circle", name(team))))
    });
    all(circles).map(drop)
}
