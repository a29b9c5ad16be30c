//! The label sets.

use std::borrow::Cow;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

/// Of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) upstream: Arc<str>,
    pub(super) endpoint: Cow<'static, str>,
    /// 0 where the client got none.
    pub(super) status: u16,
    pub(super) outcome: &'static str,
    pub(super) model: Arc<str>,
    pub(super) client: Arc<str>,
}

/// Of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    pub(super) upstream: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) client: Arc<str>,
    pub(super) r#type: &'static str,
}

/// Of times.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TimeLabels {
    pub(super) upstream: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) client: Arc<str>,
}

/// Of what requests cost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CostLabels {
    pub(super) upstream: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) client: Arc<str>,
    pub(super) currency: String,
}

/// Of usage records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UsageLabels {
    pub(super) upstream: Arc<str>,
    pub(super) usage_source: &'static str,
}

/// Of requests that this proxy refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CodeLabels {
    pub(super) code: &'static str,
}

/// Of upstreams that failed, as this proxy found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FailureLabels {
    pub(super) upstream: Arc<str>,
    pub(super) code: &'static str,
}

/// Of this program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    pub(super) version: &'static str,
    pub(super) os: &'static str,
    pub(super) arch: &'static str,
}

/// Of a server's connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ServerLabels {
    /// `proxy` or `admin`.
    pub(super) server: &'static str,
}

/// Of what is measured at either side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SideLabels {
    pub(super) upstream: String,
    /// `upstream` or `client`.
    pub(super) side: &'static str,
}

/// Of what is measured by upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamLabels {
    pub(super) upstream: String,
}

/// Of connections that were closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) reason: &'static str,
}

/// Of requests that a limit ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LimitLabels {
    pub(super) limit: &'static str,
}

/// Of records by sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SinkResultLabels {
    pub(super) sink: String,
    /// `written`, `dropped` or `failed`.
    pub(super) result: &'static str,
}

/// Of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SinkLabels {
    pub(super) sink: String,
}

/// Of a thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ThreadLabels {
    pub(super) thread: String,
}
