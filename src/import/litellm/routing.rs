//! Routes and groups from the deployments of each name.

use std::collections::BTreeMap;

use super::deployment::Deployment;
use super::draft::{Draft, GroupDraft, RouteDraft};
use super::finding::Findings;
use super::settings::Settings;
use crate::import::toml_text::quoted;
use crate::import::yaml::{Node, Value};

/// Adds groups, routes, other names of models, and limits to the draft.
pub(super) fn route(all: Vec<Deployment>, settings: &Settings, findings: &mut Findings, draft: &mut Draft) {
    let mut names: Vec<String> = Vec::new();
    let mut by_name: BTreeMap<&str, Vec<&Deployment>> = BTreeMap::new();
    for deployment in &all {
        if !names.contains(&deployment.name) {
            names.push(deployment.name.clone());
        }
        by_name.entry(&deployment.name).or_default().push(deployment);
    }
    for name in &names {
        one(name, &by_name, settings, findings, draft);
    }
    for (alias, target) in &settings.aliases {
        if !names.contains(alias) && by_name.contains_key(target.as_str()) {
            aliased(alias, target, &by_name, draft);
        }
    }
    for deployment in &all {
        limits(deployment, draft);
    }
    warn_of_missing(settings, &by_name, findings);
}

fn one(
    name: &str,
    by_name: &BTreeMap<&str, Vec<&Deployment>>,
    settings: &Settings,
    findings: &mut Findings,
    draft: &mut Draft,
) {
    let own = &by_name[name];
    if name.contains('*') {
        return pattern(name, own, findings, draft);
    }
    let mut tiers: BTreeMap<u64, Vec<&Deployment>> = BTreeMap::new();
    for deployment in own {
        tiers.entry(deployment.order.unwrap_or(u64::MAX)).or_default().push(deployment);
    }
    let mut tiers: Vec<Vec<&Deployment>> = tiers.into_values().collect();
    let fallbacks = settings.fallbacks.get(name).unwrap_or(&settings.default_fallbacks);
    for fallback in fallbacks.iter().filter(|fallback| *fallback != name) {
        tiers.extend(by_name.get(fallback.as_str()).cloned());
    }
    if tiers.len() == 1 && tiers[0].len() == 1 {
        let deployment = tiers[0][0];
        // Another model may have the name at this upstream already.
        if rename(name, deployment, draft) {
            let target = draft.upstreams[deployment.upstream].name.clone();
            draft.routes.push(RouteDraft { model: Some(name.to_owned()), target });
            return;
        }
    }
    let mut members: Vec<(usize, String)> = Vec::new();
    let mut written = Vec::new();
    for tier in tiers {
        let mut texts = Vec::new();
        for deployment in tier {
            let member = (deployment.upstream, deployment.model.clone());
            if members.contains(&member) {
                continue;
            }
            members.push(member);
            texts.push(member_text(name, deployment, draft));
        }
        if !texts.is_empty() {
            written.push(texts);
        }
    }
    let sources: Vec<_> = own.iter().map(|deployment| deployment.source.as_str()).collect();
    let group = GroupDraft {
        name: draft.free_name(name),
        source: sources.join(", "),
        tiers: written,
        balance: settings.balance.unwrap_or("weight"),
    };
    draft.routes.push(RouteDraft { model: Some(name.to_owned()), target: group.name.clone() });
    draft.groups.push(group);
}

/// Another name for a model of the file.
fn aliased(alias: &str, target: &str, by_name: &BTreeMap<&str, Vec<&Deployment>>, draft: &mut Draft) {
    let found = draft.routes.iter().find(|route| route.model.as_deref() == Some(target)).cloned();
    let Some(RouteDraft { target: place, .. }) = found else { return };
    let is_group = draft.groups.iter().any(|group| group.name == place);
    if is_group || rename(alias, by_name[target][0], draft) {
        draft.routes.push(RouteDraft { model: Some(alias.to_owned()), target: place });
    }
}

/// Makes the upstream replace the name by the model. Returns false if it replaces the name already
/// by another one.
fn rename(name: &str, deployment: &Deployment, draft: &mut Draft) -> bool {
    let upstream = &mut draft.upstreams[deployment.upstream];
    if name == deployment.model {
        return !upstream.models.contains_key(name);
    }
    match upstream.models.get(name) {
        Some(model) => *model == deployment.model,
        None => {
            upstream.models.insert(name.to_owned(), deployment.model.clone());
            true
        }
    }
}

/// A pattern names the models of a service, which keep their names.
fn pattern(name: &str, own: &[&Deployment], findings: &mut Findings, draft: &mut Draft) {
    for (index, deployment) in own.iter().enumerate() {
        let node = Node { line: line_of(&deployment.source), value: Value::Text(name.to_owned()) };
        let path = format!("{} model_name", deployment.source);
        if index > 0 {
            findings.by_hand(
                &path,
                &node,
                "several deployments of a pattern: write a group of their upstreams",
            );
        } else if name == deployment.model || name == "*" && deployment.model.ends_with('*') {
            let target = draft.upstreams[deployment.upstream].name.clone();
            let model = (name != "*").then(|| name.to_owned());
            draft.routes.push(RouteDraft { model, target });
        } else {
            let note = "a prefix is not removed from models: clients name the model as the service does, and [[routes]] name its models";
            findings.by_hand(&path, &node, note);
        }
    }
}

fn line_of(source: &str) -> usize {
    source.rsplit("line ").next().and_then(|rest| rest.trim_end_matches(')').parse().ok()).unwrap_or_default()
}

fn member_text(name: &str, deployment: &Deployment, draft: &Draft) -> String {
    let upstream = quoted(&draft.upstreams[deployment.upstream].name);
    let weight = deployment.weight.map(|weight| format!("weight = {weight}"));
    let model = (name != deployment.model).then(|| format!("model = {}", quoted(&deployment.model)));
    match [weight, model].into_iter().flatten().collect::<Vec<_>>() {
        more if more.is_empty() => upstream,
        more => format!("{{ upstream = {upstream}, {} }}", more.join(", ")),
    }
}

fn limits(deployment: &Deployment, draft: &mut Draft) {
    let upstream = quoted(&draft.upstreams[deployment.upstream].name);
    let model = match deployment.name == "*" {
        true => String::new(),
        false => format!(", model = {}", quoted(&deployment.name)),
    };
    for (what, count) in &deployment.limits {
        let per = if *what == "concurrent" { "" } else { ", per = \"minute\"" };
        let limit = format!("{{ {what} = {count}{per}, upstream = {upstream}{model} }},");
        if !draft.limits.iter().any(|known| known.starts_with(&limit)) {
            draft.limits.push(format!("{limit} # {}", deployment.source));
        }
    }
}

/// Fallbacks and aliases of names that have no deployment.
fn warn_of_missing(settings: &Settings, by_name: &BTreeMap<&str, Vec<&Deployment>>, findings: &mut Findings) {
    let nowhere = Node { line: 0, value: Value::Text(String::new()) };
    let targets = settings
        .fallbacks
        .values()
        .flatten()
        .chain(&settings.default_fallbacks)
        .chain(settings.aliases.values());
    let mut missing: Vec<_> = targets.filter(|target| !by_name.contains_key(target.as_str())).collect();
    missing.sort_unstable();
    missing.dedup();
    for name in missing {
        findings.by_hand(
            &format!("fallback or alias {name}"),
            &nowhere,
            "no deployment that was taken has this name",
        );
    }
}
