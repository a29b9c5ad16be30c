//! `/members`: the members of groups, for programs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use super::Admin;
use super::respond::json;
use crate::balance::{HealthRegistry, MemberState, OutState, UpstreamGroup};
use crate::support::Live;

/// The groups in use, and the health of their members.
#[derive(Clone)]
pub struct Members {
    /// Groups that routes lead to.
    pub groups: Arc<Live<Vec<Arc<UpstreamGroup>>>>,
    pub health: Arc<HealthRegistry>,
}

/// A group with the state of its members.
pub(super) struct GroupState {
    pub(super) name: Arc<str>,
    /// The number of waiting requests.
    pub(super) waiting: usize,
    pub(super) members: Vec<MemberState>,
}

impl Members {
    /// The state now.
    pub(super) fn states(&self) -> Vec<GroupState> {
        let groups = self.groups.load();
        if groups.is_empty() {
            return Vec::new();
        }
        let (models, now) = (self.health.models(), std::time::Instant::now());
        let state = |group: &Arc<UpstreamGroup>| GroupState {
            name: Arc::clone(&group.spec().name),
            waiting: group.waiting(),
            members: group.states(&models, now),
        };
        groups.iter().map(state).collect()
    }
}

pub(super) async fn members(State(admin): State<Arc<Admin>>) -> Response {
    let (states, now) = (admin.shown.members.states(), Timestamp::now());
    let groups: Vec<_> = states.iter().map(|state| group(state, now)).collect();
    json(&Groups { groups })
}

#[derive(Serialize)]
struct Groups<'a> {
    groups: Vec<Group<'a>>,
}

#[derive(Serialize)]
struct Group<'a> {
    name: &'a str,
    waiting: usize,
    members: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct Member<'a> {
    upstream: &'a str,
    model: Option<&'a str>,
    tier: usize,
    weight: u32,
    running: u32,
    available: bool,
    out: Option<Out>,
    models: Vec<Model<'a>>,
    /// Further models with a state.
    unlisted: usize,
}

#[derive(Serialize)]
struct Model<'a> {
    /// `null`: requests without a model.
    model: Option<&'a str>,
    available: bool,
    out: Option<Out>,
    rate_limited_until: Option<Timestamp>,
    utilization: Option<f64>,
}

#[derive(Serialize)]
struct Out {
    reason: &'static str,
    since: Timestamp,
    /// `null`: the pause is over, and the next request or probe decides.
    until: Option<Timestamp>,
}

fn group(state: &GroupState, now: Timestamp) -> Group<'_> {
    let members = state.members.iter().map(|member| Member {
        upstream: member.upstream.name(),
        model: member.model.as_deref(),
        tier: member.tier,
        weight: member.weight,
        running: member.running,
        available: member.is_available(),
        out: out(member.out, now),
        models: models(member, now),
        unlisted: member.unlisted,
    });
    Group { name: &state.name, waiting: state.waiting, members: members.collect() }
}

fn models(member: &MemberState, now: Timestamp) -> Vec<Model<'_>> {
    let model = member.models.iter().map(|model| Model {
        model: Some(&*model.name).filter(|name| !name.is_empty()),
        available: model.out.is_none() && model.cooldown.is_none(),
        out: out(model.out, now),
        rate_limited_until: model.cooldown.map(|rest| after(now, rest)),
        utilization: model.utilization,
    });
    model.collect()
}

fn out(out: Option<OutState>, now: Timestamp) -> Option<Out> {
    let OutState { reason, since, rest } = out?;
    let since = seconds(now.checked_sub(since).unwrap_or(now));
    Some(Out { reason: reason.name(), since, until: rest.map(|rest| after(now, rest)) })
}

/// A time in whole seconds: it is the same each time that the state is read.
pub(super) fn after(now: Timestamp, rest: Duration) -> Timestamp {
    seconds(now.checked_add(rest).unwrap_or(Timestamp::MAX))
}

pub(super) fn seconds(at: Timestamp) -> Timestamp {
    at.round(jiff::Unit::Second).unwrap_or(at)
}
