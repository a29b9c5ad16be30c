//! `[[routes]]`: the upstreams of requests, and a check that each route can match a request.

use super::kind::parsed;
use super::notes::Read;
use super::reader::{Table, all};
use super::settings::Route;
use super::suggest::suggest;
use crate::llm::route::Glob;

/// The routes, whose upstreams are among `names`. A single upstream needs no route.
pub(super) fn routes(root: &Table<'_>, names: &[String]) -> Read<Vec<Route>> {
    let entries = root.tables("routes")?;
    if entries.is_empty() {
        return match names {
            [] | [_] => Ok(Vec::new()),
            _ => Err(root.mistake(
                "routes",
                format!(
                    "there are none, and {} upstreams: write [[routes]] that say which requests go where",
                    names.len()
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
    for (index, name) in names.iter().enumerate() {
        let is_unused = routes.iter().all(|route| route.upstream != index);
        if let Some(entry) = root.at(&["upstreams", name]).filter(|_| is_unused) {
            entry.warning("no route leads here: it gets no requests");
        }
    }
    Ok(routes)
}

fn route(table: &Table<'_>, names: &[String]) -> Read<Route> {
    let path = parsed("path prefix", Some("^/.*[^/]$"), "text in quotes, such as \"/azure\"", path);
    let path = table.optional("path", path);
    let model = |text: &str| match text {
        "" => Err("is empty: leave it out to match every model".to_owned()),
        _ => Ok(text.to_owned()),
    };
    let model = parsed("model pattern", Some("^.+$"), "text in quotes, such as \"llama*\"", model);
    let model = table.optional("model", model);
    let name = |text: &str| upstream(text, names);
    let name = parsed("name of an upstream", None, "the name of an upstream in quotes", name);
    let upstream = table.required("upstream", "write the NAME of an [upstreams.NAME]", name);
    Ok(Route { path: path?, model: model?, upstream: upstream? })
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

fn upstream(text: &str, names: &[String]) -> Result<usize, String> {
    names.iter().position(|name| name == text).ok_or_else(|| {
        match suggest(text, names.iter().map(String::as_str)) {
            Some(meant) => format!("there is no upstream {text:?}; did you mean {meant:?}?"),
            None if names.is_empty() => format!("there is no upstream {text:?}"),
            None => format!("there is no upstream {text:?}, only {}", names.join(", ")),
        }
    })
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
        Route { path: some(path), model: some(model), upstream: 0 }
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
