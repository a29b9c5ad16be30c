//! Running streams.

use std::sync::Arc;
use std::time::Instant;

use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::members::is_well;
use super::names::shown;
use super::numbers::{UNKNOWN, count, grouped, millis, seconds, time};
use crate::admin::members::GroupState;
use crate::admin::query::PageQuery;
use crate::record::{ActiveRequests, Stream};
use crate::sinks::ledger::{By, Teams};

/// The largest number of streams that are listed; the page has the number of the others.
const MOST_SHOWN: usize = 25;

/// The largest number of members that the tile names.
const MOST_OUT: usize = 3;

/// The streams that the page's filters select.
pub(in crate::admin) struct Running {
    streams: Vec<Arc<Stream>>,
    /// Streams of which only the number is known, if there is no filter.
    unlisted: usize,
}

impl Running {
    /// Filters by tag, endpoint and outcome do not apply: a stream that runs has none yet.
    pub(in crate::admin) fn of(active: &ActiveRequests, query: &PageQuery, teams: &Teams) -> Self {
        let (mut streams, unlisted) = active.list();
        let fits = |by: By, value: Option<&str>| query.value(by).is_none_or(|wanted| value == Some(wanted));
        streams.retain(|stream| {
            fits(By::Client, Some(&stream.client))
                && fits(By::User, stream.user.as_deref())
                && fits(By::Upstream, stream.upstream.as_deref())
                && fits(By::Model, stream.model.as_deref())
                && fits(By::Team, teams.get(&*stream.client).map(String::as_str))
        });
        let is_filtered = [By::Client, By::User, By::Upstream, By::Model, By::Team]
            .into_iter()
            .any(|by| query.value(by).is_some());
        Self { streams, unlisted: if is_filtered { 0 } else { unlisted } }
    }

    /// The listed streams, the oldest first.
    pub(in crate::admin) fn streams(&self) -> &[Arc<Stream>] {
        &self.streams
    }

    pub(in crate::admin) fn count(&self) -> usize {
        self.streams.len() + self.unlisted
    }
}

/// The tile: the number of streams, and the members of groups that are out.
pub(in crate::admin) fn tile(running: &Running, groups: &[GroupState]) -> Markup {
    let all = running.count();
    let members = groups.iter().flat_map(|group| &group.members);
    let out: Vec<_> = members.filter(|member| !is_well(member)).map(|member| &*member.upstream).collect();
    html! {
        span.tile-name { "Running now" }
        span.value { strong { (grouped(all as u64)) } span.unit { @if all == 1 { " stream" } @else { " streams" } } }
        @if groups.is_empty() {
            span.beside { "open for the list" }
        } @else if out.is_empty() {
            span.beside { "all members available" }
        } @else {
            span.beside {
                span.worse { (grouped(out.len() as u64)) " out or limited: " }
                (out.iter().take(MOST_OUT).map(|name| shown(name)).collect::<Vec<_>>().join(", "))
                @if out.len() > MOST_OUT { " …" }
            }
        }
    }
}

/// The table of streams, which the script replaces as a whole.
pub(in crate::admin) fn table(running: &Running, zone: &TimeZone) -> Markup {
    let now = Instant::now();
    let all = running.count();
    html! {
        div.card-head {
            h2 { "Running now" }
            p.figure { strong { (grouped(all as u64)) } @if all == 1 { " stream" } @else { " streams" } }
        }
        @if all == 0 {
            p.empty { "No stream is running. They appear here while they run, with their counts." }
        } @else {
            div.scroll #running-scroll role="group" aria-label="Running streams" {
                table {
                    thead { tr {
                        th.spare scope="col" { "Started" }
                        th.spare scope="col" { "Client" }
                        th scope="col" { "User" }
                        th scope="col" { "Model" }
                        th.spare scope="col" { "Upstream" }
                        th.spare.number scope="col" { "Events" }
                        th.number scope="col" { "Output tokens" }
                        th.spare.number scope="col" { "First token" }
                        th.number scope="col" { "Runs for" }
                    } }
                    tbody { @for stream in running.streams.iter().take(MOST_SHOWN) { (row(stream, now, zone)) } }
                }
            }
            @if all > MOST_SHOWN { p.hint { "and " (grouped((all - MOST_SHOWN) as u64)) " more" } }
        }
    }
}

fn row(stream: &Stream, now: Instant, zone: &TimeZone) -> Markup {
    let or_unknown = |text: Option<&str>| text.map_or_else(|| UNKNOWN.to_owned(), shown);
    html! {
        tr data-stream=(stream.id) {
            td.spare { (time(stream.started_at, zone)) }
            td.spare.name { bdi { (shown(&stream.client)) } }
            td.name { bdi { (or_unknown(stream.user.as_deref())) } }
            td.name { bdi { (or_unknown(stream.model.as_deref())) } }
            td.spare.name { (or_unknown(stream.upstream.as_deref())) }
            td.spare.number { (count(stream.events())) }
            td.number { (tokens(stream)) }
            td.spare.number {
                @match stream.time_to_first_token() {
                    Some(after) => (millis(after.as_secs_f64() * 1e3)),
                    None => span.unknown { "waiting" },
                }
            }
            td.number { (seconds(now.saturating_duration_since(stream.started))) }
        }
    }
}

/// The reported count, or an approximation by the events with output: most services send one token
/// in each.
fn tokens(stream: &Stream) -> Markup {
    match (stream.output_tokens(), stream.time_to_first_token()) {
        (Some(tokens), _) => count(tokens),
        (None, None) => html! { span.unknown { (UNKNOWN) } },
        (None, Some(_)) => html! {
            span.estimate title="Not reported yet: about one for each event" { "≈ " (count(stream.events())) }
        },
    }
}
