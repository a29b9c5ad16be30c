//! Classifies and describes h2's errors.

use h2::{Error as H2Error, Reason};

use super::connection::Ending;
use crate::error::Error;
use crate::upstream::origin::{Origin, describe_error};

/// Whether the peer reported that it did not process the request (RFC 9113 section 8.7), so that it
/// may be sent again.
pub(super) fn is_unprocessed(error: &H2Error) -> bool {
    // h2 reports a peer's GOAWAY only to streams above its last processed stream.
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

/// A new connection ended before HTTP/2 had begun on it.
pub(super) fn unopened(origin: &Origin, ending: &Ending) -> Error {
    match ending {
        Ending::Alert(error) => origin.tls(error),
        _ => origin.not_http2(ending),
    }
}

/// There is no answer.
pub(super) fn before_answer(origin: &Origin, error: &H2Error) -> Error {
    origin.unanswered(format!("it gave no answer over HTTP/2: {}", words(error)))
}

/// The answer broke off.
pub(super) fn inside_answer(origin: &Origin, error: &H2Error) -> Error {
    if error.is_library() { origin.protocol(words(error)) } else { origin.truncated(words(error)) }
}

/// Names the frame that ended it and its reason.
pub(super) fn words(error: &H2Error) -> String {
    if let Some(io) = error.get_io() {
        return describe_error(io);
    }
    let by = if error.is_remote() { "it" } else { "this proxy" };
    match (error.reason(), error.is_reset(), error.is_go_away()) {
        (Some(reason), true, _) => format!("{by} reset the stream with {reason:?}"),
        (Some(reason), _, true) => format!("{by} gave the connection up with {reason:?}"),
        _ => error.to_string(),
    }
}
