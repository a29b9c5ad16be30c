//! The key that records, metrics and workers share.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The key of an upstream: its name in the configuration. An upstream keeps its id when its
/// settings change. Clones share one allocation, which outlives the upstream in running streams,
/// records and metrics. An upstream that is removed and added again has an id of its own, which is
/// equal to the earlier one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(Arc<str>);

impl UpstreamId {
    pub fn name(&self) -> &Arc<str> {
        &self.0
    }
}

impl From<&str> for UpstreamId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl Deref for UpstreamId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
