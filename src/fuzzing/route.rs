//! Compares the table with its definition, and targets with the readings of servers.
//!
//! Input, by lines: the inbound `path[?query]`; the model, empty for none; the upstream's URL; then
//! the rules, `prefix glob`, with `-` for a missing one.

use crate::llm::provider::{ApiVersion, BaseUrl, Dialect, Inbound, Provider, TargetError};
use crate::llm::route::{Glob, Match, Rule, Table};

/// The version in the URLs of dated Azure APIs.
const VERSION: &str = "2024-10-21";

/// The table finds the same rule as the definition, and no target leaves the upstream's own path.
pub fn route(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (Some(inbound), Some(model), Some(url)) = (lines.next(), lines.next(), lines.next()) else { return };
    let model = Some(model).filter(|model| !model.is_empty());
    let (path, query) = match inbound.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (inbound, None),
    };

    let rules: Vec<_> = lines.filter_map(|line| line.split_once(' ')).collect();
    let found = find(&rules, path, model);

    let base = BaseUrl::parse(url).unwrap_or_else(|_| BaseUrl::parse("http://a/base").expect("it is one"));
    assert_eq!(BaseUrl::parse(&base.to_string()).as_ref(), Ok(&base), "a URL is read as it is shown");
    let rest = found.map_or(path, |(_, rest)| rest);
    for (provider, version) in [
        (Provider::Other, "v1"),
        (Provider::Gemini, "v1"),
        (Provider::Azure, "v1"),
        (Provider::Azure, VERSION),
    ] {
        let version = ApiVersion::parse(version).expect("it is one");
        let deployments =
            [("fast".to_owned(), "..".to_owned()), ("gpt-4o".to_owned(), "my gpt/4o".to_owned())];
        let dialect = Dialect::new(provider, base.clone(), version, deployments);
        check_target(&dialect, &Inbound { path: rest, query, is_session: false }, model);
    }
}

/// The result of the table, compared with the definition.
fn find<'p>(rules: &[(&str, &str)], path: &'p str, model: Option<&str>) -> Option<(usize, &'p str)> {
    let asks = |text: &str| Some(text.to_owned()).filter(|text| text != "-");
    let table = Table::new(
        rules
            .iter()
            .enumerate()
            .map(|(target, (prefix, glob))| Rule {
                path: asks(prefix),
                model: asks(glob).map(|glob| Glob::new(&glob)),
                target,
            })
            .collect(),
    );
    let found = |model| table.find(path, model).map(|Match { target, rest }| (*target, rest));
    let expected = rules.iter().enumerate().find_map(|(upstream, (prefix, glob))| {
        let rest = naive_rest(prefix, path)?;
        let takes = *glob == "-" || naive_glob(glob.as_bytes(), model?.as_bytes());
        takes.then_some((upstream, rest))
    });
    assert_eq!(found(model), expected);
    if !table.needs_model(path) {
        assert_eq!(expected, found(None), "if no model is needed, none changes the route");
    }
    expected
}

fn naive_rest<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    let is_asked = prefix != "-";
    let prefix = prefix.trim_matches('/');
    if !is_asked || prefix.is_empty() {
        return Some(path);
    }
    if path == format!("/{prefix}") {
        return Some("/");
    }
    path.starts_with(&format!("/{prefix}/")).then(|| &path[1 + prefix.len()..])
}

/// Row by row: the beginnings of the text that match the pattern so far.
fn naive_glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut fits = vec![false; text.len() + 1];
    fits[0] = true;
    for &byte in pattern {
        if byte == b'*' {
            let first = fits.iter().position(|&fits| fits).unwrap_or(fits.len());
            fits[first..].fill(true);
        } else {
            for end in (0..text.len()).rev() {
                fits[end + 1] = fits[end] && text[end] == byte;
            }
            fits[0] = false;
        }
    }
    fits[text.len()]
}

fn check_target(dialect: &Dialect, inbound: &Inbound<'_>, model: Option<&str>) {
    let target = dialect.target(inbound, model);
    if !dialect.needs_model(inbound) {
        let same = dialect.target(inbound, None);
        // A realtime session names its model in the query.
        let in_query = inbound.path.trim_end_matches('/').ends_with("/realtime");
        let seen = if in_query { path_of } else { Result::as_deref };
        assert_eq!(seen(&target), seen(&same), "a model that is not needed changes nothing");
        assert_ne!(target, Err(TargetError::ModelRequired));
    }
    let Ok(target) = target else { return };

    assert!(
        target.bytes().all(|byte| byte > b' ' && byte != 0x7f && byte != b'#'),
        "{target:?} is one target"
    );
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let below = path.strip_prefix(dialect.base().path()).expect("a target begins with the upstream's path");
    assert!(below.starts_with('/'));
    let below = percent_decoded(below);
    assert!(!below.iter().any(|&byte| byte == b'\\' || byte.is_ascii_control()));
    let mut segments: Vec<_> = below[1..].split(|&byte| byte == b'/').collect();
    if segments.last().is_some_and(|last| last.is_empty()) {
        segments.pop();
    }
    for segment in segments {
        assert!(!matches!(segment, b"" | b"." | b".."), "{target:?} leaves the upstream's path");
    }

    if let Some(rest) = inbound.path.strip_prefix("/v1/") {
        assert!(path.ends_with(rest), "the rest of the path passes as it is");
        // The dated form is the one in which a deployment URL may be needed.
        if dialect.needs_model(inbound) {
            let versions: Vec<_> = query
                .split('&')
                .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
                .filter(|(name, _)| percent_decoded(name).eq_ignore_ascii_case(b"api-version"))
                .collect();
            assert_eq!(versions, [("api-version", VERSION)]);
            return;
        }
    }
    if inbound.path.starts_with("/openai/") {
        assert!(path.ends_with(inbound.path), "an Azure SDK's path passes as it is");
        assert_eq!(target.split_once('?').map(|(_, query)| query), inbound.query, "so does its query");
    }
}

/// The target without its query.
fn path_of(target: &Result<String, TargetError>) -> Result<&str, &TargetError> {
    target.as_deref().map(|target| target.split_once('?').map_or(target, |(path, _)| path))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut out = Vec::new();
    while let [first, rest @ ..] = bytes {
        let escape =
            bytes.get(1..3).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        match escape {
            Some(digits) => {
                let digits = std::str::from_utf8(digits).expect("hexadecimal digits are ASCII");
                out.push(u8::from_str_radix(digits, 16).expect("they are digits"));
                bytes = &bytes[3..];
            }
            None => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/route");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::route(&seed[..end]);
            }
        }
    }
}
