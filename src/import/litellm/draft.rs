//! Our configuration while it is being made, and its text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::import::toml_text::{comment, key, quoted};

const HEADER: &str = "\
# A configuration of LiteLLM's proxy, converted by `streamgauge import litellm`. The comments name
# its keys. `streamgauge check` checks this file; `check --live` sends a request to every upstream.
";

/// The largest name of an upstream or a group, in bytes.
const MAX_NAME: usize = 64;

/// The parts of a configuration.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) limits: Vec<String>,
    /// Whole tables with their comments: server, log, redis.
    pub(super) sections: Vec<String>,
    /// Requests need a key.
    pub(super) has_clients: bool,
    pub(super) upstreams: Vec<UpstreamDraft>,
    pub(super) groups: Vec<GroupDraft>,
    pub(super) routes: Vec<RouteDraft>,
    pub(super) prices: Vec<String>,
    /// Lines of every group's `retry` and `breaker`.
    pub(super) group_lines: Vec<String>,
}

/// The part of an upstream that two deployments can share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) provider: &'static str,
    /// Lines of the table, such as `api_key = "none"`.
    pub(super) lines: Vec<String>,
    /// Tables inside the upstream's, by their names.
    pub(super) tables: Vec<(&'static str, Vec<String>)>,
    /// Names of deployments instead of models.
    pub(super) has_deployments: bool,
}

#[derive(Clone, Debug)]
pub(super) struct UpstreamDraft {
    pub(super) name: String,
    pub(super) sources: Vec<String>,
    pub(super) service: Service,
    pub(super) default_model: String,
    /// Other names of models.
    pub(super) models: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(super) struct GroupDraft {
    pub(super) name: String,
    pub(super) source: String,
    /// Members as TOML, by tiers.
    pub(super) tiers: Vec<Vec<String>>,
    pub(super) balance: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct RouteDraft {
    /// `None`: every model.
    pub(super) model: Option<String>,
    pub(super) target: String,
}

impl Draft {
    /// The index of the upstream with this service; a new one is named like `name`.
    pub(super) fn upstream(&mut self, name: &str, service: Service, model: &str, source: &str) -> usize {
        if let Some(index) = self.upstreams.iter().position(|upstream| upstream.service == service) {
            self.upstreams[index].sources.push(source.to_owned());
            return index;
        }
        let upstream = UpstreamDraft {
            name: self.free_name(name),
            sources: vec![source.to_owned()],
            service,
            default_model: model.to_owned(),
            models: BTreeMap::new(),
        };
        self.upstreams.push(upstream);
        self.upstreams.len() - 1
    }

    /// A name that neither an upstream nor a group has.
    pub(super) fn free_name(&self, wanted: &str) -> String {
        let word = |c: char| if c.is_whitespace() || c.is_control() { '-' } else { c };
        let mut wanted: String = wanted.chars().map(word).collect();
        while wanted.len() > MAX_NAME - 4 {
            wanted.pop();
        }
        let wanted = if wanted.is_empty() { "model".to_owned() } else { wanted };
        let is_used = |name: &str| {
            self.upstreams.iter().any(|upstream| upstream.name == name)
                || self.groups.iter().any(|group| group.name == name)
        };
        let numbered = (2..1000).map(|number| format!("{wanted}-{number}"));
        std::iter::once(wanted.clone()).chain(numbered).find(|name| !is_used(name)).unwrap_or(wanted)
    }

    /// The text of the file. Empty if there is no upstream.
    pub(super) fn into_toml(mut self) -> String {
        // The first match wins: names, then the longer patterns.
        self.routes.sort_by_key(|route| {
            let stars = route.model.as_deref().map_or(usize::MAX, |model| model.matches('*').count());
            let length = route.model.as_deref().map_or(0, str::len);
            (stars.min(1) + usize::from(route.model.is_none()), usize::MAX - length)
        });
        self.drop_unused();
        if self.upstreams.is_empty() {
            return String::new();
        }
        let mut text = HEADER.to_owned();
        // A string takes all that is written.
        let _ = self.write(&mut text);
        text
    }

    /// Removes upstreams to which no request would go, with what names them.
    fn drop_unused(&mut self) {
        let members = self.groups.iter().flat_map(|group| group.tiers.iter().flatten());
        let members: Vec<_> = members.cloned().collect();
        let (routes, limits, prices) = (&self.routes, &mut self.limits, &mut self.prices);
        self.upstreams.retain(|upstream| {
            let name = quoted(&upstream.name);
            let is_used = routes.iter().any(|route| route.target == upstream.name)
                || members.iter().any(|member| member.contains(&name));
            if !is_used {
                let of_it = format!("upstream = {name}");
                limits.retain(|limit| !limit.contains(&of_it));
                prices.retain(|price| !price.contains(&of_it));
            }
            is_used
        });
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        if !self.limits.is_empty() {
            writeln!(text, "\nlimits = [")?;
            self.limits.iter().try_for_each(|limit| writeln!(text, "  {limit}"))?;
            writeln!(text, "]")?;
        }
        match self.has_clients {
            true => writeln!(text, "\n# The port of LiteLLM's proxy.\n[server]\nlisten = \"0.0.0.0:4000\"")?,
            false => writeln!(
                text,
                "\n# The port of LiteLLM's proxy. Without keys, only this machine can connect.\n[server]\nlisten = \"127.0.0.1:4000\""
            )?,
        }
        self.sections.iter().try_for_each(|section| write!(text, "\n{section}"))?;
        self.upstreams.iter().try_for_each(|upstream| write_upstream(text, upstream))?;
        for group in &self.groups {
            write_group(text, group, &self.group_lines)?;
        }
        for route in &self.routes {
            writeln!(text, "\n[[routes]]")?;
            if let Some(model) = &route.model {
                writeln!(text, "model = {}", quoted(model))?;
            }
            writeln!(text, "upstream = {}", quoted(&route.target))?;
        }
        self.prices.iter().try_for_each(|price| write!(text, "\n{price}"))
    }
}

fn write_upstream(text: &mut String, upstream: &UpstreamDraft) -> std::fmt::Result {
    let UpstreamDraft { name, sources, service, default_model, models } = upstream;
    let table = key(name);
    writeln!(text, "\n# {}", comment(&sources.join(", ")))?;
    writeln!(text, "[upstreams.{table}]")?;
    if name != service.provider || service.provider == "other" {
        writeln!(text, "provider = \"{}\"", service.provider)?;
    }
    service.lines.iter().try_for_each(|line| writeln!(text, "{line}"))?;
    if service.provider == "other" {
        writeln!(text, "default_model = {}", quoted(default_model))?;
    }
    if !models.is_empty() {
        let names = if service.has_deployments { "deployments" } else { "models" };
        let pairs: Vec<_> =
            models.iter().map(|(alias, model)| format!("{} = {}", quoted(alias), quoted(model))).collect();
        writeln!(text, "{names} = {{ {} }}", pairs.join(", "))?;
    }
    for (inner, lines) in &service.tables {
        writeln!(text, "[upstreams.{table}.{inner}]")?;
        lines.iter().try_for_each(|line| writeln!(text, "{line}"))?;
    }
    Ok(())
}

fn write_group(text: &mut String, group: &GroupDraft, lines: &[String]) -> std::fmt::Result {
    let GroupDraft { name, source, tiers, balance } = group;
    let table = key(name);
    writeln!(text, "\n# {}\n[groups.{table}]\ntiers = [", comment(source))?;
    for tier in tiers {
        writeln!(text, "  [{}],", tier.join(", "))?;
    }
    writeln!(text, "]\nbalance = \"{balance}\"")?;
    // LiteLLM keeps no conversation at a deployment.
    if *balance == "weight" {
        writeln!(text, "sticky = []")?;
    }
    let members = tiers.iter().map(Vec::len).sum::<usize>();
    for line in lines {
        // No member is tried twice.
        match line.strip_prefix("retry.attempts = ").and_then(|attempts| attempts.parse::<usize>().ok()) {
            Some(attempts) => writeln!(text, "retry.attempts = {}", attempts.min(members))?,
            None => writeln!(text, "{line}")?,
        }
    }
    Ok(())
}
