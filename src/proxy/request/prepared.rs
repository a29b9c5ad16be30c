//! A request as its upstream is to get it, and the answer to it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Buffered;
use super::routed::held_payload;
use crate::config::OnDisconnect;
use crate::error::Result;
use crate::h1::BodyFraming;
use crate::meter::UsageFeedback;
use crate::proxy::include_usage::{self, Seen};
use crate::proxy::stream_options::StreamOptionsSupport;
use crate::proxy::worker::WorkerUpstream;
use crate::rewrite::headers;
use crate::upstream::{OutboundRequest, Payload, UpstreamResponse};
use crate::usage::Content;

/// A request as its upstream is to get it.
pub(in crate::proxy) struct Prepared {
    pub(super) target: String,
    pub(super) framing: BodyFraming,
    pub(super) payload: Payload,
    /// The payload is without the content coding that the client's headers tell of.
    pub(super) is_decoded: bool,
    /// It asks for usage where the client did not.
    pub(super) asks_for_usage: bool,
    /// The same without, for an upstream that refuses it.
    pub(super) unasked: Option<Unasked>,
    /// It does not ask, since the upstream is believed to count itself: the model, by its hash.
    pub(super) counts_itself: Option<u64>,
    pub(super) is_streamed: bool,
    pub(super) started: Instant,
    pub(in crate::proxy) upstream: Rc<WorkerUpstream>,
    /// How long the client of a stream may be left without a word.
    pub(in crate::proxy) keep_alive: Option<Duration>,
    /// What becomes of its answer when the client leaves.
    pub(in crate::proxy) on_disconnect: OnDisconnect,
}

/// A request that does not ask for usage, to be sent if the one that does is refused.
pub(super) struct Unasked {
    /// What the refusal is remembered for.
    pub(super) of: Box<str>,
    pub(super) target: String,
    pub(super) pieces: Vec<Bytes>,
}

/// An upstream's answer, on its way to a client.
pub(in crate::proxy) struct Accepted {
    pub(in crate::proxy) response: UpstreamResponse,
    /// Usage was asked for in the client's place: what comes of it is not for the client.
    pub(in crate::proxy) asked_for_usage: bool,
    /// When its head was here.
    pub(in crate::proxy) at: Instant,
    /// What its body is, where its type does not tell and its first bytes did.
    pub(in crate::proxy) content: Option<Content>,
    /// What it teaches of its upstream.
    pub(in crate::proxy) feedback: Option<UsageFeedback>,
}

impl Prepared {
    /// Owns all that it needs, so that it can go on inside the answer's body. `held` is given back
    /// when it is sent.
    ///
    /// A request that asks for usage in the client's place is sent once more without, if the
    /// upstream refuses that.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    pub(in crate::proxy) fn send(self, mut buffered: Buffered) -> impl Future<Output = Result<Accepted>> {
        async move {
            if self.is_decoded {
                let headers = std::mem::take(&mut buffered.parts.headers);
                buffered.parts.headers = headers::decoded(headers);
            }
            // All of it, with its place in the budget.
            let buffered = &buffered;
            let WorkerUpstream { spec, connections, stream_options, .. } = &*self.upstream;
            let call = |target, payload, framing| OutboundRequest {
                method: &buffered.parts.method,
                target,
                headers: &spec.headers,
                client: &buffered.parts.headers,
                upgrade: buffered.upgrade,
                framing,
                payload,
                is_streamed: self.is_streamed,
                started: self.started,
            };
            let mut response = connections.send(call(self.target, self.payload, self.framing)).await?;
            let at = Instant::now();
            let feedback =
                |model, asked| UsageFeedback { observer: Arc::clone(stream_options) as _, model, asked };
            let Some(Unasked { of, target, pieces }) = self.unasked else {
                let asked_for_usage = self.asks_for_usage;
                let content =
                    if asked_for_usage { include_usage::content(&mut response).await } else { None };
                let feedback = self.counts_itself.map(|model| feedback(model, false));
                return Ok(Accepted { response, asked_for_usage, at, content, feedback });
            };
            if let Seen::Response(content) =
                include_usage::look(&mut response, stream_options.is_taken(&of)).await
            {
                if response.head.status.is_success() {
                    stream_options.note_taken(&of);
                }
                let feedback = Some(feedback(StreamOptionsSupport::hash(&of), true));
                return Ok(Accepted { response, asked_for_usage: true, at, content, feedback });
            }
            let status = response.head.status;
            tracing::debug!(upstream = %spec.id, %of, status = status.as_u16(), "it refuses to be asked for usage; sending once more without");
            drop(response);
            let (payload, framing) = held_payload(pieces);
            let mut response = Box::pin(connections.send(call(target, payload, framing))).await?;
            let at = Instant::now();
            if include_usage::confirms_unsupported(status, &mut response).await {
                stream_options.note(&of, Instant::now());
            }
            Ok(Accepted { response, asked_for_usage: false, at, content: None, feedback: None })
        }
    }
}
