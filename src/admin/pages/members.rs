//! The members of groups: which of them are left out, and why.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::numbers::{grouped, time};
use crate::admin::members::{GroupState, after, seconds};
use crate::balance::{MemberState, ModelState, OutReason, OutState};

/// The largest number of members that are listed for a group; the page has the number of the
/// others. Members that are left out come first.
const MOST_SHOWN: usize = 40;

/// The largest number of models that are listed for a member.
const MOST_MODELS: usize = 5;

/// The groups and their members, which the script replaces as a whole. Empty without groups.
pub(in crate::admin) fn table(groups: &[GroupState], now: Timestamp, zone: &TimeZone) -> Markup {
    let out = groups.iter().flat_map(|group| &group.members).filter(|member| !is_well(member)).count();
    html! {
        @if !groups.is_empty() {
            div.card-head {
                h2 { "Members of groups" }
                p.figure { @if out == 0 { "all available" } @else { strong { (grouped(out as u64)) } " out or limited" } }
            }
            div.scroll #members-scroll role="group" aria-label="Members of groups" {
                table {
                    thead { tr {
                        th scope="col" { "Group" }
                        th scope="col" { "Upstream" }
                        th.number.spare scope="col" { "Tier" }
                        th.number scope="col" { "Running" }
                        th scope="col" { "State" }
                    } }
                    tbody { @for group in groups { (rows(group, now, zone)) } }
                }
            }
        }
    }
}

fn rows(group: &GroupState, now: Timestamp, zone: &TimeZone) -> Markup {
    let mut members: Vec<_> = group.members.iter().collect();
    members.sort_by_key(|member| is_well(member));
    let more = members.len().saturating_sub(MOST_SHOWN);
    members.truncate(MOST_SHOWN);
    if more == 0 {
        members = group.members.iter().collect();
    }
    html! {
        @for (number, member) in members.into_iter().enumerate() {
            tr data-member={ (group.name) "/" (member.upstream) } {
                td.name {
                    @if number == 0 {
                        (group.name)
                        @if group.waiting > 0 { " " span.unknown { (grouped(group.waiting as u64)) " waiting" } }
                    }
                }
                td.name {
                    (member.upstream)
                    @if let Some(model) = &member.model { " " span.unknown { "as " (model) } }
                }
                td.number.spare { (member.tier) }
                td.number { (grouped(member.running.into())) }
                td { (state(member, now, zone)) }
            }
        }
        @if more > 0 { tr { td colspan="5" { "and " (grouped(more as u64)) " more, which are available" } } }
    }
}

pub(super) fn is_well(member: &MemberState) -> bool {
    let is_model_well = |model: &ModelState| model.out.is_none() && model.cooldown.is_none();
    member.is_available() && member.models.iter().all(is_model_well)
}

fn state(member: &MemberState, now: Timestamp, zone: &TimeZone) -> Markup {
    let (limited, used): (Vec<_>, Vec<_>) =
        member.models.iter().partition(|model| model.out.is_some() || model.cooldown.is_some());
    let more = limited.len().saturating_sub(MOST_MODELS) + member.unlisted;
    html! {
        @if let Some(out) = &member.out {
            span.badge.out { "out" } " " (because(out, now, zone))
        } @else if member.weight == 0 {
            span.unknown { "takes nothing new" }
        } @else if limited.is_empty() {
            span.badge.well { "available" }
        } @else {
            span.badge.partly { "available, except" }
        }
        @if member.out.is_none() || !limited.is_empty() {
            @for model in limited.iter().take(MOST_MODELS) { div.model { (model_state(model, now, zone)) } }
            @if more > 0 { div.model { "and " (grouped(more as u64)) " more models" } }
        }
        @for model in used.iter().take(MOST_MODELS) { (utilization(model)) }
    }
}

fn model_state(model: &ModelState, now: Timestamp, zone: &TimeZone) -> Markup {
    html! {
        @if model.name.is_empty() { span.unknown { "no model" } } @else { code { (model.name) } }
        @if let Some(out) = &model.out { " " span.badge.out { "out" } " " (because(out, now, zone)) }
        @if let Some(rest) = model.cooldown { " " span.badge.limited { "rate limited" } " until " (time(after(now, rest), zone)) }
        (utilization(model))
    }
}

fn utilization(model: &ModelState) -> Markup {
    html! {
        @if let Some(share) = model.utilization {
            " " span.unknown title={ "provisioned throughput of " (model.name) } { (format!("{:.0} % used", share * 100.0)) }
        }
    }
}

/// The reason and the times of a breaker that is open.
fn because(out: &OutState, now: Timestamp, zone: &TimeZone) -> Markup {
    let since = seconds(now.checked_sub(out.since).unwrap_or(now));
    html! {
        (words(out.reason)) " since " (time(since, zone))
        @match out.rest {
            Some(rest) if rest > Duration::ZERO => { ", until " (time(after(now, rest), zone)) }
            _ => { "; the next request or probe decides" }
        }
    }
}

fn words(reason: OutReason) -> &'static str {
    match reason {
        OutReason::Failures => "after failures in a row",
        OutReason::SuccessRate => "after too many failures",
        OutReason::Credentials => "because its credentials are refused",
        OutReason::Forbidden => "because the model is forbidden to its credentials",
        OutReason::UnknownModel => "because it does not have the model",
        OutReason::Quota => "because its quota is used up",
    }
}
