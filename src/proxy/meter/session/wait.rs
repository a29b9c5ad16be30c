//! The wait of a client's message for the fleet's store, for ids and grants together.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::balance::PinAsk;

/// The longest wait of a request, or of a message, for all that it needs of the fleet's store. Then it
/// is decided without the reply.
pub const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// The wait of the message in hand.
#[derive(Debug, Default)]
pub(super) struct MessageWait {
    /// The end of the longest wait. `None`: the message has not waited.
    timer: Option<Pin<Box<Sleep>>>,
    ids: IdCheck,
}

/// The check of the ids that a message names.
#[derive(Debug, Default)]
pub(super) enum IdCheck {
    #[default]
    Due,
    /// The fleet was asked about some.
    Asked(Arc<PinAsk>),
    Done,
}

impl MessageWait {
    pub(super) fn ids(&mut self) -> &mut IdCheck {
        &mut self.ids
    }

    /// Returns true if the message may wait, or wait further.
    pub(super) fn is_possible(&self) -> bool {
        self.timer.as_ref().is_none_or(|timer| timer.deadline() > Instant::now())
    }

    /// Begins a wait, or continues the one before.
    pub(super) fn begin(&mut self) {
        self.timer.get_or_insert_with(|| Box::pin(sleep(LONGEST_WAIT)));
    }

    /// Waits for the reply about ids or, if none is asked about, for `grant`; not beyond the longest
    /// wait.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        grant: impl FnOnce(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        let Some(timer) = &mut self.timer else { return Poll::Ready(()) };
        let replied = match &self.ids {
            IdCheck::Asked(ask) => ask.poll(cx).map(|_| ()),
            IdCheck::Due | IdCheck::Done => grant(cx),
        };
        if replied.is_ready() { replied } else { timer.as_mut().poll(cx) }
    }
}
