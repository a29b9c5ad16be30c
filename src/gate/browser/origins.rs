//! Origins of web pages (RFC 6454), and the list of those that may use the proxy.

use std::fmt;

/// An origin in a form for comparison: lower case, without its scheme's default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(Box<str>);

impl Origin {
    /// Parses an entry of `server.origins`: `https://app.example`, with any scheme.
    ///
    /// # Errors
    /// Fails with the mistake in the entry, and the right form.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "*" => {
                return Err(
                    "\"*\" would let every web page spend your keys: list the pages' origins".to_owned()
                );
            }
            "null" => {
                return Err(
                    "\"null\" is the origin of any sandboxed page and of files: serve the page from an \
                            address, and list that"
                        .to_owned(),
                );
            }
            _ => {}
        }
        let Some((_, rest)) = text.split_once("://") else {
            return Err(format!("{text:?} has no scheme: write an origin such as \"https://app.example\""));
        };
        if let Some(end) = rest.find(['/', '?', '#']) {
            let origin = &text[..text.len() - rest.len() + end];
            return Err(format!(
                "{text:?} is more than an origin: write {origin:?}, without what follows the host"
            ));
        }
        if rest.contains('*') {
            return Err(format!("{text:?} has a \"*\": origins are compared whole, so list each of them"));
        }
        Self::of(text.as_bytes()).ok_or_else(|| {
            format!("{text:?} is not an origin: write one such as \"https://app.example\" or \"http://localhost:3000\"")
        })
    }

    /// Parses the value of an `Origin` header. `None` for `null` and invalid values.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        let text = str::from_utf8(value).ok()?.to_ascii_lowercase();
        let (scheme, host) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let is_host = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte));
        if !is_scheme || !is_host {
            return None;
        }
        let own_port = match scheme {
            "http" | "ws" => ":80",
            "https" | "wss" => ":443",
            _ => "",
        };
        let host = host.strip_suffix(own_port).unwrap_or(host);
        Some(Self(format!("{scheme}://{host}").into()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A list of origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<Origin>);

impl Origins {
    pub fn new(origins: Vec<Origin>) -> Self {
        Self(origins)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&self, origin: &Origin) -> bool {
        self.0.contains(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_compare_lower_case_without_a_default_port() {
        for (text, normal) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("app://.", "app://."),
            ("vscode-webview://0a1b2c", "vscode-webview://0a1b2c"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().to_string(), normal);
        }
    }

    #[test]
    fn invalid_origin_names_the_valid_form() {
        for (text, says) in [
            ("*", "every web page"),
            ("null", "sandboxed"),
            ("app.example", "has no scheme"),
            ("localhost:3000", "has no scheme"),
            ("https://app.example/", "write \"https://app.example\""),
            ("https://app.example/chat", "write \"https://app.example\""),
            ("https://app.example?x", "write \"https://app.example\""),
            ("https://*.example", "list each"),
            ("https://", "is not an origin"),
            ("https://a b", "is not an origin"),
            ("https://u@a", "is not an origin"),
            ("1a://b", "is not an origin"),
            ("", "has no scheme"),
        ] {
            let reason = Origin::parse(text).unwrap_err();
            assert!(reason.contains(says), "{text}: {reason}");
        }
    }
}
