//! The label sets.

use prometheus_client::encoding::EncodeLabelSet;

/// Of what ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) upstream: String,
    pub(super) endpoint: String,
    /// 0 where the client got none.
    pub(super) status: u16,
    pub(super) outcome: &'static str,
}

/// Of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    pub(super) upstream: String,
    pub(super) model: String,
    pub(super) client: String,
    pub(super) r#type: &'static str,
}

/// Of usage records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UsageLabels {
    pub(super) upstream: String,
    pub(super) usage_source: &'static str,
}

/// Of what is measured at either side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SideLabels {
    pub(super) upstream: String,
    /// `upstream` or `client`.
    pub(super) side: &'static str,
}

/// Of times.
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
