//! The label sets.

use std::borrow::Cow;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

/// The labels of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) upstream: Arc<str>,
    pub(super) endpoint: Cow<'static, str>,
    /// 0 if the client got none.
    pub(super) status: u16,
    pub(super) outcome: &'static str,
    pub(super) model: Arc<str>,
    pub(super) client: Arc<str>,
}

/// The labels of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    pub(super) upstream: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) client: Arc<str>,
    pub(super) r#type: &'static str,
}

/// The labels of times.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TimeLabels {
    pub(super) upstream: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) client: Arc<str>,
}

/// The labels of costs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CostLabels {
    pub(super) upstream: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) client: Arc<str>,
    pub(super) currency: String,
}

/// The labels of requests by a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TagLabels {
    pub(super) tag: String,
    pub(super) value: Arc<str>,
}

/// The labels of tokens by a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TagTokenLabels {
    pub(super) tag: String,
    pub(super) value: Arc<str>,
    pub(super) r#type: &'static str,
}

/// The labels of costs by a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TagCostLabels {
    pub(super) tag: String,
    pub(super) value: Arc<str>,
    pub(super) currency: String,
}

/// The labels of usage records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UsageLabels {
    pub(super) upstream: Arc<str>,
    pub(super) usage_source: &'static str,
}

/// The labels of requests that this proxy refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CodeLabels {
    pub(super) code: &'static str,
}

/// The labels of upstream failures that this proxy detected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FailureLabels {
    pub(super) upstream: Arc<str>,
    pub(super) code: &'static str,
}

/// The labels of attempts at a group's members after which another one was tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RetryLabels {
    pub(super) group: Arc<str>,
    /// The upstream of the failed attempt.
    pub(super) upstream: Arc<str>,
    /// The status, or the error's code.
    pub(super) reason: Cow<'static, str>,
}

/// The labels of conversations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StickyLabels {
    pub(super) group: Arc<str>,
    /// `kept`, `moved` or `none`.
    pub(super) result: &'static str,
}

/// The labels of members that were left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OpenedLabels {
    pub(super) upstream: Arc<str>,
    pub(super) reason: &'static str,
}

/// The labels of a limit of a client or a team.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClientLimitLabels {
    /// The table of its owner, such as `clients.search`.
    pub(super) whose: String,
    pub(super) limit: String,
}

/// The labels of a model at a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct MemberLabels {
    pub(super) upstream: String,
    pub(super) model: String,
}

/// The labels of probes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProbeLabels {
    pub(super) upstream: String,
    pub(super) result: &'static str,
}

/// The label of what has one of a few results.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabels {
    pub(super) result: &'static str,
}

/// The label of groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct GroupLabels {
    pub(super) group: Arc<str>,
}

/// The labels of this program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    pub(super) version: &'static str,
    pub(super) os: &'static str,
    pub(super) arch: &'static str,
}

/// The labels of a server's connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ServerLabels {
    /// `proxy` or `admin`.
    pub(super) server: &'static str,
}

/// The labels of a part of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PartLabels {
    pub(super) part: &'static str,
}

/// The labels of measurements at either side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SideLabels {
    pub(super) upstream: String,
    /// `upstream` or `client`.
    pub(super) side: &'static str,
}

/// The labels of measurements by upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamLabels {
    pub(super) upstream: String,
}

/// The labels of closed connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) reason: &'static str,
}

/// The labels of requests that a limit ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LimitLabels {
    pub(super) limit: &'static str,
}

/// The labels of records by sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SinkResultLabels {
    pub(super) sink: String,
    /// `written`, `dropped` or `failed`.
    pub(super) result: &'static str,
}

/// The labels of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SinkLabels {
    pub(super) sink: String,
}

/// The labels of a thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ThreadLabels {
    pub(super) thread: String,
}
