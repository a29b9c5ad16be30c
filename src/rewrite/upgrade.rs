//! A client's wish to go on in another protocol on its connection (RFC 9110 section 7.8): WebSocket (RFC 6455), as a rule.

use http::header::{CONNECTION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Version};

/// In which a browser, whose WebSockets cannot have headers, tells its key: a subprotocol that begins so.
pub const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// The wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade(HeaderValue);

impl Upgrade {
    /// Reads it from a request's headers, and takes out of them what is not for an upstream: the client's key among the
    /// subprotocols, and the extensions of a WebSocket, since a compressed message could not be metered.
    ///
    /// HTTP/2 by this way (`h2c`) is not wished for: it is obsolete (RFC 9113 section 3.1), and its requests would pass by all
    /// that this proxy does to requests.
    pub fn take(version: Version, headers: &mut HeaderMap) -> Option<Self> {
        take_keys(headers);
        let mut named = headers.get_all(CONNECTION).into_iter().flat_map(members);
        let is_asked = version == Version::HTTP_11 && named.any(|name| is(name, "upgrade"));
        drop(named);
        let mut protocols = headers.get_all(UPGRADE).into_iter();
        let (protocol, None) = (protocols.next()?, protocols.next()) else { return None };
        if !is_asked || members(protocol).any(|name| is(name, "h2c")) {
            return None;
        }
        let upgrade = Self(protocol.clone());
        if upgrade.is_websocket() {
            headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        }
        Some(upgrade)
    }

    /// Of an answer with status 101.
    pub fn granted(headers: &HeaderMap) -> Option<Self> {
        headers.get(UPGRADE).cloned().map(Self)
    }

    /// Whether it is WebSocket that is wished for.
    pub fn is_websocket(&self) -> bool {
        is(self.0.as_bytes(), "websocket")
    }

    /// What says so in the next hop's head.
    pub fn fields(&self) -> [(&[u8], &[u8]); 2] {
        [(b"connection", b"Upgrade"), (b"upgrade", self.0.as_bytes())]
    }

    /// Says so in a head's headers.
    pub fn insert_into(self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, self.0);
    }
}

/// The keys that are among the subprotocols.
pub fn keys(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().flat_map(members).filter_map(key)
}

/// Takes the keys out of the subprotocols, and leaves all else as it is.
fn take_keys(headers: &mut HeaderMap) {
    if keys(headers).next().is_none() {
        return;
    }
    let mut kept = Vec::new();
    for name in headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().flat_map(members) {
        if key(name).is_none() {
            kept.push(name);
        }
    }
    let kept = HeaderValue::from_bytes(&kept.join(&b", "[..]));
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(kept) = kept
        && !kept.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

fn key(protocol: &[u8]) -> Option<&[u8]> {
    protocol.strip_prefix(KEY_PROTOCOL.as_bytes())
}

fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn is(name: &[u8], other: &str) -> bool {
    name.eq_ignore_ascii_case(other.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn take(lines: &[(&'static str, &'static str)]) -> (Option<Upgrade>, HeaderMap) {
        let mut headers = headers(lines);
        (Upgrade::take(Version::HTTP_11, &mut headers), headers)
    }

    #[test]
    fn a_websocket_is_wished_for_and_its_extensions_are_not() {
        let (upgrade, headers) = take(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "x"),
            ("sec-websocket-extensions", "permessage-deflate"),
        ]);
        let upgrade = upgrade.unwrap();
        assert!(upgrade.is_websocket());
        assert_eq!(upgrade.fields(), [(&b"connection"[..], &b"Upgrade"[..]), (b"upgrade", b"WebSocket")]);
        assert!(
            headers.contains_key("sec-websocket-key") && !headers.contains_key("sec-websocket-extensions")
        );
    }

    #[test]
    fn both_headers_are_needed_and_http_1_1_and_no_h2c() {
        let wish = [("connection", "upgrade"), ("upgrade", "other/1")];
        assert!(take(&wish).0.is_some_and(|upgrade| !upgrade.is_websocket()));
        assert_eq!(take(&wish[..1]).0, None);
        assert_eq!(take(&wish[1..]).0, None);
        assert_eq!(take(&[wish[0], ("upgrade", "h2c")]).0, None);
        assert_eq!(take(&[wish[0], ("upgrade", "websocket, H2C")]).0, None);
        assert_eq!(take(&[wish[0], wish[1], ("upgrade", "h2c")]).0, None);
        assert_eq!(Upgrade::take(Version::HTTP_2, &mut headers(&wish)), None);
        assert_eq!(Upgrade::take(Version::HTTP_10, &mut headers(&wish)), None);
    }

    #[test]
    fn a_key_among_the_subprotocols_is_found_and_does_not_go_on() {
        for (value, rest) in [
            (
                "realtime, openai-insecure-api-key.sk-client, openai-beta.realtime-v1",
                Some("realtime, openai-beta.realtime-v1"),
            ),
            ("openai-insecure-api-key.sk-client", None),
        ] {
            let lines = [("sec-websocket-protocol", value)];
            assert_eq!(keys(&headers(&lines)).collect::<Vec<_>>(), [b"sk-client"]);
            let (_, left) = take(&lines);
            assert_eq!(left.get("sec-websocket-protocol").map(|value| value.to_str().unwrap()), rest);
        }
        let untouched = [("sec-websocket-protocol", "realtime,b")];
        assert_eq!(take(&untouched).1["sec-websocket-protocol"], "realtime,b");
    }
}
