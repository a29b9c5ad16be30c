//! Clients that get the use of a response with it (`response_cost`): in headers, or if it is a stream,
//! in a comment.

use std::sync::Arc;

use http_body::Body as _;

use super::attempt::Accepted;
use super::pending_response::Sending;
use super::request::Buffered;
use crate::llm::price::Prices;
use crate::proxy::budget::Reserved;
use crate::proxy::meter::{CostComment, ResponseMeter, Told};
use crate::proxy::snapshot::Snapshot;
use crate::record::Entry;
use crate::record::error::Result;
use crate::support::Live;
use crate::upstream::UpstreamResponse;

/// The longest response that is held to its end, so that its headers have its use.
const MAX_HELD: usize = 1 << 20;

/// Tells the client the use of one response.
pub(super) struct CostTelling {
    prices: Arc<Live<Prices>>,
    /// Memory for held bytes.
    reserved: Reserved,
    client: Arc<str>,
    /// The response is held, with its end.
    is_held: bool,
}

impl CostTelling {
    /// `None`: the client does not want to know, or the usage in the response is not the request's.
    #[inline]
    pub(super) fn of(buffered: &Buffered, snapshot: &Snapshot, entry: &mut Entry) -> Option<Box<Self>> {
        let prices = buffered.response_cost()?;
        if !entry.owns_usage() {
            return None;
        }
        Some(Box::new(Self {
            prices: Arc::clone(prices),
            reserved: snapshot.bodies.budget.reserve(),
            client: Arc::clone(&entry.row().client),
            is_held: false,
        }))
    }

    /// Waits for the response. If `may_hold`, and it is not a stream, waits for its end: for at most
    /// [`MAX_HELD`] bytes, if there is memory.
    pub(super) async fn hold(mut self: Box<Self>, send: Sending, may_hold: bool) -> Result<Accepted> {
        let mut accepted = send.await?;
        if let Some(is_encoded) = document(&accepted.response).filter(|_| may_hold) {
            let Self { reserved, client, .. } = &mut *self;
            let wants_more = |bytes: &[u8], _| {
                let may_be_json = bytes.trim_ascii_start().first().is_none_or(|byte| b"{[".contains(byte));
                (is_encoded || may_be_json) && reserved.grow_to(bytes.len(), client).is_ok()
            };
            let body = &mut accepted.response.body;
            body.read_while(MAX_HELD, wants_more).await;
            self.is_held = body.is_read_ahead() && body.ahead().len() <= MAX_HELD;
        }
        accepted.telling = Some(self);
        Ok(accepted)
    }

    /// The comment of a stream.
    pub(super) fn into_comment(self) -> Box<CostComment> {
        let Self { prices, mut reserved, client, .. } = self;
        CostComment::new(prices, Box::new(move |bytes| reserved.grow_to(bytes, &client).is_ok()))
    }
}

/// Returns true if the response is a document in a content coding, false if it is one without.
/// `None`: it is of another kind, or too long.
fn document(response: &UpstreamResponse) -> Option<bool> {
    let may_fit = response.body.size_hint().lower() <= MAX_HELD as u64;
    let is_success = response.head.status.is_success() && !response.body.is_end_stream();
    match ResponseMeter::of(&response.head.headers, false) {
        _ if !may_fit || !is_success => None,
        ResponseMeter::Document(_) => Some(false),
        kind @ ResponseMeter::Encoded(_) if !kind.is_events() => Some(true),
        _ => None,
    }
}

impl Accepted {
    /// The use of a response that is held to its end. `None`: it is not.
    pub(super) fn take_told(&mut self, entry: &mut Entry) -> Option<Told> {
        let telling = self.telling.take_if(|telling| telling.is_held)?;
        self.record_upstream(entry);
        let UpstreamResponse { head, body } = &self.response;
        let tally = ResponseMeter::read(&head.headers, body.ahead(), true)?;
        let told = Told::so_far(entry.row(), &tally, &telling.prices.peek());
        entry.keep(Arc::new(telling.reserved));
        Some(told)
    }
}
