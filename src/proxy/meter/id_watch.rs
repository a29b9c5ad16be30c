//! Remembers the ids of stored state in a response while it passes.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::balance::{Account, HealthRegistry, MOST_ASKED, PinAsk};
use crate::llm::usage::{IdReader, NamedIdReader};
use crate::record::error::Kind;

/// Reads the ids of one response, and remembers each at once: before its bytes reach the client,
/// all workers know it.
pub struct IdWatch {
    reader: IdReader,
    registry: Arc<HealthRegistry>,
    account: Account,
    /// The client whose request creates objects. `None`: the request creates nothing, or clients
    /// are not distinguished.
    client: Option<Arc<str>>,
    /// A message is refused while the fleet's store cannot say whose an id in it is.
    refuses_unknown: bool,
}

impl IdWatch {
    pub fn new(
        registry: Arc<HealthRegistry>,
        account: Account,
        client: Option<Arc<str>>,
        refuses_unknown: bool,
    ) -> Box<Self> {
        Box::new(Self { reader: IdReader::default(), registry, account, client, refuses_unknown })
    }

    /// Reads bytes of the response without its content coding.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let Self { reader, registry, account, client, .. } = self;
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

    /// Returns true if messages with ids that are unknown here wait for what the fleet knows of them.
    pub(super) fn asks_fleet(&self) -> bool {
        self.is_bound() && self.registry.pins().fleet().is_some()
    }

    pub(super) fn refuses_unknown(&self) -> bool {
        self.refuses_unknown
    }

    /// Returns true if another client's request created the object of this id.
    pub(super) fn is_foreign(&self, id: &str) -> bool {
        let client = self.client.as_deref();
        let pin = client.and_then(|client| self.registry.pins().find(id, client));
        pin.is_some_and(|pin| !pin.is_own)
    }

    /// The ids that a message names and of which it is unknown here whose they are.
    ///
    /// # Errors
    /// Fails if an id is another client's, if there are more unknown ones than the fleet is asked for,
    /// or if the message begins as JSON and is none.
    pub(super) fn unknown_in(&self, message: &[u8]) -> Result<HashSet<String>, Kind> {
        let client = self.client.as_deref().unwrap_or_default();
        let (mut unknown, mut foreign) = (HashSet::new(), None);
        let mut reader = NamedIdReader::default();
        reader.push(message, &mut |id| {
            let pin = self.registry.pins().find(id, client);
            let is_known = pin.is_some_and(|pin| pin.has_owner);
            if pin.is_some_and(|pin| !pin.is_own) {
                foreign.get_or_insert_with(|| id.to_owned());
            } else if !is_known && unknown.len() < MOST_ASKED {
                unknown.insert(id.to_owned());
            } else if !is_known && !unknown.contains(id) {
                // An id that is not asked for may be another client's.
                foreign.get_or_insert_with(|| id.to_owned());
            }
        });
        match foreign {
            Some(id) => Err(Kind::StoredIdUnknown(id)),
            None if reader.is_refused() => Err(Kind::BodyNotJson),
            None => Ok(unknown),
        }
    }

    /// Asks the fleet about ids. `None`: no fleet shares them.
    pub(super) fn ask(&self, ids: &HashSet<String>) -> Option<Arc<PinAsk>> {
        self.registry.pins().ask(ids.iter().map(String::as_str))
    }
}

impl fmt::Debug for IdWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdWatch").field("account", &self.account).finish_non_exhaustive()
    }
}
