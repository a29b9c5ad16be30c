//! A request to a group: the order of members, and the request for each.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::member_limits::MemberLimits;
use super::{Body, Outbound, Prepared, Routed};
use crate::balance::{
    Attempts, End, Permit, Plan, PlanRequest, PromptHash, Step, StickyBody, StickyParts, UpstreamGroup,
    Variant, any_sticky_key, ask_only, client_deadline, client_retries, sticky_key,
};
use crate::proxy::attempt::{FirstWait, GroupRequest, note_begun, note_sticky};
use crate::proxy::meter::MemberPermit;
use crate::proxy::worker::WorkerUpstream;
use crate::record::error::{Error, Kind, Result};
use crate::record::{Entry, GroupNotes};

/// A member that can be asked, and the request for it.
pub(in crate::proxy) struct NextMember {
    pub(in crate::proxy) permit: Box<MemberPermit>,
    pub(in crate::proxy) upstream: Rc<WorkerUpstream>,
    pub(in crate::proxy) outbound: Outbound,
    /// The model to ask the member for, once it is [`Routed::named`].
    pub(in crate::proxy) model: Option<Box<str>>,
}

/// The reason for which no member can be asked.
pub(in crate::proxy) enum NoMember {
    /// One may be available later.
    Wait,
    /// This one can be asked once its limits have a grant.
    Grant(Box<Permit>),
    End(End),
    /// The request is not allowed to wait, since the queue is full.
    QueueFull,
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
        let (spec, started) = (group.spec(), entry.started());
        let notes = entry.note_group(Arc::clone(&spec.name));
        let headers = &self.buffered.head.headers;
        notes.borrow_mut().is_client_retry = client_retries(headers) > 0;
        let client = &entry.row().client;
        let text = self.buffered.text();
        let body = self.peek.as_ref().map(|peek| StickyBody::of(text, &peek.conversation));
        let body = body.unwrap_or_default();
        let prompt = if group.is_only_one() {
            PromptHash::brief(client, body.prompt().any(|part| !part.is_empty()), text)
        } else {
            // Aliases of one model share its prompt caches.
            PromptHash::new(client, self.model(0), body.prompt())
        };
        let parts = StickyParts { headers, body, prompt };
        let sticky = if group.has_choice() {
            sticky_key(&spec.sticky, &parts)
        } else {
            any_sticky_key(&spec.sticky, &parts)
        };
        let (model, fingerprint) = (self.asked(), prompt.fingerprint());
        let pin = self.holder(group);
        let name_at = |member: usize| self.model(member).map(Into::into);
        let now = if self.is_new { started } else { Instant::now() };
        let only = || ask_only(group, model, name_at, sticky, fingerprint, now);
        if pin.is_none()
            && let Some(permit) = only()
            && self.enter_only(permit.number())?
        {
            return self.prepare_only(permit, notes, passing, started);
        }
        let request = PlanRequest {
            model,
            sticky,
            pin,
            fingerprint,
            tokens: estimate(text),
            started,
            client_deadline: client_deadline(headers, started),
        };
        let mut plan = Plan::new(group, &request, name_at);
        let configured = self.buffered.client.as_deref();
        let (share, priority) = configured.map_or((1, 0), |client| (client.share, client.priority));
        let (client, body) = (Arc::clone(client), passing.shared());
        match self.next_member(&mut plan, &body, self.admitted.members.as_deref(), now) {
            Ok(NextMember { mut permit, upstream, outbound, .. }) => {
                let member = permit.permit.number();
                note_sticky(&notes, &permit.permit);
                note_begun(&notes, &upstream, self.model(member), now);
                let request = if plan.may_go_on() {
                    let mut request = GroupRequest::new(Some(plan), notes, body, client, (share, priority));
                    request.limits = self.admitted.members.clone();
                    Some(request)
                } else {
                    permit.notes = Some(notes);
                    None
                };
                self.prepared(Attempts::new(member, started), upstream, outbound, Some(permit), request)
            }
            Err(none @ (NoMember::Wait | NoMember::Grant(_))) => {
                self.check_fits_a_member()?;
                let mut request = GroupRequest::new(None, notes, body, client, (share, priority));
                request.limits = self.admitted.members.clone();
                request.first_wait = Some(match none {
                    NoMember::Grant(permit) => {
                        request.plan = Some(plan);
                        FirstWait::Grant(permit)
                    }
                    _ => FirstWait::Queue(Box::new(request.enter_queue(plan))),
                });
                let attempts = Attempts::new(0, started);
                let upstream = Rc::clone(self.target.first());
                self.prepared(attempts, upstream, Outbound::unwritten(), None, Some(request))
            }
            Err(none) => Err(none.refusal(&plan)),
        }
    }

    /// Holds the limits of the only member of a group. Returns false if the request has to wait for a
    /// grant.
    fn enter_only(&self, member: usize) -> Result<bool> {
        let Some(limits) = &self.admitted.members else { return Ok(true) };
        match limits.enter(self.target.member(member).spec.id.name(), self.buffered.grants.reply_wait()) {
            Err(error) if self.buffered.lacks_grant(&error) => Ok(false),
            entered => entered.map(|()| true),
        }
    }

    /// Prepares the only attempt at the only member of a group, whose limits are held.
    fn prepare_only(
        &self,
        permit: Permit,
        notes: GroupNotes,
        body: Body,
        started: Instant,
    ) -> Result<Prepared> {
        let member = permit.number();
        let upstream = self.target.member(member);
        let outbound = self.write(member, Variant::Standard, body)?;
        note_sticky(&notes, &permit);
        notes.borrow_mut().is_only = true;
        let permit = Box::new(MemberPermit { permit, notes: Some(notes) });
        self.prepared(Attempts::new(member, started), Rc::clone(upstream), outbound, Some(permit), None)
    }

    /// Fails if the request cannot be written for any member, so that waiting would be in vain.
    fn check_fits_a_member(&self) -> Result<()> {
        let mut error = None;
        for member in 0..self.target.len() {
            match self.target_at(member) {
                Ok(_) => return Ok(()),
                Err(reason) => error = Some(reason),
            }
        }
        error.map_or(Ok(()), Err)
    }

    /// The member that has the stored state that the request names.
    fn holder(&self, group: &UpstreamGroup) -> Option<usize> {
        self.holder.and_then(|upstream| group.member_of(upstream))
    }

    /// The member with the model to ask it for.
    pub(in crate::proxy) fn named(&self, next: NextMember) -> NextMember {
        let model = self.model(next.permit.permit.number()).map(Into::into);
        NextMember { model, ..next }
    }

    /// The next member of the plan for which the request can be written. A further attempt takes its
    /// turn like a new request, since its member's place is free already.
    pub(in crate::proxy) fn next_member(
        &self,
        plan: &mut Plan,
        body: &Body,
        limits: Option<&MemberLimits>,
        now: Instant,
    ) -> std::result::Result<NextMember, NoMember> {
        let step = plan.next_in_turn(now, fastrand::u64(..));
        self.member_of(step, plan, body, limits)
    }

    /// The member of this step of the plan, or the next one for which the request can be written.
    pub(in crate::proxy) fn member_of(
        &self,
        mut step: Step,
        plan: &mut Plan,
        body: &Body,
        limits: Option<&MemberLimits>,
    ) -> std::result::Result<NextMember, NoMember> {
        let mut unfit = None;
        loop {
            let permit = match step {
                Step::Ask(permit) => MemberPermit::new(permit),
                Step::Wait(_) => return Err(NoMember::Wait),
                Step::End(end) => return Err(unfit.map_or(NoMember::End(end), NoMember::Failed)),
            };
            let member = permit.permit.number();
            let upstream = self.target.member(member);
            let reply_wait = self.buffered.grants.reply_wait();
            let room = limits.map_or(Ok(()), |limits| limits.enter(upstream.spec.id.name(), reply_wait));
            match room.and_then(|()| self.write(member, Variant::Standard, body.again())) {
                Ok(outbound) => {
                    let upstream = Rc::clone(upstream);
                    return Ok(NextMember { permit, upstream, outbound, model: None });
                }
                Err(error) if self.buffered.lacks_grant(&error) => {
                    return Err(NoMember::Grant(Box::new(permit.permit)));
                }
                Err(error) if is_of_member(&error) => unfit = Some(error),
                Err(error) => return Err(NoMember::Failed(error)),
            }
            let now = Instant::now();
            plan.skip(permit.permit, now);
            step = plan.next(now, fastrand::u64(..));
        }
    }
}

impl NoMember {
    /// The error of a request for which no member of the group was asked.
    pub(in crate::proxy) fn refusal(self, plan: &Plan) -> Error {
        let (spec, holder) = (plan.group().spec(), plan.holder().map(|upstream| upstream.name().clone()));
        let kind = match self {
            Self::Failed(error) => return error,
            Self::QueueFull => Kind::QueueFull,
            Self::Wait | Self::Grant(_) | Self::End(End::Full) => {
                Kind::UpstreamsBusy { wait: spec.wait.unwrap_or_default(), holder }
            }
            Self::End(End::RateLimited { until }) => {
                let retry_after = Some(until.saturating_duration_since(Instant::now()));
                Kind::UpstreamsRateLimited { retry_after, holder }
            }
            Self::End(End::Tried | End::Attempts | End::Deadline | End::Budget) => {
                Kind::UpstreamsRateLimited { retry_after: None, holder }
            }
        };
        kind.at(Arc::clone(&spec.name))
    }
}

/// Returns true if another member may get the request nevertheless.
fn is_of_member(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::UnknownPath(_)
            | Kind::ModelRequired
            | Kind::LimitReached(_)
            | Kind::QuotaReached(_)
            | Kind::LimitsUnavailable
    )
}

/// An estimate of a request's tokens: four bytes each.
pub(super) fn estimate(body: &[u8]) -> u32 {
    u32::try_from(body.len() / 4).unwrap_or(u32::MAX)
}
