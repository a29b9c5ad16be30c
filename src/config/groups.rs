//! `[groups.NAME]`: upstreams that serve the same requests, one in place of another.

mod breaker;
mod choice;
mod queue;
mod retry;

use super::kind::{Kind, Shape, integer, text, time};
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::sections::{NAME_PATTERN, check_name};
use super::settings::{GroupSettings, MemberSettings, Upstream};
use super::suggest::suggest;
use crate::balance::MAX_MEMBERS;

/// The names that groups, routes and members refer to, also those of invalid tables.
pub(super) struct Names {
    pub(super) upstreams: Vec<String>,
    pub(super) groups: Vec<String>,
}

/// The largest weight, so that the weights of a tier add up.
const MAX_WEIGHT: usize = 1_000_000;

/// The form of a tier, for messages.
const TIER: &str = "a list of members, such as [\"openai\", { upstream = \"azure\", weight = 2 }]";

/// The groups in the order of the file, and the names of all of them. `upstreams` are the valid
/// upstreams, for the rules between their timeouts and those of a group.
pub(super) fn groups(
    root: &Table<'_>,
    upstream_names: Vec<String>,
    upstreams: Option<&[Upstream]>,
) -> (Names, Read<Vec<GroupSettings>>) {
    let tables = match root.names("groups", Some(NAME_PATTERN.to_owned()), Shape::Table) {
        Ok(tables) => tables,
        Err(noted) => return (Names { upstreams: upstream_names, groups: Vec::new() }, Err(noted)),
    };
    let groups = tables.iter().map(|(name, _)| name.clone()).collect();
    let names = Names { upstreams: upstream_names, groups };
    let read = |(name, entry): (String, Entry<'_>)| {
        let named = check_name(&name, &entry);
        if names.upstreams.contains(&name) {
            entry.mistake(
                "is the name of an upstream too, and a route could mean either: choose another name",
            );
        }
        let group = entry.table(|table| group(name, table, &names, upstreams));
        named.and(group)
    };
    let groups = all(tables.into_iter().map(read));
    (names, groups)
}

fn group(
    name: String,
    table: &Table<'_>,
    names: &Names,
    upstreams: Option<&[Upstream]>,
) -> Read<GroupSettings> {
    const MISSING: &str = "write the members by preference, such as [[\"openai\"], [\"azure\"]]";
    let tiers = table.required("tiers", MISSING, tiers_of(names));
    let retry = table.section("retry", |table| retry::retry(table, tiers.as_deref().ok(), upstreams));
    let members = tiers.as_deref().unwrap_or_default().iter().flatten();
    let first_byte = |member: &MemberSettings| Some(upstreams?[member.upstream].timeouts.first_byte);
    let trial = members.filter_map(first_byte).max().unwrap_or_default();
    let breaker = table.section("breaker", |table| breaker::breaker(table, trial));
    let wait = queue::wait(table, retry);
    let (policy, probe) = match breaker {
        Ok((policy, probe)) => (Ok(policy), Ok(probe)),
        Err(noted) => (Err(noted), Err(noted)),
    };
    read_all!(GroupSettings {
        name: Ok(name),
        tiers: tiers,
        balance: choice::balance(table),
        sticky: choice::sticky(table),
        first_event: table.or_default("first_event", time().or_empty().default("2s")),
        retry: retry,
        breaker: policy,
        probe: probe,
        concurrent: queue::concurrent(table),
        wait: wait,
        queue: queue::queue(table, wait),
    })
}

fn tiers_of(names: &Names) -> Kind<impl Fn(&Entry<'_>) -> Read<Vec<Vec<MemberSettings>>>> {
    let item = Shape::AnyOf(vec![Shape::Text("upstream name", None), Shape::Table]);
    let shape = Shape::List(Box::new(Shape::List(Box::new(item))));
    Kind::new(shape, move |entry: &Entry<'_>| {
        let tiers = entry.array("a list of tiers, such as [[\"openai\"], [\"azure\"]]")?;
        if tiers.is_empty() {
            return Err(entry.mistake("is empty: name at least one member, such as [[\"openai\"]]"));
        }
        let members = all(tiers.iter().map(|entry| {
            let members = entry.array(TIER)?;
            if members.is_empty() {
                return Err(entry.mistake("is an empty tier: name a member, or remove it"));
            }
            all(members.iter().map(|entry| member(entry, names)))
        }))?;
        let entries = tiers.iter().map(|tier| tier.array(TIER)).collect::<Read<Vec<_>>>()?;
        let entries: Vec<_> = entries.into_iter().flatten().collect();
        check_members(entry, &members.concat(), &entries)?;
        Ok(members)
    })
}

/// A member is an upstream's name, or a table with its name in it.
fn member(entry: &Entry<'_>, names: &Names) -> Read<MemberSettings> {
    if let Some(name) = entry.as_text() {
        let upstream = names.upstream(name).map_err(|reason| entry.mistake(reason))?;
        return Ok(MemberSettings { upstream, weight: 1, model: None });
    }
    if !entry.is_table() {
        return Err(entry.not(
            "the name of an upstream in quotes, or a table such as { upstream = \"azure\", weight = 2 }",
        ));
    }
    entry.table(|table| {
        let upstream =
            text().then(|entry, name| names.upstream(&name).map_err(|reason| entry.mistake(reason)));
        let weight = integer().then(|entry, weight| match u32::try_from(weight) {
            Ok(weight) if weight as usize <= MAX_WEIGHT => Ok(weight),
            _ => Err(entry.mistake(format!("must be at most {MAX_WEIGHT}"))),
        });
        let model = text().then(|entry, model| match model.as_str() {
            "" => Err(entry.mistake("is empty: leave it out to ask for the request's model")),
            _ => Ok(model),
        });
        read_all!(MemberSettings {
            upstream: table.required("upstream", "write the NAME of an [upstreams.NAME]", upstream),
            weight: table.or_default("weight", weight.default(1)),
            model: table.optional("model", model),
        })
    })
}

/// The rules between the members of a group. `entries` are theirs.
fn check_members(tiers: &Entry<'_>, members: &[MemberSettings], entries: &[Entry<'_>]) -> Read<()> {
    let is_same = |one: &MemberSettings, other: &MemberSettings| {
        (one.upstream, &one.model) == (other.upstream, &other.model)
    };
    all(members.iter().zip(entries).enumerate().map(|(index, (member, entry))| {
        match members[..index].iter().any(|earlier| is_same(earlier, member)) {
            true => Err(entry.mistake(
                "is in this group already: remove it, or give the two different models, as in { upstream = \"NAME\", model = \"MODEL\" }",
            )),
            false => Ok(()),
        }
    }))?;
    if members.len() > MAX_MEMBERS {
        return Err(
            tiers.mistake(format!("has {} members, and a group has at most {MAX_MEMBERS}", members.len()))
        );
    }
    if members.iter().all(|member| member.weight == 0) {
        return Err(tiers.mistake("has no member that takes requests: the weight of each is 0"));
    }
    Ok(())
}

impl Names {
    /// The index of an upstream; or the mistake in its name.
    fn upstream(&self, name: &str) -> Result<usize, String> {
        if let Some(index) = self.upstreams.iter().position(|upstream| upstream == name) {
            return Ok(index);
        }
        if self.groups.iter().any(|group| group == name) {
            return Err(format!("{name:?} is a group, and the members of a group are upstreams: name those"));
        }
        Err(unknown("upstream", name, &self.upstreams))
    }
}

/// The mistake in a name that is not in `names`.
pub(super) fn unknown(what: &str, name: &str, names: &[String]) -> String {
    match suggest(name, names.iter().map(String::as_str)) {
        Some(meant) => format!("there is no {what} {name:?}; did you mean {meant:?}?"),
        None if names.is_empty() => format!("there is no {what} {name:?}"),
        None => format!("there is no {what} {name:?}, only {}", names.join(", ")),
    }
}
