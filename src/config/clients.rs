//! `[clients.NAME]` and `[teams.NAME]`: who may send requests, and what they may ask for.

mod keys;
mod limits;
mod teams;

use std::iter::successors;
use std::time::Duration;

use super::kind::{Kind, Shape, boolean, choice, list, parsed, text};
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::sections::{NAME_PATTERN, check_name};
use super::settings::{Client, LedgerSettings, Route, Team};
use super::tags::fixed;
use crate::gate::limit::{LimitBound, LimitSpec, Quantity};
use crate::gate::{AllowedEndpoints, TagRule};
use crate::llm::route::Glob;
use crate::support::calendar::Period;
use keys::Keys;
pub(super) use keys::{day_or_time, digest};
pub(super) use limits::{LimitContext, check_costs, limits};
use teams::team_of;
pub(super) use teams::teams;

/// The client of requests without a key, in records. No configured client may have this name.
pub const ANONYMOUS: &str = "anonymous";

/// The largest priority and share. Larger numbers say nothing more.
const MAX_PRIORITY: usize = 1_000;

const ENDPOINTS: &[(&str, AllowedEndpoints)] =
    &[("metered", AllowedEndpoints::Metered), ("all", AllowedEndpoints::All)];

/// The input of the clients from other sections.
pub(super) struct Context<'a> {
    /// The names of `[teams]`, also of invalid ones.
    pub(super) teams: &'a [String],
    /// The valid teams.
    pub(super) valid_teams: &'a [Team],
    pub(super) limits: &'a LimitContext<'a>,
    /// The limits of all clients together.
    pub(super) of_all: &'a [LimitSpec],
    /// The listed tags. `None`: they have a mistake.
    pub(super) tags: Option<&'a [TagRule]>,
    /// A client needs no key here: certificates name clients, or keys are stored.
    pub(super) needs_no_key: bool,
}

impl Context<'_> {
    /// Returns true if a team, or one that it is in, or a limit of all clients, counts tokens or their
    /// cost.
    fn counts_tokens(&self, team: &Read<Option<usize>>) -> bool {
        if counts_tokens(self.of_all) {
            return true;
        }
        let first = team.as_ref().ok().copied().flatten().filter(|_| !self.valid_teams.is_empty());
        let mut teams = successors(first, |team| self.valid_teams[*team].team);
        teams.any(|team| counts_tokens(&self.valid_teams[team].limits))
    }
}

fn counts_tokens(limits: &[LimitSpec]) -> bool {
    limits.iter().any(|limit| matches!(limit.quantity, Quantity::Tokens(_) | Quantity::Cost(_)))
}

/// The clients in the order of the file.
pub(super) fn clients(root: &Table<'_>, context: &Context<'_>) -> Read<Vec<Client>> {
    let tables = root.names("clients", Some(NAME_PATTERN.to_owned()), Shape::Table)?;
    let mut keys = Keys::new(context.limits.zone, context.tags);
    all(tables.into_iter().map(|(name, entry)| {
        let named = check_name(&name, &entry);
        if name == ANONYMOUS {
            entry.mistake("is the name of requests without a key in records: choose another name");
        }
        let client = entry.table(|table| client(name, table, &mut keys, context));
        named.and(client)
    }))
}

fn client(name: String, table: &Table<'_>, keys: &mut Keys<'_>, context: &Context<'_>) -> Read<Client> {
    let keys = keys.of_client(&name, table, context.needs_no_key);
    let models = table.or_default("models", models());
    let endpoints = table.optional("endpoints", choice(ENDPOINTS));
    let team = table.optional("team", team_of(context.teams));
    let priority = table.or_default("priority", at_most(0, MAX_PRIORITY).default(0));
    let share = table.or_default("share", at_most(1, MAX_PRIORITY).default(1));
    let max_output = table.optional("max_output", limits::amount());
    let limits = limits(table, &LimitContext { is_client: true, ..*context.limits });
    let limit_headers = table.or_default("limit_headers", boolean().default(false));
    let response_cost = table.or_default("response_cost", boolean().default(false));
    let tags = fixed(table, context.tags);
    let (models, endpoints) = (models?, endpoints?);
    // A file or a batch can name any model, and its tokens are not counted.
    let counts = limits.as_ref().is_ok_and(|limits| counts_tokens(limits)) || context.counts_tokens(&team);
    let by_default = match models.iter().any(|model| model == "*") && !counts {
        true => AllowedEndpoints::All,
        false => AllowedEndpoints::Metered,
    };
    read_all!(Client {
        name: Ok(name),
        keys: keys,
        models: Ok(models),
        endpoints: Ok(endpoints.unwrap_or(by_default)),
        limits: limits,
        team: team,
        priority: priority,
        share: share,
        tags: tags,
        max_output: max_output,
        limit_headers: limit_headers,
        response_cost: response_cost,
    })
}

fn models() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Vec<String>>> {
    let model =
        parsed("model pattern", Some("^.+$"), "text in quotes, such as \"gpt-5*\"", |text| match text {
            "" => Err("is empty: write \"*\" for every model".to_owned()),
            _ => Ok(text.to_owned()),
        });
    let models = list(model).then(|entry, models: Vec<String>| match models.is_empty() {
        true => Err(entry.mistake("is empty: name the models, or write [\"*\"] for all")),
        false => Ok(models),
    });
    models.default(vec!["*"])
}

fn at_most(least: usize, most: usize) -> Kind<impl Fn(&Entry<'_>) -> Read<u32>> {
    Kind::new(Shape::Integer(least, most), move |entry: &Entry<'_>| {
        let number = entry.integer()?;
        match u32::try_from(number) {
            Ok(small) if (least..=most).contains(&number) => Ok(small),
            _ => Err(entry.mistake(format!("must be from {least} to {most}"))),
        }
    })
}

/// All that may have limits.
#[derive(Clone, Copy)]
pub(super) struct Owners<'a> {
    pub(super) clients: &'a [Client],
    pub(super) teams: &'a [Team],
    /// The limits of all clients together.
    pub(super) of_all: &'a [LimitSpec],
}

impl<'a> Owners<'a> {
    /// The limits of each owner, with the path of their key.
    fn limits(self) -> impl Iterator<Item = (Vec<&'a str>, &'a [LimitSpec])> {
        let of_clients =
            self.clients.iter().map(|client| (vec!["clients", &client.name, "limits"], &*client.limits));
        let of_teams = self.teams.iter().map(|team| (vec!["teams", &team.name, "limits"], &*team.limits));
        of_clients.chain(of_teams).chain([(vec!["limits"], self.of_all)])
    }
}

/// Reports limits of periods whose use the ledger does not keep: it is read at the start.
pub(super) fn check_periods(root: &Table<'_>, ledger: &LedgerSettings, owners: Owners<'_>) {
    for (key, limits) in owners.limits() {
        let longest = limits.iter().filter_map(|limit| match &limit.bound {
            LimitBound::Period { calendar, .. } => Some(longest(calendar.period)),
            LimitBound::Rate(_) | LimitBound::Concurrent(_) => None,
        });
        let (Some(longest), Some(entry)) = (longest.max(), root.at(&key)) else { continue };
        if ledger.path.is_none() {
            entry.mistake(
                "has a period whose use is read from the ledger at the start: name a file in ledger.path",
            );
        } else if ledger.retention.is_some_and(|retention| retention < longest) {
            let days = longest.as_secs() / 86_400;
            entry.mistake(format!(
                "has a period of up to {days} days, whose use is read from the ledger at the start: keep its records longer \
                 with ledger.retention"
            ));
        }
    }
}

/// The longest time of a period, whose days may have 25 hours.
fn longest(period: Period) -> Duration {
    let days = match period {
        Period::Hour => 0,
        Period::Day => 1,
        Period::Week => 7,
        Period::Month => 31,
        Period::Year => 366,
    };
    Duration::from_secs(days * 86_400 + 3_600)
}

/// Warns of teams without members, and of models that no route takes.
pub(super) fn warn_of_unused(root: &Table<'_>, clients: &[Client], teams: &[Team], routes: &[Route]) {
    for (index, team) in teams.iter().enumerate() {
        let is_used = clients.iter().map(|client| client.team).chain(teams.iter().map(|team| team.team));
        if is_used.flatten().all(|used| used != index)
            && let Some(entry) = root.at(&["teams", &team.name])
        {
            entry.warning("has no effect: no client and no other team is in it");
        }
    }
    let takes = |pattern: &str| routes.is_empty() || routes.iter().any(|route| takes_some(route, pattern));
    for client in clients {
        let unused: Vec<_> = client.models.iter().filter(|pattern| !takes(pattern)).collect();
        if let (Some(pattern), Some(entry)) = (unused.first(), root.at(&["clients", &client.name, "models"]))
        {
            entry.warning(&format!("no route takes {pattern:?}, so that the client cannot ask for it"));
        }
    }
}

/// Returns true if the route may take a model of the pattern.
fn takes_some(route: &Route, pattern: &str) -> bool {
    route.model.as_deref().is_none_or(|model| Glob::new(model).overlaps(&Glob::new(pattern)))
}
