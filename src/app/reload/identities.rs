//! Takes over the identities of upstreams.

use std::sync::Arc;

use super::Reloader;
use crate::proxy::Snapshot;

impl Reloader {
    /// Gets and renews the tokens of this snapshot's upstreams from now on.
    pub(in crate::app) fn identify(&mut self, snapshot: &Snapshot) {
        let used = snapshot.upstreams.iter().filter_map(|spec| {
            let tokens = spec.tokens.as_ref()?;
            Some((Arc::clone(spec.id.name()), Arc::clone(tokens.source())))
        });
        if let Err(error) = self.identities.replace(used.collect()) {
            tracing::error!(%error, "there is no thread for identities: upstreams get no tokens");
        }
    }
}
