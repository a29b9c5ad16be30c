//! The upgraded connections of one worker, which end together.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::gate::TurnGate;
use super::{SHUTDOWN, UpgradedConnection};
use crate::balance::RelayEnd;
use crate::codec::head::KnownName;
use crate::llm::rewrite;
use crate::llm::rewrite::upgrade::WebSocketUpgrade;
use crate::proxy::attempt::Accepted;
use crate::proxy::meter::Session;
use crate::proxy::proxy_body::ProxyBody;
use crate::proxy::respond;
use crate::proxy::snapshot::Snapshot;
use crate::record::Entry;
use crate::server::{ClientResponse, Upgrade};
use crate::support::{CutSwitch, LocalCount};
use crate::upstream::{Scratch, UpstreamResponse};

/// The key of a session's client.
pub(super) struct SessionKey {
    client: Arc<str>,
    id: Arc<str>,
    upgraded: UpgradedConnections,
}

impl SessionKey {
    /// Returns true if the key is still one of its client's.
    pub(super) fn is_valid(&self) -> bool {
        self.upgraded.0.snapshot.borrow().as_ref().is_none_or(|snapshot| {
            let clients = &snapshot.clients;
            clients.is_empty() || clients.has_key(&self.client, &self.id, Timestamp::now())
        })
    }
}

/// One worker's upgraded connections. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct UpgradedConnections(pub(super) Rc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    /// The read buffer of all of them.
    pub(super) scratch: Scratch,
    /// The configuration in use.
    snapshot: RefCell<Option<Arc<Snapshot>>>,
    stops: Cell<bool>,
    stop: Notify,
    running: LocalCount,
}

impl UpgradedConnections {
    pub(in crate::proxy) fn new(scratch: Scratch) -> Self {
        let (snapshot, running) = (RefCell::default(), LocalCount::default());
        Self(Rc::new(Inner { scratch, snapshot, stops: Cell::new(false), stop: Notify::new(), running }))
    }

    /// Uses the keys of this configuration, also for running sessions.
    pub(in crate::proxy) fn adopt(&self, snapshot: Arc<Snapshot>) {
        *self.0.snapshot.borrow_mut() = Some(snapshot);
    }

    /// The key of the session's client, if it has one.
    pub(super) fn key_of(&self, session: &mut Session) -> Option<SessionKey> {
        let (client, id) = session.key()?;
        Some(SessionKey { client, id, upgraded: self.clone() })
    }

    /// A gate for the client's messages, if they may have to wait.
    pub(super) fn gate_of(&self, session: &mut Session) -> Option<Box<TurnGate>> {
        let bodies = self.0.snapshot.borrow().as_ref()?.bodies.clone();
        session.admits_messages().then(|| Box::new(TurnGate::new(bodies, session.client())))
    }

    /// Grants the client the upgrade that the upstream granted. From here on the session owns the
    /// record. It ends when `cut` is thrown.
    pub(in crate::proxy) fn begin(
        &self,
        accepted: Accepted,
        mut entry: Entry,
        cut: Option<Arc<CutSwitch>>,
    ) -> ClientResponse<ProxyBody> {
        accepted.record_upstream(&mut entry);
        let (id, started) = (entry.id(), entry.started());
        let Accepted { response: UpstreamResponse { mut head, body }, upstream, permit, ids, .. } = accepted;
        let (served, waited_ms) = (entry.served(), entry.time_waiting_ms());
        let added = entry.headers().cloned();
        let mut session = Session::new(entry, head.status.as_u16());
        if let Some(ids) = ids {
            session.watch_ids(ids);
        }
        let (upgraded, stream_metrics) = (self.clone(), Arc::clone(&upstream.stream_metrics));
        let upgrade = body.into_upgraded().map(|upstream| {
            Upgrade::new(move |client, first| async move {
                let (_open, _active) = (upgraded.0.running.enter(), stream_metrics.begin_stream());
                let connection =
                    UpgradedConnection::new(client, first, *upstream, session, &upgraded, started);
                connection.run(&upgraded, cut.as_deref()).await;
                if let Some(permit) = permit {
                    permit.permit.record_end(RelayEnd::Complete, Instant::now());
                }
            })
        });
        rewrite::headers::inbound(&mut head.headers);
        head.headers.set(KnownName::XStreamgaugeId, id.as_bytes());
        if let Some(served) = served {
            respond::add_served_by(&mut head.headers, &upstream, served);
        }
        respond::add_waited(&mut head.headers, waited_ms);
        if let Some(added) = added {
            head.headers.append_all(&added);
        }
        WebSocketUpgrade::grant(&mut head.headers);
        head.reason = None;
        ClientResponse { head, body: ProxyBody::Switching(upgrade) }
    }

    /// Waits until the process stops. Cancel-safe.
    pub(super) async fn stopping(&self) {
        let stop = self.0.stop.notified();
        if !self.0.stops.get() {
            stop.await;
        }
    }

    /// Ends all connections, and waits for their ends for at most [`SHUTDOWN`].
    pub(in crate::proxy) async fn shutdown(&self) {
        self.0.stops.set(true);
        self.0.stop.notify_waiters();
        let _ = timeout(SHUTDOWN, self.0.running.wait_empty()).await;
    }
}
