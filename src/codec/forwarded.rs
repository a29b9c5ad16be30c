//! The addresses in `Forwarded` (RFC 7239) and `X-Forwarded-For`, which proxies add one behind the
//! other: the rightmost is that of the client of the proxy nearest to the server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The client of one proxy, as that proxy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// In canonical form: an IPv4-mapped address is one of IPv4.
    Address(IpAddr),
    /// `unknown`, an obfuscated identifier, or a text that is neither.
    Unknown,
}

/// Calls `each` with the hops of one line of `X-Forwarded-For`, from left to right. Empty elements
/// are no hops (RFC 9110 section 5.6.1).
pub fn x_forwarded_for(line: &[u8], mut each: impl FnMut(Hop)) {
    let elements = line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty()).for_each(|element| each(hop(element)));
}

/// Calls `each` with the hops of one line of `Forwarded`, from left to right. From the first
/// malformed byte on, the line is one unknown hop: a quote that a client has left open must not hide
/// what a proxy has added behind it.
pub fn forwarded(line: &[u8], mut each: impl FnMut(Hop)) {
    let mut rest = line;
    while let Some((element, behind)) = element(rest) {
        element.into_iter().for_each(&mut each);
        match behind {
            [b',', behind @ ..] => rest = behind,
            _ => return,
        }
    }
    each(Hop::Unknown);
}

/// Reads one element, and returns its hop with the bytes behind it: none, or a comma with the next
/// element. The hop is `None` if the element is empty. `None`: it is malformed.
fn element(bytes: &[u8]) -> Option<(Option<Hop>, &[u8])> {
    let (mut hop, mut rest) = (None, bytes.trim_ascii_start());
    let mut is_empty = true;
    loop {
        match rest {
            [] | [b',', ..] if is_empty => return Some((None, rest)),
            [] | [b',', ..] => return Some((Some(hop.unwrap_or(Hop::Unknown)), rest)),
            [b';', behind @ ..] => rest = behind.trim_ascii_start(),
            _ => {
                let (name, value, behind) = pair(rest)?;
                if name.eq_ignore_ascii_case(b"for") && hop.replace(self::hop(&value)).is_some() {
                    return None;
                }
                is_empty = false;
                rest = behind.trim_ascii_start();
                if !matches!(rest, [] | [b',' | b';', ..]) {
                    return None;
                }
            }
        }
    }
}

/// Reads `name=value`, whose value is a token or in quotes.
fn pair(bytes: &[u8]) -> Option<(&[u8], Vec<u8>, &[u8])> {
    let (name, rest) = token(bytes)?;
    match rest {
        [b'=', b'"', rest @ ..] => {
            let (value, rest) = quoted(rest)?;
            Some((name, value, rest))
        }
        [b'=', rest @ ..] => {
            let (value, rest) = token(rest)?;
            Some((name, value.to_vec(), rest))
        }
        _ => None,
    }
}

/// A token. As in widespread senders, one may have the colon and brackets of an address.
fn token(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(byte);
    let length = bytes.iter().position(|byte| !is_part(byte)).unwrap_or(bytes.len());
    (length > 0).then(|| bytes.split_at(length))
}

/// The rest of a text in quotes (RFC 9110 section 5.6.4).
fn quoted(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some((text, rest)),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                text.push(*byte);
                rest
            }
            [] => return None,
        };
    }
}

/// An address, with or without a port. One of IPv6 without a port may have no brackets.
fn hop(text: &[u8]) -> Hop {
    let address = str::from_utf8(text).ok().and_then(|text| {
        if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']')?;
            let is_end = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
            return address.parse::<Ipv6Addr>().ok().filter(|_| is_end).map(IpAddr::from);
        }
        text.parse().ok().or_else(|| {
            let (address, port) = text.rsplit_once(':')?;
            address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port)).map(IpAddr::from)
        })
    });
    address.map_or(Hop::Unknown, |address| Hop::Address(address.to_canonical()))
}

/// Returns true for a number, or an obfuscated port (RFC 7239 section 6.3).
fn is_port(text: &str) -> bool {
    let is_number = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number || text.len() > 1 && text.starts_with('_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(parse: fn(&[u8], &mut dyn FnMut(Hop)), line: &str) -> Vec<String> {
        let mut hops = Vec::new();
        parse(line.as_bytes(), &mut |hop| {
            hops.push(match hop {
                Hop::Address(address) => address.to_string(),
                Hop::Unknown => "?".to_owned(),
            });
        });
        hops
    }

    #[test]
    fn x_forwarded_for_has_addresses_with_and_without_ports() {
        for (line, expected) in [
            ("192.0.2.1", &["192.0.2.1"][..]),
            ("192.0.2.1, 10.0.0.1", &["192.0.2.1", "10.0.0.1"]),
            ("192.0.2.1:4711,10.0.0.1", &["192.0.2.1", "10.0.0.1"]),
            ("2001:db8::1", &["2001:db8::1"]),
            ("[2001:db8::1], [2001:db8::2]:443", &["2001:db8::1", "2001:db8::2"]),
            ("::ffff:192.0.2.1", &["192.0.2.1"]),
            ("unknown, 192.0.2.1", &["?", "192.0.2.1"]),
            ("_hidden,192.0.2.1:_port", &["?", "192.0.2.1"]),
            ("host.example, 192.0.2.1:65536x, 192.0.2.01, 1", &["?", "?", "?", "?"]),
            ("[192.0.2.1], [::1, ::1], [::1]x, [::1]:, 192.0.2.1:", &["?"; 6][..]),
            ("fe80::1%eth0", &["?"]),
            ("\"192.0.2.1\"", &["?"]),
            (" ,, 192.0.2.1\t, ", &["192.0.2.1"]),
            ("", &[]),
        ] {
            assert_eq!(hops(|line, each| x_forwarded_for(line, each), line), expected, "{line:?}");
        }
    }

    #[test]
    fn forwarded_has_elements_of_pairs() {
        for (line, expected) in [
            ("for=192.0.2.43", &["192.0.2.43"][..]),
            ("For=\"[2001:db8:cafe::17]:4711\"", &["2001:db8:cafe::17"]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", &["192.0.2.60"]),
            ("proto=http; FOR=192.0.2.60 ;by=_x", &["192.0.2.60"]),
            ("for=192.0.2.43, for=198.51.100.17", &["192.0.2.43", "198.51.100.17"]),
            ("for=\"192.0.2.43:47011\",for=192.0.2.44:1", &["192.0.2.43", "192.0.2.44"]),
            ("for=[2001:db8::1]", &["2001:db8::1"]),
            ("for=unknown, for=_gazonk, for=\"_x:80\"", &["?", "?", "?"]),
            ("proto=https", &["?"]),
            ("for=\"192.0.2\\.43\"", &["192.0.2.43"]),
            ("for=192.0.2.1;host=\"a, for=192.0.2.2\"", &["192.0.2.1"]),
            (" , ,for=192.0.2.1,", &["192.0.2.1"]),
            ("", &[]),
            (";", &[]),
        ] {
            assert_eq!(hops(|line, each| forwarded(line, each), line), expected, "{line:?}");
        }
    }

    #[test]
    fn malformed_rest_of_forwarded_is_one_unknown_hop() {
        for line in [
            "for=\"192.0.2.9, for=192.0.2.1",
            "for=192.0.2.9;x=\", for=\"[2001:db8::1]\"",
            "for=192.0.2.9 for=192.0.2.1",
            "for = 192.0.2.1",
            "for=192.0.2.1;for=192.0.2.2",
            "for=",
            "for",
            "192.0.2.1",
            "for=192.0.2.1;host=a/b, for=192.0.2.2",
            "for=192.0.2.1\\",
        ] {
            assert_eq!(hops(|line, each| forwarded(line, each), line).last().unwrap(), "?", "{line:?}");
        }
    }
}
