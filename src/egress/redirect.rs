//! Where a redirect leads.

/// The host that a `Location` (RFC 9110 section 10.2.2) leads to, without brackets; `None` where it stays on the host that
/// said it. What cannot be read leads to `""`, which is no host.
///
/// It reads as browsers do (WHATWG URL section 4.4), which take more for a host than RFC 3986 does: a backslash for a slash, and
/// tabs for nothing.
pub fn redirects_to(location: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(location) else { return Some(String::new()) };
    let text: String = text
        .chars()
        .filter(|c| !matches!(c, '\t' | '\r' | '\n'))
        .map(|c| if c == '\\' { '/' } else { c })
        .collect();
    let text = text.trim_matches(|c: char| c <= ' ');
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (has_scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (true, rest),
        _ => (false, text),
    };
    let Some(rest) = rest.strip_prefix("//") else { return has_scheme.then(String::new) };
    let authority = rest.trim_start_matches('/').split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    let host = match host_and_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host_and_port.split(':').next().unwrap_or_default(),
    };
    Some(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_leads_where_a_browser_goes() {
        for (location, host) in [
            ("/v2/models", None),
            ("models?next=https://evil.test/", None),
            ("?a=b", None),
            ("", None),
            ("https://Evil.test/v1", Some("evil.test")),
            ("HTTPS://evil.test:8443?x", Some("evil.test")),
            ("//evil.test/v1", Some("evil.test")),
            ("/\\evil.test/v1", Some("evil.test")),
            ("\\\\evil.test", Some("evil.test")),
            ("http:\\\\evil.test", Some("evil.test")),
            ("https:////evil.test/", Some("evil.test")),
            (" https://evil.test#x", Some("evil.test")),
            ("ht\ttps://evil.test", Some("evil.test")),
            ("https://good.test@evil.test/", Some("evil.test")),
            ("https://good.test:x@evil.test:1/", Some("evil.test")),
            ("https://[::1]:8443/v1", Some("::1")),
            ("https:evil.test", Some("")),
            ("data:text/plain,x", Some("")),
            ("//", Some("")),
        ] {
            assert_eq!(redirects_to(location.as_bytes()).as_deref(), host, "{location:?}");
        }
        assert_eq!(redirects_to(b"https://\xff/").as_deref(), Some(""));
    }
}
