//! The view that a client has of its limits: the error of one without room, and what is left of them.

use std::time::Duration;

use super::clock::limit_time;
use crate::codec::head::Headers;
use crate::gate::limit::{AppliedLimit, LimitStatus, Now, Quantity, RoomFrom, Units};
use crate::llm::price::Amount;
use crate::record::error::{Error, Kind, LimitReached};

/// The error of a request for which a limit has no room.
pub(super) fn reached(applied: &AppliedLimit, want: Units, room_from: RoomFrom, now: Now) -> Error {
    if matches!(room_from, RoomFrom::AReply | RoomFrom::TheStore) {
        return Kind::LimitsUnavailable.into();
    }
    let reached = limit_reached(applied, want, room_from, now);
    let is_period = reached.until.is_some();
    if is_period { Kind::QuotaReached(reached).into() } else { Kind::LimitReached(reached).into() }
}

/// The limit that has no room, as messages name it.
pub(super) fn limit_reached(
    applied: &AppliedLimit,
    want: Units,
    room_from: RoomFrom,
    now: Now,
) -> Box<LimitReached> {
    let limit = &applied.limit;
    let status @ LimitStatus { limit: most, .. } = limit.status(now);
    let shown = |units: Units| match limit.quantity() {
        Quantity::Cost(_) => Amount::of_smallest(units.0).rounded_up(4),
        quantity => quantity.text(units),
    };
    let (retry_after, until) = match room_from {
        RoomFrom::After(nanos) => (Some(Duration::from_nanos(nanos)), None),
        RoomFrom::Time(until) => (None, Some(until)),
        RoomFrom::AnEnd | RoomFrom::AReply | RoomFrom::TheStore => (Some(AN_END), None),
    };
    Box::new(LimitReached {
        whose: applied.whose(),
        key: applied.key(),
        unit: limit.quantity().unit(),
        used: shown(status.taken()),
        want: shown(want),
        most: shown(most),
        remaining: shown(status.remaining()),
        is_rate: limit.quantity() != Quantity::Concurrent,
        retry_after,
        until,
    })
}

/// The pause after which a client asks again for the place of a running request.
const AN_END: Duration = Duration::from_secs(1);

/// Returns true if a header is about limits of this quantity.
type IsKind = fn(Quantity) -> bool;

/// Headers with what is left of the tightest limit of requests, tokens and cost. Running requests
/// are limited for a moment only, and have none.
pub(super) fn remaining<'l>(limits: impl IntoIterator<Item = &'l AppliedLimit> + Clone) -> Headers {
    let now = limit_time();
    let mut headers = Headers::default();
    let kinds: [(&str, IsKind); 3] = [
        ("x-streamgauge-remaining-requests", |quantity| quantity == Quantity::Requests),
        ("x-streamgauge-remaining-tokens", |quantity| matches!(quantity, Quantity::Tokens(_))),
        ("x-streamgauge-remaining-cost", |quantity| matches!(quantity, Quantity::Cost(_))),
    ];
    for (name, is_of_kind) in kinds {
        let limits = limits.clone().into_iter();
        let of_kind = limits.filter(|applied| is_of_kind(applied.limit.quantity()));
        let least = of_kind
            .map(|applied| (applied.limit.status(now).remaining(), applied.limit.quantity()))
            .min_by_key(|(remaining, _)| *remaining);
        if let Some((remaining, quantity)) = least {
            headers.append_own(name, quantity.text(remaining).as_bytes());
        }
    }
    headers
}
