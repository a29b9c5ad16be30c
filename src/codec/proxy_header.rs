//! The header of the PROXY protocol, versions 1 and 2, with which a load balancer begins a
//! connection to say for which client it was made.
//!
//! The specification is HAProxy's `doc/proxy-protocol.txt`, sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is accepted, in bytes. The addresses need 52, the rest are TLVs, which
/// are skipped.
pub const MAX_PROXY_HEADER: usize = 4096;

/// The longest header of version 1, in bytes, with its line end (section 2.1).
const MAX_LINE: usize = 107;

const LINE_START: &[u8] = b"PROXY ";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The length of version 2's fixed part, in bytes.
const FIXED: usize = 16;

/// The client of a connection, as its proxy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// The proxy itself, for a check of its own.
    Itself,
    Client(SocketAddr),
    /// A client without an address of IP.
    Unknown,
}

/// Bytes that no header begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedHeader;

/// Parses the header at the start of a connection. Returns the client and the length of the header;
/// `None` if more bytes are needed.
///
/// # Errors
/// Fails if no further bytes can make it a header, or one of at most [`MAX_PROXY_HEADER`] bytes.
pub fn parse(bytes: &[u8]) -> Result<Option<(Proxied, usize)>, MalformedHeader> {
    let begins_with = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins_with(SIGNATURE) {
        parse_binary(bytes)
    } else if begins_with(LINE_START) {
        parse_line(bytes)
    } else {
        Err(MalformedHeader)
    }
}

fn parse_line(bytes: &[u8]) -> Result<Option<(Proxied, usize)>, MalformedHeader> {
    let line = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = memchr::memchr(b'\n', line) else {
        return if line.len() < MAX_LINE { Ok(None) } else { Err(MalformedHeader) };
    };
    let text = line[..end].strip_suffix(b"\r").and_then(|text| text.strip_prefix(LINE_START));
    let text = text.and_then(|text| str::from_utf8(text).ok()).ok_or(MalformedHeader)?;
    let mut words = text.split(' ');
    let client = match words.next() {
        // The rest of the line has no meaning.
        Some("UNKNOWN") => Proxied::Unknown,
        Some("TCP4") => addresses::<Ipv4Addr>(words)?,
        Some("TCP6") => addresses::<Ipv6Addr>(words)?,
        _ => return Err(MalformedHeader),
    };
    Ok(Some((client, end + 1)))
}

/// The four words behind the protocol.
fn addresses<'a, A: std::str::FromStr + Into<IpAddr>>(
    words: impl Iterator<Item = &'a str>,
) -> Result<Proxied, MalformedHeader> {
    let words: Vec<_> = words.take(5).collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(MalformedHeader);
    };
    let address = |text: &str| text.parse::<A>().map_err(|_| MalformedHeader);
    let (source, _) = (address(source)?, address(destination)?);
    let (port, _) = (port(source_port)?, port(destination_port)?);
    Ok(Proxied::Client(SocketAddr::new(source.into(), port)))
}

/// A port in decimal digits without a sign and without leading zeros.
fn port(text: &str) -> Result<u16, MalformedHeader> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(MalformedHeader)
}

fn parse_binary(bytes: &[u8]) -> Result<Option<(Proxied, usize)>, MalformedHeader> {
    const VERSION: usize = SIGNATURE.len();
    let is_local = match bytes.get(VERSION) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(MalformedHeader),
    };
    let Some(&[_, family, high, low]) = bytes.get(VERSION..FIXED) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let end = FIXED + length;
    // Streams and datagrams are the same here.
    let addresses = match family {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        // A receiver ignores the family of a check, whichever it is.
        _ if is_local => 0,
        _ => return Err(MalformedHeader),
    };
    if end > MAX_PROXY_HEADER || (!is_local && length < addresses) {
        return Err(MalformedHeader);
    }
    let Some(block) = bytes.get(FIXED..end) else { return Ok(None) };
    let client = match (is_local, family >> 4) {
        (true, _) => Proxied::Itself,
        (false, 1) => client::<4>(block)?,
        (false, 2) => client::<16>(block)?,
        (false, _) => Proxied::Unknown,
    };
    Ok(Some((client, end)))
}

/// The source of a block of two addresses of `N` bytes, followed by two ports.
fn client<const N: usize>(block: &[u8]) -> Result<Proxied, MalformedHeader>
where
    IpAddr: From<[u8; N]>,
{
    let address = block.first_chunk::<N>().ok_or(MalformedHeader)?;
    let port = block.get(2 * N..).and_then(|ports| ports.first_chunk::<2>()).ok_or(MalformedHeader)?;
    Ok(Proxied::Client(SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes(*port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "192.0.2.7:51000";

    /// A header of version 2.
    fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = (block.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family], &length, block].concat()
    }

    fn ipv4_block() -> Vec<u8> {
        [&[192, 0, 2, 7][..], &[10, 0, 0, 1], &51000_u16.to_be_bytes(), &443_u16.to_be_bytes()].concat()
    }

    fn client(address: &str) -> Proxied {
        Proxied::Client(address.parse().unwrap())
    }

    /// The valid headers, each with its client.
    fn headers() -> Vec<(Vec<u8>, Proxied)> {
        let v6 = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        let ipv6_block = [&v6[..], &[0; 16], &51000_u16.to_be_bytes(), &[1, 187]].concat();
        let tlvs = [&ipv4_block()[..], &[0x02, 0, 4], b"host", &[0x04, 0, 2, 0, 0]].concat();
        let longest = [&ipv4_block()[..], &vec![0; MAX_PROXY_HEADER - FIXED - 12]].concat();
        vec![
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 443\r\n".to_vec(), client(CLIENT)),
            (b"PROXY TCP6 2001:db8::7 ::1 51000 443\r\n".to_vec(), client("[2001:db8::7]:51000")),
            (b"PROXY TCP4 255.255.255.255 255.255.255.255 0 65535\r\n".to_vec(), client("255.255.255.255:0")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Proxied::Unknown),
            (b"PROXY UNKNOWN ff:: ff:: 1 2 and more\r\n".to_vec(), Proxied::Unknown),
            (binary(0x21, 0x11, &ipv4_block()), client(CLIENT)),
            (binary(0x21, 0x12, &ipv4_block()), client(CLIENT)),
            (binary(0x21, 0x21, &ipv6_block), client("[2001:db8::7]:51000")),
            (binary(0x21, 0x11, &tlvs), client(CLIENT)),
            (binary(0x21, 0x11, &longest), client(CLIENT)),
            (binary(0x21, 0x31, &[b'/'; 216]), Proxied::Unknown),
            (binary(0x21, 0x00, b""), Proxied::Unknown),
            (binary(0x20, 0x00, b""), Proxied::Itself),
            (binary(0x20, 0x11, &ipv4_block()), Proxied::Itself),
            (binary(0x20, 0xff, b"ignored"), Proxied::Itself),
        ]
    }

    #[test]
    fn header_names_its_client_at_every_split() {
        for (header, client) in headers() {
            let length = header.len();
            let connection = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            for end in 0..connection.len() {
                let expected = (end >= length).then_some((client, length));
                assert_eq!(parse(&connection[..end]), Ok(expected), "{end} of {header:?}");
            }
        }
    }

    #[test]
    fn other_bytes_are_refused_as_soon_as_they_differ() {
        for bytes in [
            &b"G"[..],
            b"\x16",
            b"\n",
            b"PROXI",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"PROXY \r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 443\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 51000\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 443 1\r\n",
            b"PROXY TCP4 192.0.2.7  10.0.0.1 51000 443\r\n",
            b"PROXY TCP4 192.0.2.07 10.0.0.1 51000 443\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 51000 443\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 51000 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 051000 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1  443\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 51000 443\r\n",
            b"PROXY tcp4 192.0.2.7 10.0.0.1 51000 443\r\n",
            b"PROXY UNKNOWN \xff\r\n",
        ] {
            assert_eq!(parse(bytes), Err(MalformedHeader), "{bytes:?}");
        }
        for (command, family, block) in
            [(0x11, 0x11, 12), (0x22, 0x11, 12), (0x21, 0x13, 12), (0x21, 0x41, 12), (0x21, 0x11, 11)]
        {
            let bytes = binary(command, family, &vec![0; block]);
            assert_eq!(parse(&bytes), Err(MalformedHeader), "{command} {family} {block}");
        }
        let too_long = binary(0x21, 0x11, &[0; MAX_PROXY_HEADER]);
        assert_eq!(parse(&too_long[..FIXED]), Err(MalformedHeader));
    }

    #[test]
    fn line_is_bounded() {
        let line = |length: usize| [LINE_START, b"UNKNOWN", &vec![b' '; length - 15], b"\r\n"].concat();
        assert_eq!(parse(&line(MAX_LINE)), Ok(Some((Proxied::Unknown, MAX_LINE))));
        assert_eq!(parse(&line(MAX_LINE + 1)), Err(MalformedHeader));
        assert_eq!(parse(&line(MAX_LINE + 9)[..MAX_LINE - 1]), Ok(None));
    }
}
