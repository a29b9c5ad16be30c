//! An address to listen on.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::is_loopback;

/// The scheme of a Unix socket.
pub const UNIX: &str = "unix:";

/// The longest path of a Unix socket in bytes (unix(7)).
const MAX_SOCKET: usize = 107;

/// An IP address and a port, or the absolute path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Inet(SocketAddr),
    Unix(PathBuf),
}

impl ListenAddress {
    /// Reads `unix:/path`, without the scheme.
    ///
    /// # Errors
    /// Fails with a message for the author of the configuration.
    pub fn parse_unix(path: &str) -> Result<Self, String> {
        if !path.starts_with('/') {
            return Err(format!(
                "{path:?} is not an absolute path: write for example \"unix:/run/streamgauge.sock\""
            ));
        }
        if path.len() > MAX_SOCKET || path.contains(char::is_control) {
            return Err(format!("{path:?} is not a socket's path: it has at most {MAX_SOCKET} bytes"));
        }
        Ok(Self::Unix(path.into()))
    }

    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    pub fn unix(&self) -> Option<&Path> {
        match self {
            Self::Inet(_) => None,
            Self::Unix(path) => Some(path),
        }
    }

    /// Returns true if only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.inet().is_none_or(|address| is_loopback(address.ip()))
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

/// Reads an address as it is shown. The error is for the author of a command.
impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix(UNIX) {
            Some(path) => Self::parse_unix(path),
            None => text.parse().map(Self::Inet).map_err(|_| {
                format!(
                    "{text:?} is neither an address and a port, such as \"127.0.0.1:9090\", nor a Unix socket, such as \
                     \"unix:/run/streamgauge.sock\""
                )
            }),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_as_it_is_shown() {
        for text in ["127.0.0.1:0", "[::1]:80", "unix:/run/x y.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in ["9090", "localhost:1", "unix:x"] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.contains("unix:/run/streamgauge.sock"), "{error}");
        }
    }

    #[test]
    fn path_of_a_socket_is_absolute_and_short() {
        let parsed = ListenAddress::parse_unix("/run/x.sock").unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.is_local()), ("unix:/run/x.sock", true));
        let open = ListenAddress::Inet("0.0.0.0:1".parse().unwrap());
        assert!(!open.is_local() && open.unix().is_none());
        assert!(ListenAddress::parse_unix("x.sock").unwrap_err().contains("absolute"));
        assert!(ListenAddress::parse_unix(&format!("/{}", "x".repeat(107))).unwrap_err().contains("107"));
    }
}
