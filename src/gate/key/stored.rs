//! Keys that are stored beside the configuration, and change without it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use jiff::Timestamp;

use super::{KeyDigest, KnownKey, UnknownKeys};
use crate::support::{CutSwitch, Live};

/// The state of authentication that all configurations of a process share: the stored keys in use,
/// and the count of unknown ones.
#[derive(Debug, Default)]
pub struct LiveKeys {
    pub(in crate::gate) stored: Live<StoredKeys>,
    /// The switches of keys that are no longer stored, for as long as requests with them run.
    removed: Mutex<HashMap<KeyDigest, Weak<CutSwitch>>>,
    pub unknown: UnknownKeys,
}

/// The stored keys, by digest. The client of a key is looked up in the configuration in use, which
/// may not have it.
#[derive(Debug, Default)]
pub(in crate::gate) struct StoredKeys(HashMap<KeyDigest, KnownKey<Arc<str>>>);

/// A stored key, as it is put in use.
#[derive(Clone, Copy, Debug)]
pub struct LiveKey<'a> {
    pub digest: KeyDigest,
    /// The name of its client.
    pub client: &'a str,
    /// The time from which it is refused.
    pub until: Option<Timestamp>,
    /// The key is refused, and requests with it that run end now.
    pub is_cut: bool,
}

impl LiveKeys {
    /// Uses these keys from now on, instead of the earlier ones.
    pub fn replace<'a>(&self, keys: impl IntoIterator<Item = LiveKey<'a>>) {
        let earlier = self.stored.load();
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cut = Vec::new();
        let mut stored = HashMap::new();
        for LiveKey { digest, client, until, is_cut } in keys {
            // Running requests have the switch of the same key before. A key that is accepted again
            // after a cut begins with another.
            let before = earlier.get(&digest).and_then(|key| key.cut.clone());
            let before = before.or_else(|| removed.remove(&digest)?.upgrade());
            let switch = before.filter(|switch| is_cut || !switch.is_thrown()).unwrap_or_default();
            if is_cut {
                cut.push(Arc::clone(&switch));
            }
            let until = if is_cut { Some(Timestamp::MIN) } else { until };
            let key = KnownKey { client: client.into(), id: digest.id().into(), until, cut: Some(switch) };
            stored.insert(digest, key);
        }
        let gone = earlier.0.iter().filter(|(digest, _)| !stored.contains_key(digest));
        removed.extend(gone.filter_map(|(digest, key)| Some((*digest, Arc::downgrade(key.cut.as_ref()?)))));
        self.stored.replace(StoredKeys(stored));
        drop(earlier);
        removed.retain(|_, switch| switch.strong_count() > 0);
        // From here on no request begins with them.
        cut.iter().for_each(|switch: &Arc<CutSwitch>| switch.throw());
    }
}

impl StoredKeys {
    pub(in crate::gate) fn has(&self, client: &str, id: &str, now: Timestamp) -> bool {
        self.0.values().any(|key| *key.client == *client && *key.id == *id && !key.has_expired(now))
    }

    pub(in crate::gate) fn get(&self, digest: &KeyDigest) -> Option<&KnownKey<Arc<str>>> {
        self.0.get(digest)
    }
}
