//! The use of limits' periods before this process, as the ledger knows it.

use std::path::Path;

use jiff::Timestamp;

use crate::config::Settings;
use crate::gate::limit::{AppliedLimit, Owner, Quantity, Units, Weights};
use crate::llm::price::Prices;
use crate::proxy::limit_time;
use crate::record::Outcome;
use crate::sinks::ledger::{Bounds, By, Group, LedgerError, Selection, report};

/// Sets what was used in the current period of each limit, before the limit is in use. A count whose
/// use cannot be read begins at 0, with a warning.
pub(super) fn seed(limits: &[AppliedLimit], settings: &Settings, ledger: Option<&Path>) {
    let now = limit_time();
    let mut periods = Vec::<(Timestamp, Vec<Group>)>::new();
    for applied in limits {
        let Some((begin, _)) = applied.limit.status(now).period else { continue };
        if periods.iter().all(|(known, _)| *known != begin) {
            let groups = ledger.map(|path| used_since(path, begin)).transpose().unwrap_or_else(|error| {
                tracing::warn!("limits count from 0 in the period that began at {begin}: {error}");
                None
            });
            periods.push((begin, groups.unwrap_or_default()));
        }
        let groups = periods.iter().find(|(known, _)| *known == begin).map(|(_, groups)| &groups[..]);
        let clients = clients_of(&applied.owner, settings);
        let used = sum(groups.unwrap_or_default(), &clients, applied.limit.quantity());
        applied.limit.seed(used, now.time);
    }
}

/// The use of each client and outcome, with the attempts whose response was thrown away.
fn used_since(ledger: &Path, begin: Timestamp) -> Result<Vec<Group>, LedgerError> {
    let selection = Selection { attempts: true, ..Selection::since(begin) };
    let by = [By::Client, By::Outcome];
    Ok(report(ledger, &selection, &by, &Prices::default(), &Bounds::default())?.groups)
}

/// The clients whose use counts for the owner.
fn clients_of<'a>(owner: &'a Owner, settings: &'a Settings) -> Vec<&'a str> {
    match owner {
        Owner::Client(name) => vec![name],
        Owner::Team(name) => {
            let is_in =
                |client: &&crate::config::Client| settings.teams_of(client).any(|team| *team.name == **name);
            settings.clients.iter().filter(is_in).map(|client| &*client.name).collect()
        }
    }
}

fn sum(groups: &[Group], clients: &[&str], quantity: Quantity) -> Units {
    let part = |Group { key, sums }: &Group| {
        let [Some(client), Some(outcome)] = &key[..] else { return Units::default() };
        if !clients.contains(&&**client) {
            return Units::default();
        }
        match quantity {
            Quantity::Requests if outcome != Outcome::Rejected.as_str() => sums.requests.into(),
            Quantity::Tokens(_) => {
                let tokens = sums.input_tokens.unwrap_or(0).saturating_add(sums.output_tokens.unwrap_or(0));
                Units(u128::from(tokens) * u128::from(Weights::ONE))
            }
            Quantity::Requests | Quantity::Cost(_) | Quantity::Concurrent => Units::default(),
        }
    };
    groups.iter().map(part).fold(Units::default(), Units::plus)
}
