//! Waiting for a member of a group, or for grants of its limits.
//!
//! The client's departure drops the future, or its [`SendState`] says so: either way the request
//! leaves the queue at once.
//!
//! [`SendState`]: crate::proxy::pending_response::SendState

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::time::sleep_until;

use super::Held;
use super::group_request::{FirstWait, GroupRequest, note_sticky};
use crate::balance::{End, Permit, Plan, Step, Waited, Waiting};
use crate::proxy::request::{NextMember, NoMember, Prepared};
use crate::record::error::Result;
use crate::support::wait_room::{self, WaitTurn, Waits};

impl Prepared {
    /// Waits for the first member, and makes the attempt at it the current one.
    pub(super) async fn wait_first(
        &mut self,
        wait: FirstWait,
        group: &mut GroupRequest,
        held: &Held,
    ) -> Result<()> {
        let next = match wait {
            FirstWait::Queue(waiting) => self.wait(*waiting, group, held).await,
            FirstWait::Grant(permit) => match self.wait_for_grants(permit, group, held).await {
                Err(NoMember::Wait) => self.wait_again(group, held).await,
                next => next,
            },
        };
        match next {
            Ok(next) => {
                note_sticky(&group.notes, &next.permit.permit);
                self.begin(group, next);
                Ok(())
            }
            Err(none) => Err(none.refusal(group.plan.as_ref().expect("the queue has returned the plan"))),
        }
    }

    /// Waits for another member, or the same one.
    pub(super) async fn wait_again(
        &mut self,
        group: &mut GroupRequest,
        held: &Held,
    ) -> std::result::Result<NextMember, NoMember> {
        let Some(plan) = group.plan.take() else { return Err(NoMember::End(End::Tried)) };
        let waiting = group.enter_queue(plan);
        Box::pin(self.wait(waiting, group, held)).await
    }

    async fn wait(
        &mut self,
        mut waiting: Waiting,
        group: &mut GroupRequest,
        held: &Held,
    ) -> std::result::Result<NextMember, NoMember> {
        let (buffered, snapshot) = held;
        self.is_new = false;
        loop {
            self.set_waiting(true);
            let waited = served(&mut waiting, Instant::now, |time| time).await;
            self.set_waiting(false);
            group.notes.borrow_mut().end_wait(Instant::now());
            let (mut plan, step) = match waited {
                Waited::Served(plan, step) => (plan, step),
                Waited::Refused(plan) => {
                    group.plan = Some(plan);
                    return Err(NoMember::QueueFull);
                }
            };
            let next = match buffered.find(snapshot, buffered.peek()) {
                Ok(_) if !self.may_begin_again() => Err(NoMember::End(End::Tried)),
                Ok(routed) => routed
                    .member_of(step, &mut plan, &group.body, group.limits.as_deref())
                    .map(|next| routed.named(next)),
                Err(error) => Err(NoMember::Failed(error)),
            };
            let next = match next {
                Err(NoMember::Grant(permit)) => {
                    group.plan = Some(plan);
                    let next = self.wait_for_grants(permit, group, held).await;
                    plan = group.plan.take().expect("the wait for grants keeps the plan");
                    next
                }
                next => next,
            };
            if !matches!(next, Err(NoMember::Wait)) {
                group.plan = Some(plan);
                return next;
            }
            waiting = group.enter_queue(plan);
        }
    }

    /// Waits until the limits of the member of `permit` have their grants, or for as long as the
    /// request may. Then that member is asked, or the next one if a limit has no room.
    pub(super) async fn wait_for_grants(
        &mut self,
        mut permit: Box<Permit>,
        group: &mut GroupRequest,
        (buffered, snapshot): &Held,
    ) -> std::result::Result<NextMember, NoMember> {
        self.is_new = false;
        loop {
            self.set_waiting(true);
            buffered.wait_for_grants().await;
            self.set_waiting(false);
            if !self.may_begin_again() {
                return Err(NoMember::End(End::Tried));
            }
            let Some(plan) = &mut group.plan else { return Err(NoMember::End(End::Tried)) };
            let routed = buffered.find(snapshot, buffered.peek()).map_err(NoMember::Failed)?;
            let step = Step::Ask(*permit);
            match routed.member_of(step, plan, &group.body, group.limits.as_deref()) {
                Err(NoMember::Grant(lacking)) => permit = lacking,
                next => return next.map(|next| routed.named(next)),
            }
        }
    }
}

impl GroupRequest {
    /// Enters the queue of the group.
    pub(in crate::proxy) fn enter_queue(&self, plan: Plan) -> Waiting {
        let now = Instant::now();
        let upstreams = Arc::clone(plan.group());
        let turn = WaitTurn::new(&self.client, self.share, self.priority, plan.tokens());
        self.notes.borrow_mut().begin_wait(now);
        upstreams.wait(plan, turn, now)
    }
}

/// Completes when the request has a place, or waits no longer. `now` and `instant` are the clock of
/// the room.
pub(in crate::proxy) async fn served<W: Waits>(
    waiting: &mut wait_room::Wait<W>,
    now: impl Fn() -> W::Time,
    instant: impl Fn(W::Time) -> Instant,
) -> wait_room::WaitEnd<W> {
    let mut timer = pin!(sleep_until(instant(waiting.wake_at()).into()));
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(waited) = waiting.poll(cx, now(), fastrand::u64(..)) {
                return Poll::Ready(waited);
            }
            timer.as_mut().reset(instant(waiting.wake_at()).into());
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}
