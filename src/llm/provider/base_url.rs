//! An upstream's URL: scheme, host, port, and the prefix of all paths.
//!
//! The form is the `https?://host[:port][/path]` subset of RFC 3986, or `unix:/socket[:/path]` for
//! plain HTTP over a Unix socket, whose host is `localhost`. User information, a query and
//! a fragment are refused, so that a key pasted into the URL is reported. Hosts are names of
//! letters, digits, `-` and `_`, or IP addresses; internationalised names are written in their
//! `xn--` form.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::path;

/// The longest host name (RFC 1035 section 2.3.4, as text without the last dot).
const MAX_HOST: usize = 253;
/// The longest label of a host name (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// The longest path of a Unix socket (unix(7)).
const MAX_SOCKET: usize = 107;

/// The scheme of a Unix socket.
const UNIX: &str = "unix:";

/// An upstream's address. Valid by construction: its path has no segment that could leave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    https: bool,
    /// The absolute path of a Unix socket, in place of a host and a port.
    socket: Option<String>,
    /// The host in lower case; an IPv6 address without its brackets.
    host: String,
    port: u16,
    /// The value of the `Host` header.
    authority: String,
    /// Empty, or begins with a slash and does not end with one.
    path: String,
}

impl BaseUrl {
    /// Reads a URL such as `https://api.openai.com/v1`.
    ///
    /// # Errors
    ///
    /// Returns a message for the author of the configuration. It does not repeat the URL, which may
    /// contain a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        if let Some(rest) = url.strip_prefix(UNIX) {
            return Self::parse_unix(rest);
        }
        let (scheme, rest) = url.split_once("://").ok_or("it does not begin with http:// or https://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("its scheme is neither http nor https".to_owned()),
        };
        if rest.contains('?') {
            return Err("it has a query, which belongs to requests".to_owned());
        }
        if rest.contains('#') {
            return Err("it has a fragment, which is never sent".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("it has user information; credentials go into api_key".to_owned());
        }
        let (host, port) = split_port(authority)?;
        let default_port = if https { 443 } else { 80 };
        let port = port.unwrap_or(default_port);

        let path = prefix(path)?;
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == default_port { bracketed } else { format!("{bracketed}:{port}") };
        Ok(Self { https, socket: None, host, port, authority, path: path.to_owned() })
    }

    /// Reads the part of `unix:/socket:/path` behind the scheme.
    fn parse_unix(rest: &str) -> Result<Self, String> {
        const FORM: &str = "write unix:/run/service.sock:/v1, with the absolute path of the socket";
        let (socket, path) = rest.split_once(':').unwrap_or((rest, ""));
        if !socket.starts_with('/') || socket.starts_with("//") {
            return Err(format!("its socket is not an absolute path: {FORM}"));
        }
        if socket.len() > MAX_SOCKET || socket.contains(char::is_control) {
            return Err(format!("its socket has more than {MAX_SOCKET} bytes, or control characters"));
        }
        if !path.is_empty() && !path.starts_with('/') {
            return Err(format!("its path does not begin with a slash: {FORM}"));
        }
        Ok(Self {
            https: false,
            socket: Some(socket.to_owned()),
            host: "localhost".to_owned(),
            port: 80,
            authority: "localhost".to_owned(),
            path: prefix(path)?.to_owned(),
        })
    }

    /// The Unix socket to connect to. `None`: the host and the port.
    pub fn socket(&self) -> Option<&str> {
        self.socket.as_deref()
    }

    /// The place in messages: a host and a port, or a socket.
    pub fn place(&self) -> String {
        match &self.socket {
            Some(socket) => format!("the socket {socket}"),
            None => format!("{} port {}", self.host, self.port),
        }
    }

    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host to connect to: a name in lower case, or an IP address (version 6 without brackets).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to, also if the URL omits it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host[:port]` for the `Host` header, without the scheme's default port. An IPv6 address has
    /// brackets.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The prefix of every path: empty, or `/...` without a slash at its end.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(socket) = &self.socket {
            let colon = if self.path.is_empty() { "" } else { ":" };
            return write!(f, "{UNIX}{socket}{colon}{}", self.path);
        }
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// Checks the prefix of all paths, and removes a slash at its end.
fn prefix(path: &str) -> Result<&str, String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    // Checked with the slash of every path, which also finds an encoded one at the end.
    if !path::is_safe(&format!("{path}/")) {
        return Err("its path has spaces, control characters, or `.`, `..` or empty segments".to_owned());
    }
    Ok(path)
}

/// Splits and checks a host, in lower case and without brackets, and an optional port. Also used
/// for forward proxies.
pub(crate) fn split_port(authority: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("its IPv6 address lacks the closing bracket")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "its host in brackets is not an IPv6 address")?;
        let port = match rest {
            "" => None,
            _ => Some(rest.strip_prefix(':').ok_or("something other than a port follows its host")?),
        };
        (address.to_string(), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        check_host(host)?;
        (host.to_ascii_lowercase(), port)
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => return Err("its port is not a number from 1 to 65535".to_owned()),
            Ok(port) => Some(port),
        },
        Some(_) => return Err("its port is not a number from 1 to 65535".to_owned()),
    };
    Ok((host, port))
}

/// A valid DNS name, or an IPv4 address. A final dot is allowed, which keeps resolvers from trying
/// suffixes.
fn check_host(host: &str) -> Result<(), String> {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() {
        return Err("it has no host".to_owned());
    }
    if !name.is_ascii() {
        return Err("its host is not ASCII; write its xn-- form".to_owned());
    }
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() > MAX_HOST || !name.split('.').all(is_label) {
        return Err("its host is not a valid name".to_owned());
    }
    // Resolvers read a name whose last label is a number as an address, so it must be a valid one.
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err("its host is not a valid IPv4 address".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> BaseUrl {
        BaseUrl::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"))
    }

    #[test]
    fn the_parts_are_found() {
        let url = url("https://LLM.internal:8443/api/v1/");
        assert!(url.is_https());
        assert_eq!((url.host(), url.port()), ("llm.internal", 8443));
        assert_eq!(url.authority(), "llm.internal:8443");
        assert_eq!(url.path(), "/api/v1");
        assert_eq!(url.to_string(), "https://llm.internal:8443/api/v1");
    }

    #[test]
    fn the_schemes_own_port_is_left_out_of_the_authority() {
        for (text, port, authority) in [
            ("http://a", 80, "a"),
            ("http://a:80/", 80, "a"),
            ("http://a:443", 443, "a:443"),
            ("https://a/", 443, "a"),
            ("HTTPS://a:443", 443, "a"),
            ("https://a:80", 80, "a:80"),
        ] {
            assert_eq!((url(text).port(), url(text).authority()), (port, authority), "{text}");
        }
    }

    #[test]
    fn unix_socket_has_a_path_of_its_own_and_one_of_requests() {
        for (text, socket, path) in [
            ("unix:/run/y.sock:/v1", "/run/y.sock", "/v1"),
            ("unix:/run/y.sock", "/run/y.sock", ""),
            ("unix:/run/y.sock:/v1/", "/run/y.sock", "/v1"),
        ] {
            let url = url(text);
            assert_eq!((url.socket(), url.path()), (Some(socket), path), "{text}");
            assert_eq!((url.authority(), url.is_https()), ("localhost", false));
            assert_eq!(BaseUrl::parse(&url.to_string()), Ok(url));
        }
        let long = format!("unix:/{}", "x".repeat(MAX_SOCKET));
        assert!(BaseUrl::parse(&long).unwrap_err().contains("107 bytes"));
    }

    #[test]
    fn an_ipv6_address_has_brackets_only_in_the_authority() {
        let url = url("http://[::1]:8000/v1");
        assert_eq!((url.host(), url.authority()), ("::1", "[::1]:8000"));
        assert_eq!(url.to_string(), "http://[::1]:8000/v1");
    }

    #[test]
    fn a_path_of_one_slash_is_none() {
        assert_eq!(url("http://a").path(), "");
        assert_eq!(url("http://a/").path(), "");
    }

    #[test]
    fn hosts_of_every_form_are_taken() {
        for host in
            ["localhost", "127.0.0.1", "my_service", "svc.cluster.local.", "xn--bcher-kva.example", "a-b.c1"]
        {
            assert_eq!(url(&format!("http://{host}")).host(), host);
        }
    }

    #[test]
    fn invalid_base_url_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "begin with"),
            ("api.openai.com/v1", "begin with"),
            ("ftp://a", "scheme"),
            ("unix:///run/x", "absolute path"),
            ("unix:run/x.sock", "absolute path"),
            ("unix:/run/x.sock:v1", "slash"),
            ("unix:/run/x.sock:/v1/../x", "path"),
            ("unix:/run/\n.sock", "control"),
            ("http://", "no host"),
            ("http:///v1", "no host"),
            ("http://.", "no host"),
            ("http://a/?x=y", "query"),
            ("http://a?x=y", "query"),
            ("http://a/#x", "fragment"),
            ("http://user:key@a/", "user information"),
            ("http://a:", "port"),
            ("http://a:0", "port"),
            ("http://a:65536", "port"),
            ("http://a:+80", "port"),
            ("http://a:80:80", "port"),
            ("http://::1/", "no host"),
            ("http://[::1", "bracket"),
            ("http://[::g]", "IPv6"),
            ("http://[fe80::1%25eth0]", "IPv6"),
            ("http://[::1]8000", "follows"),
            ("http://a..b", "valid name"),
            ("http://-a", "valid name"),
            ("http://a b", "valid name"),
            ("http://a\\b", "valid name"),
            ("http://a%2fb", "valid name"),
            ("http://b\u{fc}cher.example", "xn--"),
            ("http://1.2.3", "IPv4"),
            ("http://1.2.3.256", "IPv4"),
            ("http://a/v1/../x", "path"),
            ("http://a/v1//x", "path"),
            ("http://a//", "path"),
            ("http://a/x%2f", "path"),
            ("http://a/v1 ", "path"),
            ("http://a/%2e%2e", "path"),
        ] {
            let error = BaseUrl::parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_a_password() {
        assert!(!BaseUrl::parse("https://user:hunter2@a").unwrap_err().contains("hunter2"));
    }
}
