//! The key that records, metrics and workers share.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The key of an upstream: its name in the configuration. An upstream keeps its id when its
/// settings change. Clones share one allocation, and a name is never reused while an id refers to
/// it, so that an id outlives its upstream in running streams, records and metrics.
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
