//! `[[routes]]`: the upstreams and groups of requests, and a check that each route can match a
//! request.

use super::groups::{Names, unknown};
use super::kind::parsed;
use super::notes::Read;
use super::reader::{Table, all};
use super::settings::{GroupSettings, Route, RouteTarget, Upstream};
use crate::llm::provider::Provider;
use crate::llm::route::Glob;

/// The routes, whose targets are among `names`. A single upstream needs no route.
pub(super) fn routes(root: &Table<'_>, names: &Names) -> Read<Vec<Route>> {
    let entries = root.tables("routes")?;
    if entries.is_empty() {
        return match &names.upstreams[..] {
            [] | [_] => Ok(Vec::new()),
            upstreams => Err(root.mistake(
                "routes",
                format!(
                    "there are none, and {} upstreams: write [[routes]] that say which requests go where",
                    upstreams.len()
                ),
            )),
        };
    }
    let routes = all(entries.iter().map(|entry| entry.table(|table| route(table, names))))?;
    let reachable = routes.iter().zip(&entries).enumerate().map(|(index, (route, entry))| {
        match routes[..index].iter().position(|earlier| takes_all_of(earlier, route)) {
            Some(earlier) => Err(entry.mistake(format!(
                "no request ever gets here: routes[{earlier}] takes all of them first; put this one before it, or remove it"
            ))),
            None => Ok(()),
        }
    });
    all(reachable)?;
    Ok(routes)
}

/// Warns of upstreams and groups that get no requests.
pub(super) fn warn_of_unused(root: &Table<'_>, routes: &[Route], groups: &[GroupSettings], names: &Names) {
    const UNUSED: &str = "no route leads here: it gets no requests";
    let is_target = |target| routes.iter().any(|route| route.target == target);
    for (index, name) in names.groups.iter().enumerate() {
        if let Some(entry) = root.at(&["groups", name]).filter(|_| !is_target(RouteTarget::Group(index))) {
            entry.warning(UNUSED);
        }
    }
    for (index, name) in names.upstreams.iter().enumerate() {
        let is_member = groups.iter().any(|group| group.members().any(|member| member.upstream == index));
        let is_used = is_member || routes.is_empty() || is_target(RouteTarget::Upstream(index));
        if let Some(entry) = root.at(&["upstreams", name]).filter(|_| !is_used) {
            entry.warning(UNUSED);
        }
    }
}

/// Notes routes for the paths of Azure's SDKs to groups that have another member: only Azure serves
/// those paths.
pub(super) fn check_paths(
    root: &Table<'_>,
    routes: &[Route],
    groups: &[GroupSettings],
    upstreams: &[Upstream],
) -> Read<()> {
    let entries = root.tables("routes")?;
    all(routes.iter().zip(&entries).map(|(route, entry)| {
        let RouteTarget::Group(group) = route.target else { return Ok(()) };
        let is_azure = route.path.as_deref().is_some_and(|path| path.split('/').nth(1) == Some("openai"));
        let mut members = groups[group].members().map(|member| &upstreams[member.upstream]);
        match members.find(|member| is_azure && member.provider != Provider::Azure) {
            Some(member) => Err(entry.mistake(format!(
                "has a path of Azure's SDKs, which `{}` of the group does not serve: let the route lead to an azure upstream",
                member.name
            ))),
            None => Ok(()),
        }
    }))
    .map(drop)
}

fn route(table: &Table<'_>, names: &Names) -> Read<Route> {
    let path = parsed("path prefix", Some("^/.*[^/]$"), "text in quotes, such as \"/azure\"", path);
    let path = table.optional("path", path);
    let model = |text: &str| match text {
        "" => Err("is empty: leave it out to match every model".to_owned()),
        _ => Ok(text.to_owned()),
    };
    let model = parsed("model pattern", Some("^.+$"), "text in quotes, such as \"llama*\"", model);
    let model = table.optional("model", model);
    let name = |text: &str| target(text, names);
    let name = parsed("name of an upstream or a group", None, "the name of an upstream in quotes", name);
    let target = table.required("upstream", "write the NAME of an [upstreams.NAME] or a [groups.NAME]", name);
    Ok(Route { path: path?, model: model?, target: target? })
}

/// A prefix of whole segments.
fn path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    let reason = match text {
        "" | "/" => "matches every path: leave it out for that",
        _ if !text.starts_with('/') => "must begin with a slash",
        _ if text.ends_with('/') => "must not end with a slash: it matches whole segments anyway",
        _ if !text.bytes().all(is_plain) => {
            "has characters that a path cannot have: write them as %20 and so on"
        }
        _ => return Ok(text.to_owned()),
    };
    Err(format!("{text:?} {reason}"))
}

fn target(text: &str, names: &Names) -> Result<RouteTarget, String> {
    let place = |names: &[String]| names.iter().position(|name| name == text);
    let upstream = place(&names.upstreams).map(RouteTarget::Upstream);
    let target = upstream.or_else(|| place(&names.groups).map(RouteTarget::Group));
    target.ok_or_else(|| unknown("upstream", text, &[&names.upstreams[..], &names.groups].concat()))
}

/// Returns true if `earlier` leaves no request for `later`. A glob that matches a pattern as a text
/// also matches everything that the pattern matches: its literal pieces have no stars, so a star of
/// its own covers each star of the pattern.
fn takes_all_of(earlier: &Route, later: &Route) -> bool {
    let path = match (&earlier.path, &later.path) {
        (None, _) => true,
        (Some(prefix), Some(path)) => {
            path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        (Some(_), None) => false,
    };
    let model = match (&earlier.model, &later.model) {
        (None, _) => true,
        (Some(glob), Some(model)) => Glob::new(glob).matches(model),
        (Some(_), None) => false,
    };
    path && model
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(route: &str) -> Route {
        let (path, model) = route.split_once(' ').unwrap();
        let some = |text: &str| (text != "-").then(|| text.to_owned());
        Route { path: some(path), model: some(model), target: RouteTarget::Upstream(0) }
    }

    #[test]
    fn route_is_unreachable_if_an_earlier_one_takes_all() {
        for (earlier, later) in [
            ("- -", "- -"),
            ("- -", "/a -"),
            ("- -", "/a gpt*"),
            ("/a -", "/a/b -"),
            ("/a -", "/a gpt*"),
            ("- *", "- gpt-4o"),
            ("- gpt*", "- gpt-4*"),
            ("- gpt*", "/a gpt-4o"),
            ("- *-mini", "- gpt*-mini"),
            ("/a gpt*", "/a gpt*"),
        ] {
            assert!(takes_all_of(&parse(earlier), &parse(later)), "{earlier}, then {later}");
        }
    }

    #[test]
    fn route_is_reachable_if_earlier_ones_leave_requests() {
        for (earlier, later) in [
            ("/a -", "- -"),
            ("/a -", "/ab -"),
            ("/a/b -", "/a -"),
            ("- *", "- -"),
            ("- gpt*", "- -"),
            ("- gpt-4*", "- gpt*"),
            ("- gpt-4o", "- gpt-4*"),
            ("/a gpt*", "- gpt-4o"),
            ("- a*b", "- a*"),
        ] {
            assert!(!takes_all_of(&parse(earlier), &parse(later)), "{earlier}, then {later}");
        }
    }
}
