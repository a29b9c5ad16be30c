//! Requests for an upgrade to WebSocket (RFC 6455, RFC 9110 section 7.8).
//!
//! No other protocol is offered to an upstream, since its bytes would bypass the proxy. A request
//! for another protocol, or for several, is handled as if it had no `Upgrade`.

use http::{Method, Version};

use crate::codec::head::{Headers, KnownName};

/// The prefix of the subprotocol in which a browser sends its key, since its WebSockets cannot have
/// headers.
pub const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

const WEBSOCKET: &str = "websocket";

/// A request for a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketUpgrade(());

impl WebSocketUpgrade {
    /// Reads it from a request's headers. Removes the client's key from the subprotocols, and the
    /// WebSocket extensions, since compressed messages could not be metered.
    pub fn take(method: &Method, version: Version, headers: &mut Headers) -> Option<Self> {
        take_keys(headers);
        if version != Version::HTTP_11 || method != Method::GET || !names_websocket(headers) {
            return None;
        }
        headers.remove(KnownName::SecWebsocketExtensions);
        Some(Self(()))
    }

    /// Returns true if a response with status 101 grants a WebSocket (RFC 6455 section 4.1).
    pub fn is_granted(headers: &Headers) -> bool {
        names_websocket(headers)
    }

    /// The header lines for the next hop.
    pub fn lines(&self) -> &'static [u8] {
        b"connection: Upgrade\r\nupgrade: websocket\r\n"
    }

    /// Adds the headers to a response that grants the upgrade.
    pub fn grant(headers: &mut Headers) {
        headers.set(KnownName::Connection, b"Upgrade");
        headers.set(KnownName::Upgrade, WEBSOCKET.as_bytes());
    }
}

/// Returns true if `Upgrade` names WebSocket and nothing else, and `Connection` names `Upgrade`.
fn names_websocket(headers: &Headers) -> bool {
    let mut protocols = headers.values(KnownName::Upgrade);
    let (Some(protocol), None) = (protocols.next(), protocols.next()) else { return false };
    is(protocol, WEBSOCKET)
        && headers.values(KnownName::Connection).flat_map(members).any(|name| is(name, "upgrade"))
}

/// The keys among the subprotocols.
pub fn keys(headers: &Headers) -> impl Iterator<Item = &[u8]> {
    headers.values(KnownName::SecWebsocketProtocol).flat_map(members).filter_map(key)
}

/// Removes the keys from the subprotocols.
fn take_keys(headers: &mut Headers) {
    if !headers.has(KnownName::SecWebsocketProtocol) || keys(headers).next().is_none() {
        return;
    }
    let mut kept = Vec::new();
    for name in headers.values(KnownName::SecWebsocketProtocol).flat_map(members) {
        if key(name).is_none() {
            kept.push(name);
        }
    }
    let kept = kept.join(&b", "[..]);
    if kept.is_empty() {
        headers.remove(KnownName::SecWebsocketProtocol);
    } else {
        headers.set(KnownName::SecWebsocketProtocol, &kept);
    }
}

/// Compared without case: an upstream that does so must not get the key either.
fn key(protocol: &[u8]) -> Option<&[u8]> {
    let (prefix, key) = protocol.split_at_checked(KEY_PROTOCOL.len())?;
    prefix.eq_ignore_ascii_case(KEY_PROTOCOL.as_bytes()).then_some(key)
}

fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn is(name: &[u8], other: &str) -> bool {
    name.eq_ignore_ascii_case(other.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        lines.iter().for_each(|(name, value)| headers.append(name.as_bytes(), value.as_bytes()));
        headers
    }

    fn take(lines: &[(&str, &str)]) -> (Option<WebSocketUpgrade>, Headers) {
        let mut headers = headers(lines);
        (WebSocketUpgrade::take(&Method::GET, Version::HTTP_11, &mut headers), headers)
    }

    #[test]
    fn a_websocket_is_wished_for_and_its_extensions_are_not() {
        let (upgrade, headers) = take(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "x"),
            ("sec-websocket-extensions", "permessage-deflate"),
        ]);
        assert_eq!(upgrade.unwrap().lines(), b"connection: Upgrade\r\nupgrade: websocket\r\n");
        assert!(headers.has(KnownName::SecWebsocketKey) && !headers.has(KnownName::SecWebsocketExtensions));
    }

    #[test]
    fn only_one_websocket_over_http_1_1_by_get_is_a_wish() {
        let wish = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert!(take(&wish).0.is_some());
        assert_eq!(take(&wish[..1]).0, None);
        assert_eq!(take(&wish[1..]).0, None);
        for protocol in [
            "h2c",
            "other/1",
            "TLS/1.0",
            "websocket, h2c",
            "h2c, websocket",
            "websocket/13",
            "websockets",
            "",
        ] {
            assert_eq!(take(&[wish[0], ("upgrade", protocol)]).0, None, "{protocol}");
        }
        assert_eq!(take(&[wish[0], wish[1], ("upgrade", "h2c")]).0, None);
        for value in [&b"\xa0h2c"[..], b"\xa0websocket", b"websocket\xa0", b"websocket;h2c"] {
            let mut headers = headers(&wish[..1]);
            headers.append(b"upgrade", value);
            assert_eq!(
                WebSocketUpgrade::take(&Method::GET, Version::HTTP_11, &mut headers),
                None,
                "{value:?}"
            );
        }
        for (method, version) in [
            (Method::GET, Version::HTTP_2),
            (Method::GET, Version::HTTP_10),
            (Method::POST, Version::HTTP_11),
        ] {
            assert_eq!(
                WebSocketUpgrade::take(&method, version, &mut headers(&wish)),
                None,
                "{method} {version:?}"
            );
        }
    }

    #[test]
    fn a_key_among_the_subprotocols_is_found_and_does_not_go_on() {
        for (value, rest) in [
            (
                "realtime, openai-insecure-api-key.sk-client, openai-beta.realtime-v1",
                Some("realtime, openai-beta.realtime-v1"),
            ),
            ("openai-insecure-api-key.sk-client", None),
            ("OpenAI-Insecure-API-Key.sk-client,realtime", Some("realtime")),
        ] {
            let lines = [("sec-websocket-protocol", value)];
            assert_eq!(keys(&headers(&lines)).collect::<Vec<_>>(), [b"sk-client"]);
            let (_, left) = take(&lines);
            assert_eq!(left.get(KnownName::SecWebsocketProtocol), rest.map(str::as_bytes));
        }
        let untouched = [("sec-websocket-protocol", "realtime,b")];
        assert_eq!(take(&untouched).1, headers(&untouched));
    }
}
