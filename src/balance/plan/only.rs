//! Groups of one member: there is nothing to choose, and nothing to plan.

use std::sync::Arc;
use std::time::Instant;

use super::view::View;
use crate::balance::sticky::{Fingerprint, StickyKey, StickyResult};
use crate::balance::{Permit, UpstreamGroup};

/// The permit to ask the member of a group that [is only one](UpstreamGroup::is_only_one). `None`: a
/// [`Plan`](super::Plan) decides. The other parameters are those of a
/// [`PlanRequest`](super::PlanRequest) that is not pinned, and of [`Plan::new`](super::Plan::new).
#[inline]
pub fn ask_only(
    group: &Arc<UpstreamGroup>,
    model: Option<&str>,
    name_at: impl Fn(usize) -> Option<Box<str>>,
    sticky: Option<StickyKey>,
    fingerprint: Fingerprint,
    now: Instant,
) -> Option<Permit> {
    if !group.is_only_one() || group.waiting() > 0 {
        return None;
    }
    let row = group.row(model, name_at);
    let view = View::new(group, &row, now, group.registry.tick(now));
    // A plan takes the trial of a breaker.
    let is_well = view.is_closed(0) && view.model(0).rate_limit(view.tick).is_none();
    let sticky = StickyResult::of(sticky, true);
    (is_well && view.enter(0)).then(|| view.permit(0, sticky, fingerprint))
}
