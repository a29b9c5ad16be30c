//! The errors of exchanges with upstreams that yield no complete response.
//!
//! [`SendError`] keeps the typed cause. [`ConnectSpec::fail`] turns it into the crate's [`Error`],
//! whose source it becomes.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError};

use super::connect_spec::ConnectSpec;
use super::forward_proxy::TunnelError;
use super::http2::{Ending, Http2Error};
use crate::codec::h1::ProtocolError;
use crate::record::error::{Error, Kind};

/// A failed exchange with an upstream.
#[derive(Clone, Debug)]
pub struct SendError {
    /// The progress of the exchange.
    pub phase: SendPhase,
    /// The cause.
    pub cause: SendCause,
}

/// The progress of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendPhase {
    /// The phase before there was a connection.
    Connect,
    /// The phase after it, if the upstream cannot have worked on the request (see `resend`).
    Unprocessed,
    /// The phase after the whole request was written on a kept connection, whose close probably
    /// crossed it (see `resend`).
    Crossed,
    /// The phase before the first byte of the response.
    Request,
    /// Inside the response's head.
    Head,
    /// The phase after the response's head.
    Body,
}

/// The cause of an exchange's end.
#[derive(Clone, Debug)]
pub enum SendCause {
    /// The socket or the name lookup failed.
    Io(Arc<io::Error>),
    /// The TLS session with the upstream failed.
    Tls(Arc<io::Error>),
    /// The response breaks HTTP/1.1.
    Http1(ProtocolError),
    /// The HTTP/2 stream or connection failed.
    Http2(Arc<Http2Error>),
    /// HTTP/2 is required or was chosen, and is not spoken.
    NotHttp2(Arc<Ending>),
    /// The upstream broke a rule above its framing.
    Violation(Violation),
    /// The forward proxy of this URL opened no tunnel.
    ForwardProxy(Arc<str>, Arc<TunnelError>),
    /// A limit or a rule of ours, which the kind describes completely.
    Limit(Kind),
    /// The client failed, for instance inside its body.
    Client(Error),
    /// The process is stopping.
    Stopping,
}

/// A rule that an upstream broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The upstream sent bytes on an idle connection.
    EarlyBytes,
    /// The upstream sent this status before it had the request.
    EarlyStatus(u16),
    /// The upstream sent 408 on an idle connection.
    IdleTimeout,
    /// The upstream refused HTTP/1.1 by ALPN, which a WebSocket needs.
    NoHttp1ForUpgrade,
    /// The upstream sent 101 although no upgrade was requested.
    UnrequestedSwitch,
    /// The upstream sent 101 before it had the request.
    EarlySwitch,
    /// The upstream closed a WebSocket without a close frame.
    NoCloseFrame,
}

impl SendError {
    pub(super) fn new(phase: SendPhase, cause: impl Into<SendCause>) -> Self {
        Self { phase, cause: cause.into() }
    }

    /// The failure of a TLS session, or of an attempt to begin one.
    pub(super) fn tls(phase: SendPhase, error: io::Error) -> Self {
        Self { phase, cause: SendCause::Tls(Arc::new(error)) }
    }

    /// The kind of the crate's error.
    fn kind(&self) -> Kind {
        match (&self.cause, self.phase) {
            (SendCause::Limit(kind), _) => kind.clone(),
            (SendCause::Client(error), _) => error.kind().clone(),
            (SendCause::Tls(_), _) => Kind::Tls,
            (SendCause::NotHttp2(_) | SendCause::Violation(Violation::NoHttp1ForUpgrade), _) => {
                Kind::WrongProtocol
            }
            (SendCause::Violation(Violation::EarlySwitch), _) => Kind::Protocol,
            (SendCause::ForwardProxy(url, error), _) => match **error {
                TunnelError::Status(status) => {
                    Kind::ProxyRefused { proxy: url.to_string(), status: status.as_u16() }
                }
                _ => Kind::ProxyFailed { proxy: url.to_string() },
            },
            (_, SendPhase::Connect | SendPhase::Unprocessed | SendPhase::Crossed) => Kind::Unreachable,
            (_, SendPhase::Request | SendPhase::Head) => Kind::Unanswered,
            (SendCause::Http1(error), SendPhase::Body) if !error.is_truncation() => Kind::Protocol,
            (SendCause::Http2(error), SendPhase::Body) if error.error.is_library() => Kind::Protocol,
            (_, SendPhase::Body) => Kind::Truncated,
        }
    }

    /// The alert with which the upstream ended TLS, if it did. TLS 1.3 reports a refused client
    /// certificate after the client's part of the handshake, so that a later read returns it.
    pub fn alert(&self) -> Option<AlertDescription> {
        match &self.cause {
            SendCause::Io(error) | SendCause::Tls(error) => alert(error),
            SendCause::Http2(error) => error.alert,
            _ => None,
        }
    }

    /// The reason for which the certificate of the upstream, or of its forward proxy, was rejected
    /// here.
    pub fn certificate_error(&self) -> Option<&CertificateError> {
        let error = match &self.cause {
            SendCause::Tls(error) => &**error,
            SendCause::ForwardProxy(_, error) => match &**error {
                TunnelError::Tls(error) => error,
                _ => return None,
            },
            _ => return None,
        };
        match tls_error(error)? {
            rustls::Error::InvalidCertificate(error) => Some(error),
            _ => None,
        }
    }
}

impl ConnectSpec {
    /// Turns a failure into the crate's error and shows it to the observer.
    #[cold]
    pub(super) fn fail(&self, error: SendError) -> Error {
        if let SendCause::Client(error) = error.cause {
            return error;
        }
        let error = error.kind().at(Arc::clone(&self.name)).because(error);
        if let Some(observer) = &self.observer {
            observer.on_error(&error);
        }
        error
    }

    /// `was_sent` is true if the whole request was written.
    pub(super) fn first_byte_timeout(&self, is_streamed: bool, was_sent: bool) -> SendCause {
        let (limit, key) = self.timeouts.first_byte_of(is_streamed);
        SendCause::Limit(Kind::FirstByteTimeout { limit, key, was_sent })
    }

    pub(super) fn idle_timeout(&self) -> SendCause {
        SendCause::Limit(Kind::IdleTimeout { limit: self.timeouts.idle })
    }

    /// `was_sent` is true if the whole request was written.
    pub(super) fn total_timeout(&self, was_sent: bool) -> SendCause {
        SendCause::Limit(Kind::TotalTimeout { limit: self.timeouts.total.unwrap_or_default(), was_sent })
    }
}

/// Returns true if a server refuses the client's certificate, or its absence, with this alert.
/// Under TLS 1.3 it arrives after the request was written, which the server has then not read. Any
/// other alert may end a connection on which the server worked.
pub(super) fn refuses_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}

/// The alert inside a connection's error.
pub(super) fn alert(error: &io::Error) -> Option<AlertDescription> {
    match tls_error(error)? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A connection error without the system's error number.
pub(super) fn describe_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        _ => error.to_string(),
    }
}

impl fmt::Display for SendError {
    /// The reason, as a clause of the crate's message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cause, self.phase) {
            (SendCause::Io(error), phase) => {
                let error = describe_error(error);
                match phase {
                    SendPhase::Request => write!(f, "it closed the connection without a response ({error})"),
                    SendPhase::Head => write!(f, "its response's head broke off ({error})"),
                    _ => f.write_str(&error),
                }
            }
            (SendCause::Tls(error), _) => f.write_str(&describe_error(error)),
            (SendCause::Http1(error), _) => write!(f, "{error}"),
            (SendCause::Http2(error), SendPhase::Request | SendPhase::Head) => {
                write!(f, "it sent no response over HTTP/2: {error}")
            }
            (SendCause::Http2(error), _) => write!(f, "{error}"),
            (SendCause::NotHttp2(ending), _) => write!(
                f,
                "it does not speak HTTP/2, which `http` in the configuration requires or which it chose itself: {ending}"
            ),
            (SendCause::Violation(violation), _) => write!(f, "{violation}"),
            (SendCause::ForwardProxy(_, error), _) => write!(f, "{error}"),
            (SendCause::Limit(kind), _) => f.write_str(kind.info().code),
            (SendCause::Client(error), _) => write!(f, "{error}"),
            (SendCause::Stopping, _) => f.write_str("the process is stopping"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EarlyBytes => "it sent bytes before the request",
            Self::EarlyStatus(status) => {
                return write!(f, "it sent status {status} before it had the request");
            }
            Self::IdleTimeout => "it timed the idle connection out",
            Self::NoHttp1ForUpgrade => {
                "a WebSocket needs HTTP/1.1, which it refused in the TLS handshake (ALPN)"
            }
            Self::UnrequestedSwitch => "it switched to a protocol that was not requested",
            Self::EarlySwitch => "it switched protocols before it had the request",
            Self::NoCloseFrame => "the connection ended without a close frame",
        })
    }
}

impl StdError for SendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            SendCause::Io(error) | SendCause::Tls(error) => Some(&**error),
            SendCause::Http1(error) => Some(error),
            SendCause::Http2(error) => Some(&**error),
            SendCause::ForwardProxy(_, error) => Some(&**error),
            SendCause::Client(error) => Some(error),
            SendCause::NotHttp2(_) | SendCause::Violation(_) | SendCause::Limit(_) | SendCause::Stopping => {
                None
            }
        }
    }
}

impl From<io::Error> for SendCause {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<ProtocolError> for SendCause {
    fn from(error: ProtocolError) -> Self {
        Self::Http1(error)
    }
}

impl From<Http2Error> for SendCause {
    fn from(error: Http2Error) -> Self {
        Self::Http2(Arc::new(error))
    }
}

impl From<Ending> for SendCause {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Alert(alert) => {
                let error = rustls::Error::AlertReceived(alert);
                Self::Tls(Arc::new(io::Error::new(io::ErrorKind::InvalidData, error)))
            }
            ending => Self::NotHttp2(Arc::new(ending)),
        }
    }
}

impl From<Violation> for SendCause {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Kind> for SendCause {
    fn from(kind: Kind) -> Self {
        Self::Limit(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> io::Error {
        kind.into()
    }

    #[test]
    fn kind_and_reason_follow_phase() {
        let closed = || io(io::ErrorKind::UnexpectedEof);
        for (phase, kind, reason) in [
            (SendPhase::Connect, Kind::Unreachable, "connection closed"),
            (SendPhase::Unprocessed, Kind::Unreachable, "connection closed"),
            (SendPhase::Crossed, Kind::Unreachable, "connection closed"),
            (
                SendPhase::Request,
                Kind::Unanswered,
                "it closed the connection without a response (connection closed)",
            ),
            (SendPhase::Head, Kind::Unanswered, "its response's head broke off (connection closed)"),
            (SendPhase::Body, Kind::Truncated, "connection closed"),
        ] {
            let error = SendError::new(phase, closed());
            assert_eq!((error.kind(), error.to_string()), (kind, reason.to_owned()), "{phase:?}");
        }
    }

    #[test]
    fn malformed_body_is_protocol_error_and_short_one_truncated() {
        for (error, kind) in [
            (ProtocolError::ChunkSize, Kind::Protocol),
            (ProtocolError::ChunksCutShort, Kind::Truncated),
            (ProtocolError::BodyCutShort { missing: 1 }, Kind::Truncated),
        ] {
            assert_eq!(SendError::new(SendPhase::Body, error).kind(), kind);
        }
    }

    #[test]
    fn only_certificate_alerts_prove_that_request_was_not_read() {
        assert!(refuses_certificate(AlertDescription::CertificateRequired));
        assert!(refuses_certificate(AlertDescription::UnknownCA));
        assert!(!refuses_certificate(AlertDescription::InternalError));
        assert!(!refuses_certificate(AlertDescription::CloseNotify));
    }

    #[test]
    fn alert_is_found_by_type() {
        let received = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let error = SendError::tls(SendPhase::Request, io::Error::new(io::ErrorKind::InvalidData, received));
        assert_eq!(error.alert(), Some(AlertDescription::CertificateRequired));
        assert_eq!(error.kind(), Kind::Tls);
        let error = SendError::new(SendPhase::Request, io(io::ErrorKind::ConnectionReset));
        assert_eq!(error.alert(), None);
    }
}
