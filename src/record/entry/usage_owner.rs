//! Decides which record gets the usage in a response.

use super::Entry;
use crate::llm::provider::{Stored, StoredKind, UsageOwner};
use crate::llm::usage::Tally;
use crate::record::looks::{LEFT_OUT, Settled, Verdict};

impl Entry {
    /// Sets the stored result that the usage in the response belongs to. Without it, the usage
    /// belongs to this request.
    pub fn set_usage_owner(&mut self, owner: UsageOwner) {
        self.open.usage_owner = (owner != UsageOwner::Own).then(|| Box::new(owner));
    }

    /// Returns true if any usage in the response may be this record's.
    pub fn may_have_usage(&self) -> bool {
        !matches!(self.open.usage_owner.as_deref(), Some(UsageOwner::Others | UsageOwner::Unread))
    }

    /// Returns true if the usage in the response is this record's.
    pub fn owns_usage(&self) -> bool {
        self.open.usage_owner.is_none()
    }

    /// Returns true if the meter ignores the response.
    pub fn passes_unread(&self) -> bool {
        self.open.usage_owner.as_deref() == Some(&UsageOwner::Unread)
    }

    /// Returns true if the response may be one of a stored result, whose id is needed then.
    pub fn may_be_stored(&self) -> bool {
        matches!(self.open.usage_owner.as_deref(), Some(UsageOwner::Stored(_)))
    }

    /// Takes out of `tally` the usage that is not the request's.
    pub(super) fn settle(&mut self, owner: &UsageOwner, tally: &mut Tally, ended: bool) {
        let upstream = self.open.row.as_ref().and_then(|row| row.upstream.as_deref()).unwrap_or_default();
        let settled = match owner {
            UsageOwner::Own => None,
            UsageOwner::Others | UsageOwner::Unread => Some(Settled { verdict: Verdict::Passes, key: None }),
            UsageOwner::Stored(stored) => {
                self.open.journal.looks().settle(stored, upstream, tally, ended || tally.terminal)
            }
        };
        let Some(Settled { verdict, key }) = settled else { return };
        tally.usage = verdict.of(tally.usage);
        if let Some(row) = self.open.row.as_mut().filter(|_| tally.usage.is_some()) {
            row.counted_result = key;
            if matches!(owner, UsageOwner::Stored(Stored { kind: StoredKind::Batch, .. })) {
                // A batch's usage does not name its tier, which has prices of its own.
                tally.service_tier.get_or_insert_with(|| "batch".into());
            }
        } else {
            // Billed calls are counted together with the tokens.
            (tally.calls, tally.reported_cost, tally.unread) = (None, None, None);
        }
        // Usage that is counted elsewhere is not estimated here.
        tally.output = None;
        self.open.estimate_input = None;
        if verdict == Verdict::LeftOut {
            tally.error.get_or_insert_with(|| LEFT_OUT.into());
        }
    }
}
