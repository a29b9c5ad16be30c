//! The wait of a request for a grant of a limit that a fleet shares.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Buffered, Routed};
use crate::gate::limit::{Fleet, ReplyWait};
use crate::proxy::worker::WorkerSnapshot;
use crate::record::Entry;
use crate::record::error::{Error, Kind, Result};

/// The longest wait of a request for all its grants. Then it is decided without the reply.
const LONGEST: Duration = Duration::from_millis(50);

impl Buffered {
    /// The wait for grants that limits lack.
    pub(super) fn reply_wait(&self) -> ReplyWait {
        if self.has_waited.get() { ReplyWait::Over } else { ReplyWait::Possible }
    }

    /// Returns true if the request failed only for lack of a grant, for which it can wait. A store
    /// that has gone away since then is no reason to refuse it, unless all are refused.
    pub(in crate::proxy) fn lacks_grant(&self, error: &Error) -> bool {
        *error.kind() == Kind::LimitsUnavailable
            && !self.has_waited.get()
            && self.fleet().is_some_and(|fleet| !fleet.refuses())
    }

    /// Waits for the grants that the request lacks, and finds its target.
    ///
    /// # Errors
    /// Fails like [`Self::route`].
    #[cold]
    pub(in crate::proxy) async fn route_with_grants<'a>(
        &'a self,
        snapshot: &'a WorkerSnapshot,
        entry: &mut Entry,
    ) -> Result<Routed<'a>> {
        let until = Instant::now() + LONGEST;
        loop {
            if let Some(fleet) = self.fleet() {
                let round = fleet.asked_round();
                let replied = timeout_at(until, poll_fn(|cx| fleet.poll_round(round, cx))).await;
                self.has_waited.set(replied.is_err());
                self.came_at_once.set(false);
            }
            match self.route(snapshot, entry) {
                Err(error) if self.lacks_grant(&error) => {}
                routed => return routed,
            }
        }
    }

    fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.client.as_ref()?.limits.iter().find_map(|applied| applied.limit.fleet())
    }
}
