//! A request that is written for the upstream of its first attempt.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::balance::Attempts;
use crate::codec::h1::BodyFraming;
use crate::codec::head::Headers;
use crate::config::OnDisconnect;
use crate::proxy::attempt::GroupRequest;
use crate::proxy::include_usage::UsageOption;
use crate::proxy::meter::MemberPermit;
use crate::proxy::pending_response::SendState;
use crate::proxy::stored_ids::Watching;
use crate::proxy::worker::WorkerUpstream;
use crate::upstream::Payload;

/// A request that is ready for its first attempt.
pub(in crate::proxy) struct Prepared {
    pub(in crate::proxy) attempts: Attempts,
    /// The upstream of the current attempt.
    pub(in crate::proxy) upstream: Rc<WorkerUpstream>,
    pub(in crate::proxy) outbound: Outbound,
    /// The request has arrived just now. No time has passed for it.
    pub(in crate::proxy) is_new: bool,
    /// The request asks for a stream, whose head is due sooner than that of a complete response.
    pub(in crate::proxy) is_streamed: bool,
    /// The request asks for a stream in its body, so that its response may begin with comments.
    pub(in crate::proxy) takes_comments: bool,
    pub(in crate::proxy) on_disconnect: OnDisconnect,
    /// `None`: the request ends with its client.
    pub(in crate::proxy) state: Option<Rc<Cell<SendState>>>,
    /// Watches the ids in the response.
    pub(in crate::proxy) ids: Option<Box<Watching>>,
    /// The permit of the current attempt at a member of a group, until its result is recorded or its
    /// response runs. `None`: the request is routed to an upstream, or waits for its first member.
    pub(in crate::proxy) permit: Option<Box<MemberPermit>>,
    /// `None`: the request is routed to an upstream, or to a group in which no attempt follows the
    /// first, however it ends.
    pub(in crate::proxy) group: Option<Box<GroupRequest>>,
}

impl Prepared {
    /// The longest silence of a stream before its client is sent a comment.
    pub(in crate::proxy) fn keep_alive(&self) -> Option<Duration> {
        self.upstream.spec.keep_alive_comments.filter(|_| self.takes_comments)
    }

    /// Returns true if the request waits for its first member.
    pub(in crate::proxy) fn has_to_wait(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.first_wait.is_some())
    }

    pub(in crate::proxy) fn may_begin_again(&self) -> bool {
        self.state.as_ref().is_none_or(|state| state.get() != SendState::Abandoned)
    }

    /// Notes that the request waits for a member, or waits no longer.
    pub(in crate::proxy) fn set_waiting(&self, is_waiting: bool) {
        if let Some(state) = self.state.as_ref().filter(|_| self.may_begin_again()) {
            state.set(if is_waiting { SendState::Waiting } else { SendState::Sending });
        }
    }
}

/// The request of one attempt.
pub(in crate::proxy) struct Outbound {
    /// Path and query for the upstream.
    pub(in crate::proxy) target: String,
    pub(in crate::proxy) framing: BodyFraming,
    /// Slices of the buffered body around the edits, or the body that passes through.
    pub(in crate::proxy) payload: Payload,
    /// The client's headers without its content coding, if the payload is decoded.
    pub(in crate::proxy) decoded_headers: Option<Headers>,
    pub(in crate::proxy) usage: UsageOption,
}

impl Outbound {
    /// The request of an attempt whose member is not known yet.
    pub(in crate::proxy) fn unwritten() -> Self {
        Self {
            target: String::new(),
            framing: BodyFraming::None,
            payload: Payload::default(),
            decoded_headers: None,
            usage: UsageOption::Untouched,
        }
    }
}
