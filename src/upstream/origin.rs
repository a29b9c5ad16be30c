//! The description of an upstream that all workers share.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header;

use super::forward_proxy::ForwardProxyConnector;
use super::observer::ConnectObserver;
use super::race::Winner;
use super::response::UpstreamHead;
use crate::config::{HttpVersion, Timeouts};
use crate::egress::{Hosts, redirects_to, refreshes_to};
use crate::error::Error;
use crate::tls::Connector;

/// Where an upstream is, how it is reached, and its time limits.
#[derive(Debug)]
pub struct Origin {
    /// Its name in the configuration, for messages and records.
    pub name: Arc<str>,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
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
    /// Which address, its own or its forward proxy's, is tried first.
    pub winner: Winner,
    pub observer: Option<Arc<ConnectObserver>>,
}

impl Origin {
    /// Numbers the certificates of new connections, both to the upstream and to the forward proxy;
    /// each change changes the number. A connection of an earlier generation finishes its requests
    /// and gets no new one.
    pub fn generation(&self) -> u64 {
        let proxys = self.proxy.as_ref().and_then(|proxy| proxy.tls.as_ref());
        // Both only grow, so that an equal sum means that neither has changed.
        [self.tls.as_ref(), proxys].into_iter().flatten().map(Connector::generation).sum()
    }

    /// Whether the upstream may send bytes before a request: HTTP/2's SETTINGS without TLS (RFC 9113
    /// section 3.4). Servers of HTTP/1.1 and of TLS wait.
    pub(super) fn may_begin(&self, http: HttpVersion) -> bool {
        self.tls.is_none() && http == HttpVersion::Http2
    }

    /// Rejects a response that leads the client to a host that is not allowed, whatever its status:
    /// clients also follow the `Location` of 201 and 202.
    pub(super) fn check_redirect(&self, head: &UpstreamHead) -> Result<(), Error> {
        if self.allowed_hosts.is_everything() {
            return Ok(());
        }
        let locations = head.headers.get_all(header::LOCATION).iter();
        let refreshes = head.headers.get_all(header::REFRESH).iter();
        let hosts = locations.filter_map(|location| redirects_to(location.as_bytes()));
        for host in hosts.chain(refreshes.filter_map(|refresh| refreshes_to(refresh.as_bytes()))) {
            if !self.allowed_hosts.contains(&host) && !host.eq_ignore_ascii_case(&self.host) {
                return Err(Error::Redirect { upstream: self.name.to_string(), host });
            }
        }
        Ok(())
    }

    pub(super) fn unreachable(&self, reason: impl ToString) -> Error {
        Error::Unreachable { upstream: self.name.to_string(), reason: reason.to_string() }
    }

    /// The connection ended before a byte of an answer, and the request may have been executed.
    pub(super) fn no_answer(&self, error: &io::Error) -> Error {
        if is_alert(error) {
            return self.tls(error);
        }
        self.unanswered(format!("it closed the connection without an answer ({})", describe_error(error)))
    }

    /// A request reached it, and no answer can be made of what came.
    pub(super) fn unanswered(&self, reason: impl ToString) -> Error {
        Error::Unanswered { upstream: self.name.to_string(), reason: reason.to_string() }
    }

    /// There is no TLS session, or no longer.
    pub(super) fn tls(&self, error: &io::Error) -> Error {
        Error::Tls { upstream: self.name.to_string(), reason: describe_error(error) }
    }

    pub(super) fn protocol(&self, reason: impl ToString) -> Error {
        Error::Protocol { upstream: self.name.to_string(), reason: reason.to_string() }
    }

    /// HTTP/2 was wanted or chosen, and is not spoken.
    pub(super) fn not_http2(&self, reason: impl fmt::Display) -> Error {
        self.protocol(format!("it does not speak HTTP/2, which `http` in the configuration asks for or it chose itself: {reason}"))
    }

    pub(super) fn truncated(&self, reason: impl ToString) -> Error {
        Error::Truncated { upstream: self.name.to_string(), reason: reason.to_string() }
    }

    /// `was_sent`: all of the request was written.
    pub(super) fn first_byte_timeout(&self, is_streamed: bool, was_sent: bool) -> Error {
        let (limit, key) = self.timeouts.first_byte_of(is_streamed);
        Error::FirstByteTimeout { upstream: self.name.to_string(), limit, key, was_sent }
    }

    pub(super) fn idle_timeout(&self) -> Error {
        Error::IdleTimeout { upstream: self.name.to_string(), limit: self.timeouts.idle }
    }

    /// `was_sent`: all of the request was written.
    pub(super) fn total_timeout(&self, was_sent: bool) -> Error {
        let limit = self.timeouts.total.unwrap_or_default();
        Error::TotalTimeout { upstream: self.name.to_string(), limit, was_sent }
    }
}

/// Whether the peer ended TLS and said why. Of a client's certificate, TLS 1.3 speaks after the
/// client's part of the handshake is over, so that the first read or write brings it.
pub(super) fn is_alert(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::AlertReceived(_)))
}

/// A connection error in words without the system's error number.
pub(super) fn describe_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::BrokenPipe => "connection closed".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        _ => error.to_string(),
    }
}
