//! The verdict on a failed attempt, which the health of its member learns.

use std::time::Duration;

use tokio::time::timeout;

use super::Held;
use super::group::{Failed, StreamFailure, clock};
use super::group_request::GroupRequest;
use crate::balance::{Failure, OutReason, UpstreamError, Verdict};
use crate::proxy::include_usage::readable_body;
use crate::proxy::request::Prepared;
use crate::proxy::worker::WorkerUpstream;
use crate::record::error::{Error, Kind, Retry};
use crate::upstream::UpstreamResponse;

/// The number of bytes of an error's body that are read for a verdict.
const MAX_ERROR: usize = 16 << 10;

/// The longest wait for the rest of an error's body.
const ERROR_WAIT: Duration = Duration::from_secs(1);

impl Prepared {
    /// Reports the failure to the member's health, and returns the verdict. `None`: the member is
    /// not to blame.
    pub(super) async fn judge(
        &mut self,
        group: &mut GroupRequest,
        failed: &mut Failed,
        (buffered, snapshot): &Held,
    ) -> Option<Verdict> {
        let permit = self.permit.take()?.permit;
        let random = fastrand::u64(..);
        let verdict = match failed {
            Failed::Response(arrived) => {
                let error = read_error(&mut arrived.response).await;
                let head = &arrived.response.head;
                let status = head.status.as_u16();
                let failure = Failure::Response { status, headers: &head.headers, error: &error };
                let verdict = permit.record_failure(&failure, clock(), random);
                let stored = snapshot.stored_ids.as_ref();
                let lacks = stored.is_some_and(|stored| {
                    stored.is_refused(buffered, buffered.endpoint(snapshot), status, &error.message)
                });
                if lacks { verdict.or_of_state() } else { verdict }
            }
            Failed::Stream(arrived, failed) => {
                let failure = match failed {
                    StreamFailure::Error(error) => Failure::FirstEvent { error },
                    StreamFailure::Empty => Failure::EmptyStream,
                    StreamFailure::Broken => broken(arrived.response.body.failure()?)?,
                };
                permit.record_failure(&failure, clock(), random)
            }
            Failed::NoResponse(error) => permit.record_failure(&failure(error)?, clock(), random),
        };
        if let Some(reason) = verdict.opened {
            let upstream = self.upstream.spec.id.name().clone();
            group.notes.borrow_mut().note_opened(upstream, reason.name());
            log_opened(&self.upstream, reason);
        }
        Some(verdict)
    }
}

/// The failure that an error stands for; `None`: it is the client's, or of the request as a whole.
fn failure(error: &Error) -> Option<Failure<'static>> {
    match error.kind() {
        Kind::TotalTimeout { .. } => None,
        Kind::FirstByteTimeout { limit, was_sent: true, .. } => Some(Failure::FirstByte(*limit)),
        Kind::Unanswered => Some(Failure::Closed),
        _ if error.retry() == Retry::NotSent => Some(Failure::Connect),
        _ => None,
    }
}

/// The failure of a stream that broke off with this error before its first event: the service may
/// have worked. `None`: the time of the request as a whole is over.
fn broken(error: &Error) -> Option<Failure<'static>> {
    (!matches!(error.kind(), Kind::TotalTimeout { .. })).then_some(Failure::Closed)
}

/// Reads the beginning of an error's body, for a verdict. The bytes stay part of the body.
async fn read_error(response: &mut UpstreamResponse) -> UpstreamError {
    let _ = timeout(ERROR_WAIT, response.body.read_ahead(MAX_ERROR)).await;
    let body = readable_body(&response.head.headers, response.body.ahead());
    body.map(|body| UpstreamError::parse(&body)).unwrap_or_default()
}

/// Logs once that a member is left out, with the remedy.
fn log_opened(upstream: &WorkerUpstream, reason: OutReason) {
    let id = &upstream.spec.id;
    match reason {
        OutReason::Credentials => tracing::error!(
            upstream = %id,
            "the upstream refuses its credentials and is left out: replace its api_key, and reload the configuration"
        ),
        OutReason::Quota => {
            tracing::warn!(upstream = %id, "the upstream's quota is used up: it is left out for five minutes")
        }
        OutReason::Forbidden => {
            tracing::warn!(upstream = %id, "the upstream refuses a model to its credentials: the model is left out there")
        }
        OutReason::UnknownModel => {
            tracing::warn!(upstream = %id, "the upstream does not have a model: the model is left out there")
        }
        OutReason::Failures | OutReason::SuccessRate => {
            tracing::warn!(upstream = %id, reason = reason.name(), "the upstream fails and is left out");
        }
    }
}
