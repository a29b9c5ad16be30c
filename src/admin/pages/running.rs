//! Running streams.

use std::time::Instant;

use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::numbers::{UNKNOWN, count, grouped, millis, seconds, time};
use crate::record::{ActiveRequests, Stream};

/// The largest number of streams that are listed; the page has the number of the others.
const MOST_SHOWN: usize = 25;

/// The number of streams and their table, which the script replaces as a whole.
pub(in crate::admin) fn table(active: &ActiveRequests, zone: &TimeZone) -> Markup {
    let (streams, unlisted) = active.list();
    let now = Instant::now();
    let all = streams.len() + unlisted;
    html! {
        div.card-head {
            h2 { "Running now" }
            p.figure { strong { (grouped(all as u64)) } @if all == 1 { " stream" } @else { " streams" } }
        }
        @if streams.is_empty() {
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
                    tbody { @for stream in streams.iter().take(MOST_SHOWN) { (row(stream, now, zone)) } }
                }
            }
            @if all > MOST_SHOWN { p.hint { "and " (grouped((all - MOST_SHOWN) as u64)) " more" } }
        }
    }
}

fn row(stream: &Stream, now: Instant, zone: &TimeZone) -> Markup {
    let or_unknown = |text: Option<&str>| text.unwrap_or(UNKNOWN).to_owned();
    html! {
        tr data-stream=(stream.id) {
            td.spare { (time(stream.started_at, zone)) }
            td.spare.name { (stream.client) }
            td.name { (or_unknown(stream.user.as_deref())) }
            td.name { (or_unknown(stream.model.as_deref())) }
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
