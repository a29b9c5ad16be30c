//! The wait of a request for a grant of a limit that a fleet shares.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Buffered, Routed};
use crate::balance::PinAsk;
use crate::gate::KnownClient;
use crate::gate::limit::{Fleet, ReplyWait};
use crate::proxy::meter::LONGEST_WAIT;
use crate::proxy::worker::WorkerSnapshot;
use crate::record::Entry;
use crate::record::error::{Error, Kind, Result};

/// The time that a request has waited for grants, for all of its attempts together, in microseconds.
#[derive(Debug, Default)]
pub(in crate::proxy) struct GrantTime(Cell<u32>);

impl GrantTime {
    /// The wait for grants that limits lack.
    pub(super) fn reply_wait(&self) -> ReplyWait {
        if self.waited() >= LONGEST_WAIT { ReplyWait::Over } else { ReplyWait::Possible }
    }

    /// Returns true if a request of `client` failed only for lack of a grant, for which it can wait.
    /// A store that has gone away since then is no reason to refuse it, unless all are refused.
    pub(in crate::proxy) fn can_wait(&self, client: &KnownClient, error: &Error) -> bool {
        *error.kind() == Kind::LimitsUnavailable
            && self.reply_wait() == ReplyWait::Possible
            && client.fleet().is_some_and(|fleet| !fleet.refuses())
    }

    fn waited(&self) -> Duration {
        Duration::from_micros(self.0.get().into())
    }

    /// Waits for the grants for which limits have asked, or until the time is over.
    pub(in crate::proxy) async fn wait(&self, fleet: &Fleet) {
        let round = fleet.asked_round();
        self.wait_for(poll_fn(|cx| fleet.poll_round(round, cx))).await;
    }

    /// Waits for a reply of the fleet's store, or until the time is over.
    async fn wait_for<T>(&self, reply: impl Future<Output = T>) -> Option<T> {
        let (begun, left) = (Instant::now(), LONGEST_WAIT.saturating_sub(self.waited()));
        let replied = timeout(left, reply).await.ok();
        let waited = if replied.is_some() { begun.elapsed() } else { left };
        // Rounded up, so that many short waits come to an end.
        let micros = u32::try_from(waited.as_nanos().div_ceil(1_000)).unwrap_or(u32::MAX);
        self.0.set(self.0.get().saturating_add(micros));
        replied
    }
}

impl Buffered {
    /// See [`GrantTime::can_wait`].
    pub(in crate::proxy) fn lacks_grant(&self, error: &Error) -> bool {
        self.client.as_ref().is_some_and(|client| self.grants.can_wait(client, error))
    }

    /// Waits for the grants that the request lacks.
    pub(in crate::proxy) async fn wait_for_grants(&self) {
        if let Some(fleet) = self.client.as_ref().and_then(|client| client.fleet()) {
            self.came_at_once.set(false);
            self.grants.wait(fleet).await;
        }
    }

    /// Waits for what the fleet knows of the ids that the request names, and finds their state again.
    ///
    /// # Errors
    /// Fails if an id is another client's; also if that cannot be known and `when_away` refuses
    /// requests.
    #[cold]
    pub(in crate::proxy) async fn find_state_in_fleet(
        &mut self,
        ask: Arc<PinAsk>,
        snapshot: &WorkerSnapshot,
        entry: &mut Entry,
    ) -> Result<()> {
        self.came_at_once.set(false);
        let has_replied = self.grants.wait_for(poll_fn(|cx| ask.poll(cx))).await == Some(true);
        self.find_state_asking(snapshot, entry, false)?;
        let refuses = snapshot.stored_ids.as_ref().is_some_and(|stored| stored.refuses_unknown());
        if refuses && !has_replied { Err(Kind::LimitsUnavailable.into()) } else { Ok(()) }
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
        loop {
            self.wait_for_grants().await;
            match self.route(snapshot, entry) {
                Err(error) if self.lacks_grant(&error) => {}
                routed => return routed,
            }
        }
    }
}
