//! Clients and teams in the summary.

use std::time::Duration;

use super::push;
use crate::config::{Client, Settings, Team};
use crate::gate::AllowedEndpoints;
use crate::gate::limit::{AtLimit, BucketRate, LimitBound, LimitSpec, Quantity, Units, Unpriced, Weights};

/// The names of all clients.
pub(super) fn names(settings: &Settings) -> String {
    let names: Vec<_> = settings.clients.iter().map(|client| client.name.as_str()).collect();
    match names.len() {
        0 => "none: any client that can connect".to_owned(),
        count => format!("{count}: {}", names.join(", ")),
    }
}

/// The rules of a client. `None`: there are none.
pub(super) fn client(client: &Client, settings: &Settings) -> Option<String> {
    let mut text = String::new();
    if client.models.iter().all(|model| model != "*") {
        push(&mut text, format_args!("models {}", client.models.join(" and ")));
    }
    if client.endpoints == AllowedEndpoints::Metered {
        push(&mut text, format_args!("metered endpoints only"));
    }
    if let Some(most) = client.max_output {
        push(&mut text, format_args!("at most {most} tokens of output asked for"));
    }
    if client.limit_headers {
        push(&mut text, format_args!("gets headers with what is left of its limits"));
    }
    if client.response_cost {
        push(&mut text, format_args!("gets the cost of its responses"));
    }
    if client.priority != 0 {
        push(&mut text, format_args!("priority {}", client.priority));
    }
    if client.share != 1 {
        push(&mut text, format_args!("share {}", client.share));
    }
    push_owner(&mut text, client.team, &client.limits, settings);
    let rules = text.strip_prefix(", ")?;
    Some(format!("{}: {rules}", client.name))
}

/// The rules of a team.
pub(super) fn team(team: &Team, settings: &Settings) -> String {
    let mut text = String::new();
    push_owner(&mut text, team.team, &team.limits, settings);
    format!("{}: {}", team.name, text.strip_prefix(", ").unwrap_or("no limits"))
}

/// The limits of all clients together.
pub(super) fn of_all(settings: &Settings) -> Option<String> {
    let mut text = String::new();
    push_owner(&mut text, None, &settings.limits, settings);
    Some(format!("{} for all clients together", text.strip_prefix(", ")?))
}

fn push_owner(text: &mut String, team: Option<usize>, limits: &[LimitSpec], settings: &Settings) {
    if let Some(team) = team {
        push(text, format_args!("in team {}", settings.teams[team].name));
    }
    if !limits.is_empty() {
        let limits: Vec<_> = limits.iter().map(limit).collect();
        push(text, format_args!("at most {}", limits.join(" and ")));
    }
}

/// Describes a limit: `200000 tokens per minute (burst 400000)`.
fn limit(spec: &LimitSpec) -> String {
    let unit = spec.quantity.unit();
    let amount = |units: Units| spec.quantity.text(units);
    let mut notes = Vec::new();
    let mut text = match &spec.bound {
        LimitBound::Rate(BucketRate { limit, period, burst }) => {
            let name = BucketRate::PERIODS.iter().find(|(_, nanos)| nanos == period);
            let name = name.map_or("period", |(name, _)| name);
            if burst != limit {
                notes.push(format!("burst {}", amount(*burst)));
            }
            format!("{} {unit} per {name}", amount(*limit))
        }
        LimitBound::Period { limit, calendar } => {
            format!("{} {unit} per {}", amount(*limit), calendar.period.name())
        }
        LimitBound::Concurrent(limit) => format!("{} {unit}", amount(*limit)),
    };
    if let Some(model) = &spec.filter.model {
        notes.push(format!("model {model}"));
    }
    if spec.filter.each_user {
        notes.push("for each user".to_owned());
    }
    if let Some(upstream) = &spec.filter.upstream {
        notes.push(format!("at {upstream}"));
    }
    if let Quantity::Tokens(Weights::ByKind { .. }) = spec.quantity {
        notes.push("weighted".to_owned());
    }
    if spec.unpriced == Unpriced::Allow {
        notes.push("models without a price pass".to_owned());
    }
    match spec.at_limit {
        AtLimit::Refuse => {}
        AtLimit::Cut => notes.push("ends running responses".to_owned()),
        AtLimit::Wait(longest) => {
            notes.push(format!("requests wait up to {:?}", Duration::from_nanos(longest)));
        }
        AtLimit::Warn => notes.push("only warns".to_owned()),
    }
    if !notes.is_empty() {
        text += &format!(" ({})", notes.join(", "));
    }
    text
}
