//! The address and protocol of a forward proxy.

use std::fmt;

use crate::llm::provider::split_port;
use crate::support::secret::Secret;

/// The protocol of a forward proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// CONNECT.
    Http,
    /// CONNECT, inside TLS with the proxy.
    Https,
    /// SOCKS5 (RFC 1928) with the target's address, resolved here.
    Socks5,
    /// SOCKS5 with the target's name, resolved by the proxy.
    Socks5h,
}

impl Scheme {
    const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Socks5, Self::Socks5h];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    /// Returns true for SOCKS5, which has no headers.
    pub fn is_socks(self) -> bool {
        matches!(self, Self::Socks5 | Self::Socks5h)
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 | Self::Socks5h => 1080,
        }
    }
}

/// The address of a forward proxy. `Display` is its URL, which has no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddress {
    pub scheme: Scheme,
    /// A name in lower case, or an address without brackets.
    pub host: String,
    /// The TCP port; the scheme's default if the URL has none.
    pub port: u16,
}

/// The credentials in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// Never empty.
    pub username: String,
    /// Empty if the URL has none.
    pub password: Secret,
}

impl ProxyAddress {
    /// Parses `scheme://[user[:password]@]host[:port][/]`. A text without a scheme is `http://`, as
    /// in curl. The default ports are 80, 443 and 1080. Credentials are percent-encoded (RFC 3986
    /// section 3.2.1).
    ///
    /// # Errors
    /// Fails with the mistake. The message does not repeat the text, which may contain a password.
    pub fn parse(text: &str) -> Result<(Self, Option<UserInfo>), String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let lower = scheme.to_ascii_lowercase();
        let scheme = Scheme::ALL
            .into_iter()
            .find(|known| known.as_str() == lower)
            .ok_or("its scheme is none of http, https, socks5 and socks5h")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // A password may have any character, so the last @ ends it.
        let (user, authority) =
            rest.rsplit_once('@').map_or((None, rest), |(user, authority)| (Some(user), authority));
        if authority.contains(['/', '?', '#']) {
            return Err("it has a path, a query or a fragment, which mean nothing for a proxy".to_owned());
        }
        let (host, port) = split_port(authority)?;
        let user = user.map(UserInfo::parse).transpose()?.flatten();
        Ok((Self { scheme, host, port: port.unwrap_or(scheme.port()) }, user))
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        let scheme = scheme.as_str();
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl UserInfo {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        let (username, password) = text.split_once(':').unwrap_or((text, ""));
        let username = decoded(username)?;
        if username.is_empty() {
            let empty = password.is_empty();
            return if empty { Ok(None) } else { Err("it has a password without a user name".to_owned()) };
        }
        Ok(Some(Self { username, password: Secret::new(decoded(password)?) }))
    }
}

/// Decodes percent-encoding, in which every `%` must begin a byte.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err("its user information has a % that two digits do not follow: write %25".to_owned());
        };
        bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "its user information is not UTF-8")?;
    if text.chars().any(char::is_control) {
        return Err("its user information has control characters".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_brings_its_port_and_a_host_may_do_without_one() {
        for (text, shown) in [
            ("proxy.corp", "http://proxy.corp:80"),
            ("Proxy.Corp:3128", "http://proxy.corp:3128"),
            ("HTTP://proxy/", "http://proxy:80"),
            ("https://proxy", "https://proxy:443"),
            ("socks5://127.0.0.1", "socks5://127.0.0.1:1080"),
            ("socks5h://[::1]:9", "socks5h://[::1]:9"),
        ] {
            let (address, user) =
                ProxyAddress::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
            assert_eq!((address.to_string().as_str(), user), (shown, None), "{text}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        for (text, username, password) in [
            ("http://me:p%40ss%3a@proxy", "me", "p@ss:"),
            ("me:p@ss:word@proxy:1", "me", "p@ss:word"),
            ("http://me@proxy", "me", ""),
        ] {
            let (address, user) = ProxyAddress::parse(text).unwrap();
            let user = user.unwrap();
            assert_eq!((user.username.as_str(), user.password.expose()), (username, password), "{text}");
            let shown = format!("{address} {address:?} {user:?}");
            assert!(!shown.contains("p@ss") && !shown.contains("p%40"), "{shown}");
        }
        assert_eq!(ProxyAddress::parse("http://:@proxy").unwrap().1, None);
    }

    #[test]
    fn invalid_proxy_is_refused_without_being_repeated() {
        for (text, reason) in [
            ("", "no host"),
            ("http://", "no host"),
            ("ftp://proxy", "scheme"),
            ("socks4://proxy", "scheme"),
            ("http://hunter2:x@proxy/path", "path"),
            ("http://proxy:0", "port"),
            ("http://me:hunter2%4@proxy", "two digits"),
            ("http://me:hunter2%ff@proxy", "UTF-8"),
            ("http://me:hunter2%0a@proxy", "control"),
            ("http://:hunter2@proxy", "without a user name"),
            ("http://a b", "valid name"),
        ] {
            let error = ProxyAddress::parse(text).expect_err(text);
            assert!(error.contains(reason) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
