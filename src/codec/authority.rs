//! The host of a request (RFC 9112 section 3.2, RFC 9113 section 8.3.1).

use std::net::{IpAddr, Ipv6Addr};

use http::header::HOST;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Uri, Version};

use super::head::{KnownName, RequestHead};

/// The longest host in bytes: a DNS name with its final dot, and room for any address.
const MAX_HOST: usize = 254;

/// A host and a port in the form of a `Host` header, valid by RFC 3986 section 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    text: &'a str,
    /// The host without brackets and without the final dot of a name.
    host: &'a str,
    port: Option<u16>,
}

/// The reason for which a request's host cannot be determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// HTTP/1.1 without `Host`, or HTTP/2 with neither `:authority` nor `Host`.
    Missing,
    /// The head has more than one `Host`.
    Several,
    /// Not a host or a port, or user information.
    Invalid,
    /// The request's target and its `Host` name different hosts.
    Differing,
}

impl<'a> Authority<'a> {
    /// The host in a request. `None` for HTTP/1.0 without one.
    ///
    /// # Errors
    /// Fails if the request names no host, several, or an invalid one. It gets 400.
    pub fn of(head: &'a RequestHead) -> Result<Option<Self>, HostFault> {
        let target = head.authority().map(|authority| (authority, head.is_https()));
        Self::read(head.version, target, head.headers.values(KnownName::Host))
    }

    /// The authority of a request of the admin server.
    ///
    /// # Errors
    /// As [`Authority::of`].
    pub fn of_parts(
        version: Version,
        uri: &'a Uri,
        headers: &'a HeaderMap,
    ) -> Result<Option<Self>, HostFault> {
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let target = uri.authority().map(|authority| (authority.as_str(), is_https));
        Self::read(version, target, headers.get_all(HOST).iter().map(HeaderValue::as_bytes))
    }

    /// `target`: the authority of the request's target, and whether its scheme is `https`.
    fn read(
        version: Version,
        target: Option<(&'a str, bool)>,
        mut hosts: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<Self>, HostFault> {
        let header = hosts.next();
        if hosts.next().is_some() {
            return Err(HostFault::Several);
        }
        let header = header.map(Self::parse).transpose()?;
        let Some((target, is_https)) = target else {
            return match header {
                None if version != Version::HTTP_10 => Err(HostFault::Missing),
                header => Ok(header),
            };
        };
        let target = Self::parse(target.as_bytes())?;
        match header {
            None if version == Version::HTTP_11 => Err(HostFault::Missing),
            Some(header) if !target.is_same(&header, is_https) => Err(HostFault::Differing),
            _ => Ok(Some(target)),
        }
    }

    /// Parses `host[:port]`.
    ///
    /// # Errors
    /// Fails if the text has another form.
    pub fn parse(text: &'a [u8]) -> Result<Self, HostFault> {
        Self::split(text).ok_or(HostFault::Invalid)
    }

    fn split(text: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                address.parse::<Ipv6Addr>().ok()?;
                (address, port)
            }
            None => {
                let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                if name.is_empty() || name.len() > MAX_HOST || !name.bytes().all(is_name_byte) {
                    return None;
                }
                (name.strip_suffix('.').unwrap_or(name), port)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            // RFC 3986 section 3.2.3: the digits may be omitted.
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        Some(Self { text, host, port })
    }

    /// The text as written.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The host as written, without brackets and without a final dot.
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The host as an address, in the notation of browsers: four decimal numbers, or IPv6.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    fn is_same(&self, other: &Self, is_https: bool) -> bool {
        let default = if is_https { 443 } else { 80 };
        let is_same_host = self.host.eq_ignore_ascii_case(other.host)
            || self.address().is_some_and(|address| other.address() == Some(address));
        is_same_host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

/// Returns true for RFC 3986's `reg-name`: unreserved characters, sub-delimiters, and the `%` of an
/// escape.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: Version, uri: &'static str, hosts: &[&'static str]) -> Result<Option<String>, HostFault> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        let uri = Uri::from_static(uri);
        let host = |found: Result<Option<Authority<'_>>, HostFault>| {
            found.map(|found| found.map(|found| found.host().to_owned()))
        };
        let of_parts = host(Authority::of_parts(version, &uri, &headers));
        let (mut parts, ()) = http::Request::new(()).into_parts();
        (parts.version, parts.uri, parts.headers) = (version, uri, headers);
        assert_eq!(host(Authority::of(&RequestHead::from(parts))), of_parts);
        of_parts
    }

    #[test]
    fn host_and_port_are_read_as_rfc_3986_has_them() {
        for (text, host, port) in [
            ("localhost", "localhost", None),
            ("localhost:", "localhost", None),
            ("A.Example.:8080", "A.Example", Some(8080)),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]", "::1", None),
            ("[2001:DB8::1]:443", "2001:DB8::1", Some(443)),
            ("my_host", "my_host", None),
        ] {
            let found = Authority::parse(text.as_bytes()).unwrap();
            assert_eq!((found.host(), found.port, found.text()), (host, port, text));
        }
        for text in [
            "",
            ":80",
            "a b",
            "a\tb",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "user@a",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+80",
            "a:65536",
            "::1",
            "[::1",
            "::1]",
            "[::1]a",
            "[127.0.0.1]",
            "[]",
            "[fe80::1%25eth0]",
            "a\u{e9}",
            "\"a\"",
            "<a>",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), Err(HostFault::Invalid), "{text:?}");
        }
        assert_eq!(Authority::parse("a".repeat(255).as_bytes()), Err(HostFault::Invalid));
    }

    #[test]
    fn request_names_exactly_one_host() {
        use HostFault::{Differing, Invalid, Missing, Several};
        let found = |host: &str| Ok(Some(host.to_owned()));
        let (old, http1, http2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        for (version, uri, hosts, expected) in [
            (http1, "/", &["a"][..], found("a")),
            (http1, "/", &[], Err(Missing)),
            (http1, "/", &["a", "a"], Err(Several)),
            (http1, "/", &[""], Err(Invalid)),
            (http1, "/", &["a, b"], Err(Invalid)),
            (old, "/", &[], Ok(None)),
            (old, "/", &["a"], found("a")),
            (old, "/", &["a", "b"], Err(Several)),
            (old, "/", &[""], Err(Invalid)),
            (http1, "http://a/v1", &["a"], found("a")),
            (http1, "http://a/v1", &["A:80"], found("a")),
            (http1, "https://a/v1", &["a:443"], found("a")),
            (http1, "http://[::1]/v1", &["[0:0::1]:80"], found("::1")),
            (http1, "http://a/v1", &["a:443"], Err(Differing)),
            (http1, "http://a/v1", &["b"], Err(Differing)),
            (http1, "http://a/v1", &[], Err(Missing)),
            (http1, "http://u@a/v1", &["a"], Err(Invalid)),
            (http2, "https://a/v1", &[], found("a")),
            (http2, "https://a/v1", &["a"], found("a")),
            (http2, "https://a/v1", &["b"], Err(Differing)),
            (http2, "https://a/v1", &["a", "a"], Err(Several)),
            (http2, "https://u@a/v1", &[], Err(Invalid)),
            (http2, "/v1", &["a"], found("a")),
            (http2, "/v1", &[], Err(Missing)),
        ] {
            assert_eq!(of(version, uri, hosts), expected, "{version:?} {uri} {hosts:?}");
        }
    }
}
