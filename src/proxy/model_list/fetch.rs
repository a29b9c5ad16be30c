//! Asks one upstream for its list.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::timeout_at;

use crate::codec::coding::{Codings, ContentDecoder};
use crate::llm::model_list::{Described, ListForm, ModelList};
use crate::llm::provider::ANTHROPIC_VERSION;
use crate::proxy::budget::{Budget, Reserved};
use crate::proxy::worker::WorkerUpstream;
use crate::record::error::{Error, Kind, Result};

/// The time for all upstreams to send their lists.
pub(super) const LIST_TIME: Duration = Duration::from_secs(3);

/// The largest list, in bytes. That of a service with 400 models has about 700 KB.
const MAX_LIST: usize = 2 << 20;

/// The result of asking one upstream.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// Without an error, the upstream refused to respond with a list.
    pub(super) list: std::result::Result<List, Option<Error>>,
    pub(super) status: Option<u16>,
    /// The beginning and the end of the request; `None`: the list was fresh.
    pub(super) asked: Option<(Instant, Instant)>,
}

/// An upstream's list.
#[derive(Clone, Debug)]
pub(super) enum List {
    Models(Rc<Held>),
    /// The upstream works, and has no list: only configured names are known.
    Missing,
}

/// A list with its memory.
#[derive(Debug)]
pub(super) struct Held {
    list: ModelList,
    _memory: Reserved,
}

/// The memory of lists, which is that of bodies.
#[derive(Clone, Copy)]
pub(super) struct Memory<'a> {
    pub(super) budget: &'a Budget,
    pub(super) client: &'a Arc<str>,
}

impl Fetched {
    /// The error, if there was no memory for the list.
    pub(super) fn shortage(&self) -> Option<&Error> {
        let is_short = |error: &&Error| matches!(error.kind(), Kind::Overloaded | Kind::ClientOverloaded);
        self.list.as_ref().err()?.as_ref().filter(is_short)
    }
}

impl List {
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.models().into_iter().flat_map(ModelList::ids)
    }

    pub(super) fn get(&self, id: &str) -> Option<Described<'_>> {
        self.models()?.get(id)
    }

    pub(super) fn is_missing(&self) -> bool {
        self.models().is_none()
    }

    fn models(&self) -> Option<&ModelList> {
        match self {
            Self::Models(held) => Some(&held.list),
            Self::Missing => None,
        }
    }
}

/// Asks an upstream for its list, unless there is a fresh one. Takes at most [`LIST_TIME`] from
/// `started`.
pub(super) async fn fetch(
    upstream: &WorkerUpstream,
    target: String,
    form: ListForm,
    started: Instant,
    memory: Memory<'_>,
) -> Fetched {
    let sent = Cell::new(None);
    let asking = async {
        let mut turn = upstream.models.turn().await;
        let began = Instant::now();
        if let Some(fresh) = turn.get(&target, form, began) {
            return fresh;
        }
        sent.set(Some(began));
        let (status, list) = match ask(upstream, target.clone(), form, memory).await {
            Ok((status, list)) => (Some(status.as_u16()), list.ok_or(None)),
            Err(error) => (None, Err(Some(error))),
        };
        let now = Instant::now();
        let fetched = Fetched { list, status, asked: Some((began, now)) };
        if fetched.shortage().is_none() {
            turn.keep(&target, form, &fetched, now);
        }
        fetched
    };
    if let Ok(fetched) = timeout_at((started + LIST_TIME).into(), asking).await {
        return fetched;
    }
    let (now, was_sent) = (Instant::now(), sent.get().is_some());
    let kind = Kind::FirstByteTimeout { limit: LIST_TIME, key: "the limit of lists of models", was_sent };
    let error = kind.at(upstream.spec.id.name().clone());
    let asked = sent.get().map(|began| (began, now));
    let fetched = Fetched { list: Err(Some(error)), status: None, asked };
    // A request that waited for its turn gave the upstream less time.
    if asked.is_some_and(|(began, now)| now.duration_since(began) > LIST_TIME / 2) {
        upstream.models.keep_failure(&target, form, &fetched, now);
    }
    fetched
}

/// `None`: the upstream responds with an error.
async fn ask(
    upstream: &WorkerUpstream,
    target: String,
    form: ListForm,
    Memory { budget, client }: Memory<'_>,
) -> Result<(StatusCode, Option<List>)> {
    let version = [ANTHROPIC_VERSION];
    let headers = if form == ListForm::Anthropic { &version[..] } else { &[] };
    let mut response = upstream.get(target, headers).await?;
    let status = response.head.status;
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            return Ok((status, Some(List::Missing)));
        }
        _ if !status.is_success() => return Ok((status, None)),
        _ => {}
    }
    let (mut memory, mut room) = (budget.reserve(), Ok(()));
    let mut take = |bytes| {
        room = memory.grow_to(bytes, client);
        room.is_ok()
    };
    response.body.read_while(MAX_LIST, |read, _| take(read.len())).await;
    room?;
    // The body has ended, or is too long.
    let body = response.body.read_ahead(MAX_LIST).await;
    let encoded = body.as_ref().map_or(0, Bytes::len);
    let mut room = Ok(());
    let mut take = |bytes| {
        room = memory.grow_to(bytes, client);
        room.is_ok()
    };
    let body = body
        .and_then(|body| decoded(&Codings::of(&response.head.headers), body, |bytes| take(encoded + bytes)));
    room?;
    let list = body.and_then(ModelList::parse);
    let Some(list) = list else {
        tracing::debug!(upstream = %upstream.spec.id, "the response is not a list of models");
        return Ok((status, Some(List::Missing)));
    };
    memory.grow_to(list.size(), client)?;
    Ok((status, Some(List::Models(Rc::new(Held { list, _memory: memory })))))
}

/// The body without its codings, which some servers use unasked. `has_room` is asked for the memory
/// of each piece.
fn decoded(codings: &Codings, body: Bytes, mut has_room: impl FnMut(usize) -> bool) -> Option<Bytes> {
    match codings {
        Codings::Identity => Some(body),
        Codings::Known(codings) => {
            let (mut decoded, mut is_small) = (Vec::new(), true);
            ContentDecoder::new(codings)
                .push(&body, &mut |piece| {
                    let length = decoded.len() + piece.len();
                    is_small = is_small && length <= MAX_LIST && has_room(length);
                    if is_small {
                        decoded.extend_from_slice(piece);
                    }
                })
                .ok()?;
            is_small.then(|| decoded.into())
        }
        Codings::Unknown => None,
    }
}

/// Adds the results of all upstreams to an error.
pub(super) fn describe<'a>(
    error: Error,
    results: impl Iterator<Item = (&'a WorkerUpstream, &'a Fetched)>,
) -> Error {
    let mut list = String::from("Upstreams:");
    for (number, (upstream, fetched)) in results.enumerate() {
        let comma = if number > 0 { "," } else { "" };
        let status = fetched.status.map(|status| status.to_string());
        let code = fetched.list.as_ref().err().and_then(|error| Some(error.as_ref()?.code()));
        let result = code.or(status.as_deref()).unwrap_or_default();
        let _ = write!(list, "{comma} {}: {result}", upstream.spec.id);
    }
    list.push('.');
    error.after_attempts(list, false)
}
