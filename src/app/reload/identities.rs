//! Takes over the identities of upstreams.

use std::sync::{Arc, PoisonError};

use super::Reloader;
use crate::proxy::Snapshot;
use crate::upstream::IdentityStates;

impl Reloader {
    /// The tokens of the upstreams in use.
    pub(in crate::app) fn identity_states(&self) -> Arc<IdentityStates> {
        Arc::clone(self.identities.lock().unwrap_or_else(PoisonError::into_inner).states())
    }

    /// Gets and renews the tokens of this snapshot's upstreams from now on.
    pub(in crate::app) fn identify(&self, snapshot: &Snapshot) {
        let used = snapshot.upstreams.iter().filter_map(|spec| {
            let tokens = spec.tokens.as_ref()?;
            Some((Arc::clone(spec.id.name()), Arc::clone(tokens.source())))
        });
        let mut identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = identities.replace(used.collect()) {
            tracing::error!(%error, "there is no thread for identities: upstreams get no tokens");
        }
    }
}
