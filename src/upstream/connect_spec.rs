//! The description of an upstream that all workers share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::{SendError, SendPhase};
use super::forward_proxy::ForwardProxyConnector;
use super::observer::ConnectObserver;
use super::race::Winner;
use crate::codec::head::{KnownName, ResponseHead};
use crate::config::forward_proxy::{redirects_to, refreshes_to};
use crate::config::{HttpVersion, Timeouts};
use crate::record::error::Kind;
use crate::support::Hosts;
use crate::tls::Connector;

/// The address of an upstream, the way to reach it, and its time limits.
#[derive(Debug)]
pub struct ConnectSpec {
    /// Its name in the configuration, for messages and records.
    pub name: Arc<str>,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// A Unix socket in place of host and port.
    pub socket: Option<PathBuf>,
    /// The TLS client and the server name; `None` for `http`.
    pub tls: Option<Connector>,
    pub http: HttpVersion,
    /// The hosts, besides its own, that its redirects may lead to.
    pub allowed_hosts: Hosts,
    /// The forward proxy of all connections; `None`: direct.
    pub proxy: Option<ForwardProxyConnector>,
    pub timeouts: Timeouts,
    /// A connection of this age takes no further request; `None`: any age.
    pub max_connection_age: Option<Duration>,
    /// The address, of the upstream or its forward proxy, that is tried first.
    pub winner: Winner,
    pub observer: Option<Arc<ConnectObserver>>,
}

impl ConnectSpec {
    /// Numbers the certificates of new connections, both to the upstream and to the forward proxy;
    /// each change changes the number. A connection of an earlier generation finishes its requests
    /// and gets no new one.
    pub fn generation(&self) -> u64 {
        let proxys = self.proxy.as_ref().and_then(|proxy| proxy.tls.as_ref());
        // Both only grow, so that an equal sum means that neither has changed.
        [self.tls.as_ref(), proxys].into_iter().flatten().map(Connector::generation).sum()
    }

    /// Returns true if the upstream may send bytes before a request: HTTP/2's SETTINGS without TLS
    /// (RFC 9113 section 3.4). Servers of HTTP/1.1 and of TLS wait.
    pub(super) fn may_begin(&self, http: HttpVersion) -> bool {
        self.tls.is_none() && http == HttpVersion::Http2
    }

    /// Rejects a response that leads the client to a host that is not allowed, whatever its status:
    /// clients also follow the `Location` of 201 and 202.
    pub(super) fn check_redirect(&self, head: &ResponseHead) -> Result<(), SendError> {
        if self.allowed_hosts.is_everything() {
            return Ok(());
        }
        let hosts = head.headers.values(KnownName::Location).filter_map(redirects_to);
        for host in hosts.chain(head.headers.values(KnownName::Refresh).filter_map(refreshes_to)) {
            if !self.allowed_hosts.contains(&host) && !host.eq_ignore_ascii_case(&self.host) {
                return Err(SendError::new(SendPhase::Head, Kind::Redirect { host }));
            }
        }
        Ok(())
    }
}
