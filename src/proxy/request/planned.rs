//! A request to a group: the order of members, and the request for each.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::{Body, Outbound, Prepared, Routed};
use crate::balance::{
    Attempts, End, Fingerprint, Permit, Plan, PlanRequest, Step, StickyBody, StickyParts, UpstreamGroup,
    Variant, client_deadline, client_retries, sticky_key,
};
use crate::proxy::attempt::GroupRequest;
use crate::proxy::worker::WorkerUpstream;
use crate::record::Entry;
use crate::record::error::{Error, Kind, Result};

/// A member that can be asked, and the request for it.
pub(in crate::proxy) struct NextMember {
    pub(in crate::proxy) permit: Permit,
    pub(in crate::proxy) upstream: Rc<WorkerUpstream>,
    pub(in crate::proxy) outbound: Outbound,
    /// The model to ask the member for.
    pub(in crate::proxy) model: Option<Box<str>>,
}

/// The reason for which no member can be asked.
pub(in crate::proxy) enum NoMember {
    End(End),
    /// The request cannot be written for any member, or is not valid.
    Failed(Error),
}

impl Routed<'_> {
    /// Prepares the first attempt at a member of the group.
    pub(super) fn prepare_for(
        &self,
        group: &Arc<UpstreamGroup>,
        passing: Body,
        entry: &mut Entry,
    ) -> Result<Prepared> {
        let (name, started) = (&group.spec().name, entry.started());
        let notes = entry.note_group(Arc::clone(name));
        let headers = &self.buffered.head.headers;
        notes.borrow_mut().is_client_retry = client_retries(headers) > 0;
        let body = StickyBody::read(self.buffered.text());
        let client = Arc::clone(&entry.row().client);
        let spec = group.spec();
        let sticky = sticky_key(
            &spec.sticky,
            &StickyParts {
                headers,
                session_id: body.session_id.as_deref(),
                prompt_cache_key: body.prompt_cache_key.as_deref(),
                conversation: body.conversation.as_deref(),
                client: &client,
                model: self.asked(),
                prompt: &body.prompt,
            },
        );
        let request = PlanRequest {
            model: self.asked(),
            sticky,
            pin: None,
            fingerprint: Fingerprint::new(&client, &body.prompt),
            tokens: estimate(self.buffered.text()),
            started,
            client_deadline: client_deadline(headers, started),
        };
        let mut plan = Plan::new(group, &request, |member| self.model(member).map(Into::into));
        let group = Box::new(GroupRequest { notes, body: passing.shared(), client });
        let next = self.next_member(&mut plan, &group.body).map_err(|none| match none {
            NoMember::End(end) => refusal(end).at(Arc::clone(name)),
            NoMember::Failed(error) => error,
        })?;
        group.notes.borrow_mut().sticky = Some(next.permit.sticky().name());
        let NextMember { permit, upstream, outbound, model } = next;
        group.begin(&upstream, model.as_deref());
        let attempts = Attempts::planned(plan, permit, started);
        self.prepared(attempts, upstream, outbound, Some(group))
    }

    /// The next member of the plan for which the request can be written.
    pub(in crate::proxy) fn next_member(
        &self,
        plan: &mut Plan,
        body: &Body,
    ) -> std::result::Result<NextMember, NoMember> {
        let mut unfit = None;
        loop {
            let permit = match plan.next(Instant::now(), fastrand::u64(..)) {
                Step::Ask(permit) => permit,
                Step::Wait(_) => return Err(NoMember::End(End::Full)),
                Step::End(end) => return Err(unfit.map_or(NoMember::End(end), NoMember::Failed)),
            };
            let member = permit.number();
            match self.write(member, Variant::Standard, body.again()) {
                Ok(outbound) => {
                    let upstream = Rc::clone(self.target.member(member));
                    let model = self.model(member).map(Into::into);
                    return Ok(NextMember { permit, upstream, outbound, model });
                }
                Err(error) if matches!(error.kind(), Kind::UnknownPath(_) | Kind::ModelRequired) => {
                    unfit = Some(error);
                }
                Err(error) => return Err(NoMember::Failed(error)),
            }
        }
    }
}

/// An estimate of a request's tokens: four bytes each.
fn estimate(body: &[u8]) -> u32 {
    u32::try_from(body.len() / 4).unwrap_or(u32::MAX)
}

/// The error of a request for which no member can be asked.
fn refusal(end: End) -> Kind {
    let retry_after = match end {
        End::RateLimited { until } => Some(until.saturating_duration_since(Instant::now())),
        End::Tried | End::Attempts | End::Deadline | End::Budget | End::Full => None,
    };
    Kind::UpstreamsRateLimited { retry_after }
}
