//! Remembers the ids of stored state in a response while it passes.

use std::fmt;
use std::sync::Arc;

use crate::balance::{Account, HealthRegistry};
use crate::llm::usage::IdReader;

/// Reads the ids of one response, and remembers each at once: before its bytes reach the client,
/// all workers know it.
pub struct IdWatch {
    reader: IdReader,
    registry: Arc<HealthRegistry>,
    account: Account,
    /// The client whose request creates objects. `None`: the request creates nothing, or clients
    /// are not distinguished.
    client: Option<Arc<str>>,
}

impl IdWatch {
    pub fn new(registry: Arc<HealthRegistry>, account: Account, client: Option<Arc<str>>) -> Box<Self> {
        Box::new(Self { reader: IdReader::default(), registry, account, client })
    }

    /// Reads bytes of the response without its content coding.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let Self { reader, registry, account, client } = self;
        reader.push(bytes, &mut |found| {
            let creator = client.as_deref().filter(|_| found.is_own);
            registry.pins().insert(found.id, creator, *account);
        });
    }

    /// Ends a message of a WebSocket.
    pub(super) fn message_end(&mut self) {
        self.reader.end_text();
    }

    /// Ids are bound to clients.
    pub(super) fn is_bound(&self) -> bool {
        self.client.is_some()
    }

    /// Returns true if another client's request created the object of this id. The fleet is asked
    /// about one that is unknown here, for the messages that follow.
    pub(super) fn is_foreign(&self, id: &str) -> bool {
        let pins = self.registry.pins();
        let pin = self.client.as_deref().and_then(|client| pins.find(id, client));
        if pin.is_none_or(|pin| !pin.has_owner) {
            let _ = pins.ask([id]);
        }
        pin.is_some_and(|pin| !pin.is_own)
    }
}

impl fmt::Debug for IdWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdWatch").field("account", &self.account).finish_non_exhaustive()
    }
}
