//! The fields of an access log line that are not in the usage record.

use std::net::{IpAddr, SocketAddr};

use super::row::MAX_TEXT;
use crate::codec::head::{KnownName, RequestHead, visible};
use crate::support::ShortText;

/// Fields for the access log, empty unless one is configured.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The client's address, as trusted proxies say; else that of its connection.
    pub address: Option<IpAddr>,
    /// The path as the client wrote it, without the query, which may contain keys.
    pub path: Option<ShortText<22>>,
    /// The client's own id of the request.
    pub request_id: Option<Box<str>>,
}

impl Seen {
    /// The fields of a request head. Texts are cut at [`MAX_TEXT`] bytes.
    pub fn of(head: &RequestHead, from: Option<SocketAddr>) -> Self {
        let id = head.headers.get(KnownName::XRequestId).and_then(visible);
        Self {
            path: Some(cut(head.path()).into()),
            request_id: id.map(|id| cut(id).into()),
            ..Self::at(from)
        }
    }

    /// The fields of a head that could not be read.
    pub fn at(from: Option<SocketAddr>) -> Self {
        Self { address: from.map(|from| from.ip().to_canonical()), ..Self::default() }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
