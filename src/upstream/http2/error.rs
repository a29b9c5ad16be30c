//! Errors of HTTP/2 streams and connections.

use std::fmt;

use h2::Reason;
use rustls::AlertDescription;

use crate::upstream::error::describe_error;

/// An error of a stream or of its connection.
#[derive(Debug)]
pub struct Http2Error {
    /// The error of h2.
    pub error: h2::Error,
    /// The alert with which the peer ended TLS, which h2 does not report.
    pub alert: Option<AlertDescription>,
}

/// The reason why a connection ended, or did not begin.
#[derive(Debug)]
pub enum Ending {
    /// The peer refused HTTP/2 by ALPN.
    Refused,
    /// The peer chose no protocol by ALPN, or HTTP/1.1.
    NotChosen,
    /// The connection failed.
    Error(Http2Error),
    /// The peer ended TLS with this alert.
    Alert(AlertDescription),
    /// Another reason.
    Closed(&'static str),
}

impl Http2Error {
    /// Returns true if the peer reported that it did not process the request (RFC 9113 section
    /// 8.7), so that it may be sent again.
    pub(super) fn is_unprocessed(&self) -> bool {
        let error = &self.error;
        // h2 reports a peer's GOAWAY only to streams above its last processed stream.
        error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
    }
}

impl From<h2::Error> for Http2Error {
    fn from(error: h2::Error) -> Self {
        Self { error, alert: None }
    }
}

impl fmt::Display for Http2Error {
    /// Names the frame that ended it and its reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = &self.error;
        if let Some(io) = error.get_io() {
            return f.write_str(&describe_error(io));
        }
        let by = if error.is_remote() { "it" } else { "this proxy" };
        match (error.reason(), error.is_reset(), error.is_go_away()) {
            (Some(reason), true, _) => write!(f, "{by} reset the stream with {reason:?}"),
            (Some(reason), _, true) => write!(f, "{by} gave the connection up with {reason:?}"),
            _ => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Http2Error {}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("it refused it in the TLS handshake (ALPN)"),
            Self::NotChosen => f.write_str("it chose no HTTP/2 in the TLS handshake (ALPN)"),
            Self::Error(error) => write!(f, "{error}"),
            Self::Alert(alert) => write!(f, "{}", rustls::Error::AlertReceived(*alert)),
            Self::Closed(reason) => f.write_str(reason),
        }
    }
}
