//! The host to which a response's `Location` leads its client (RFC 9110 section 10.2.2).

/// The host to which a reference leads, in lower case. `None` if it is the same host.
///
/// Clients differ in how they read invalid references (RFC 3986): browsers read `\` as `/`, drop
/// tabs, and find a host in `https:evil.test`; others do not. Therefore such references lead to the
/// empty host, which no list contains: invalid characters, user information, a host that is neither
/// a name nor an address, a port that is not a number, a scheme without `//`, and three slashes.
pub fn redirects_to(reference: &[u8]) -> Option<String> {
    let nowhere = Some(String::new());
    let Some(text) = str::from_utf8(reference).ok().filter(|text| text.bytes().all(is_of_references)) else {
        return nowhere;
    };
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (has_scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (true, rest),
        _ => (false, text),
    };
    let Some(rest) = rest.strip_prefix("//") else { return nowhere.filter(|_| has_scheme) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Some(host(authority).unwrap_or_default().to_ascii_lowercase())
}

/// The host to which a `Refresh` header leads (`5; url=https://a.test/`), which browsers follow
/// under any status.
pub fn refreshes_to(value: &[u8]) -> Option<String> {
    let rest = value.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let rest = rest[digits..].trim_ascii();
    let rest = rest.strip_prefix(b";").or_else(|| rest.strip_prefix(b",")).unwrap_or(rest).trim_ascii();
    if rest.is_empty() {
        return None;
    }
    let url = match rest.split_at_checked(3) {
        Some((name, rest)) if name.eq_ignore_ascii_case(b"url") => {
            rest.trim_ascii_start().strip_prefix(b"=").map_or(rest, <[u8]>::trim_ascii)
        }
        _ => rest,
    };
    let quoted = |quote: &[u8]| url.strip_prefix(quote)?.strip_suffix(quote);
    redirects_to(quoted(b"'").or_else(|| quoted(b"\"")).unwrap_or(url))
}

/// Returns true for RFC 3986's unreserved and reserved characters, and `%`.
fn is_of_references(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// The host of an authority without user information; an IPv6 address without its brackets.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_name =
        |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let is_port = |port: &str| {
        port.is_empty()
            || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    (is_port(port) && (is_name(host) || host.contains(':'))).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_host_is_empty_where_clients_disagree() {
        for (location, host) in [
            ("/v2/models", None),
            ("models?next=https://evil.test/", None),
            ("?a=b", None),
            ("", None),
            ("#x", None),
            ("https://Evil.test/v1", Some("evil.test")),
            ("HTTPS://evil.test:8443?x", Some("evil.test")),
            ("https://evil.test#x", Some("evil.test")),
            ("https://evil.test:/", Some("evil.test")),
            ("//evil.test/v1", Some("evil.test")),
            ("http://[::1]:80/", Some("::1")),
            ("https://a.test.", Some("a.test.")),
            ("http://127.0.0.1\\.evil", Some("")),
            ("http://127.0.0.1\\@evil", Some("")),
            ("/\\evil.test/v1", Some("")),
            ("\\\\evil.test", Some("")),
            ("http:\\\\evil.test", Some("")),
            ("https:////evil.test/", Some("")),
            ("///evil.test/", Some("")),
            (" https://evil.test", Some("")),
            ("ht\ttps://evil.test", Some("")),
            ("/\t/evil.test", Some("")),
            ("https://a.test@evil.test/", Some("")),
            ("https://a.test:80@evil.test/", Some("")),
            ("https://evil%2etest/", Some("")),
            ("https://[::1]evil.test/", Some("")),
            ("https://[::1", Some("")),
            ("https://evil.test:80:81/", Some("")),
            ("https://evil.test:x/", Some("")),
            ("https:evil.test", Some("")),
            ("https:/evil.test", Some("")),
            ("javascript:alert(1)", Some("")),
            ("https://ev\u{ed}l.test/", Some("")),
            ("https://", Some("")),
        ] {
            assert_eq!(redirects_to(location.as_bytes()).as_deref(), host, "{location:?}");
        }
        assert_eq!(redirects_to(b"https://\xff/").as_deref(), Some(""));
    }

    #[test]
    fn refresh_leads_to_its_url() {
        for (value, host) in [
            ("5", None),
            (" 0 ; ", None),
            ("0; url=/v1", None),
            ("0; URL = 'https://evil.test/'", Some("evil.test")),
            ("0;url=\"https://evil.test/\"", Some("evil.test")),
            ("0, https://evil.test/", Some("evil.test")),
            ("0.5 url=https://evil.test/", Some("evil.test")),
            ("0; url=https://evil.test\\", Some("")),
        ] {
            assert_eq!(refreshes_to(value.as_bytes()).as_deref(), host, "{value:?}");
        }
    }
}
