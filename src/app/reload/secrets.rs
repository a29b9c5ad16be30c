//! The secrets that must not appear in errors of records.

use std::sync::{Arc, Weak};

use crate::config::{Settings, Upstream};
use crate::proxy::Snapshot;
use crate::support::secret::Masks;

/// The shortest secret that is masked in the errors of records, in bytes. A shorter one may be a
/// common word.
const MIN_SECRET: usize = 6;

/// The secrets of all configurations in use, since a request of an earlier one may still fail.
#[derive(Default)]
pub(super) struct Secrets(Vec<(Weak<Snapshot>, Vec<String>)>);

impl Secrets {
    /// The masks, including those of a snapshot that is about to be used.
    pub(super) fn with(&mut self, snapshot: &Arc<Snapshot>, settings: &Settings) -> Masks {
        let secrets = settings.upstreams.iter().flat_map(Upstream::secrets);
        let secrets = secrets.filter(|secret| secret.len() >= MIN_SECRET).map(str::to_owned).collect();
        self.0.retain(|(snapshot, _)| snapshot.strong_count() > 0);
        self.0.push((Arc::downgrade(snapshot), secrets));
        Masks::new(self.0.iter().flat_map(|(_, secrets)| secrets).map(String::as_str))
    }
}
