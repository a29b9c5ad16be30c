//! The field lines of a head (RFC 9112 section 5).

use std::ops::Range;

use super::error::ProtocolError;
use crate::codec::head::KnownName;

/// Reads the field lines of `bytes` from `at` on. `add` gets the place of each name, the name if it
/// is known, and the place of the value without the whitespace around it. Returns the end of the
/// empty line behind them. `None`: more bytes are needed.
///
/// # Errors
/// Fails at the first invalid line, or behind `most` lines. The error names the mistake only if all
/// lines end with CRLF.
#[inline]
pub(super) fn read_fields(
    bytes: &[u8],
    mut at: usize,
    most: usize,
    mut add: impl FnMut(Range<usize>, Option<KnownName>, Range<usize>),
) -> Result<Option<usize>, ProtocolError> {
    for count in 0.. {
        let line_start = at;
        let line = &bytes[line_start..];
        match line {
            [b'\r', b'\n', ..] => return Ok(Some(at + 2)),
            [] | [b'\r'] => return Ok(None),
            [b'\r', ..] => return Err(ProtocolError::HeaderValue),
            _ if count == most => return Err(ProtocolError::TooManyHeaders),
            _ => {}
        }
        let Some(name) = find_colon(line) else {
            return if line.iter().all(is_token) { Ok(None) } else { Err(ProtocolError::HeaderName) };
        };
        let known = KnownName::of(&line[..name]);
        let is_valid = known.is_some_and(|known| !known.is_family());
        if !is_valid && (name == 0 || !are_tokens(&line[..name])) {
            return Err(ProtocolError::HeaderName);
        }
        let Some(before) = line[name + 1..].iter().position(|&byte| !is_space(byte)) else {
            return Ok(None);
        };
        let start = name + 1 + before;
        let mut end = start + value_length(&line[start..]);
        at += match &line[end..] {
            [b'\r', b'\n', ..] => end + 2,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(ProtocolError::HeaderValue),
        };
        while end > start && is_space(line[end - 1]) {
            end -= 1;
        }
        add(line_start..line_start + name, known, line_start + start..line_start + end);
    }
    Ok(None)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Checks a whole name. Without an early end, the loop has no branch for each byte.
#[inline]
fn are_tokens(name: &[u8]) -> bool {
    name.iter().fold(true, |are, byte| are & is_token(byte))
}

/// The rule of RFC 9110 section 5.6.2.
fn is_token(byte: &u8) -> bool {
    TOKEN[usize::from(*byte)]
}

static TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        token[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < others.len() {
        token[others[index] as usize] = true;
        index += 1;
    }
    token
};

const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// The highest bit of each byte.
const HIGH: u64 = ONES << 7;

/// The place of the first colon. Names are short, so that this takes less than `memchr`.
#[inline]
fn find_colon(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let differing = u64::from_le_bytes(*word) ^ (ONES * b':' as u64);
        let colons = differing.wrapping_sub(ONES) & !differing & HIGH;
        if colons != 0 {
            return Some(index * 8 + first_marked(colons));
        }
    }
    Some(words.len() * 8 + rest.iter().position(|&byte| byte == b':')?)
}

/// The number of bytes at the beginning that a value may have: all except control characters, but
/// tabs are allowed. Reads eight bytes at a time.
#[inline]
pub(super) fn value_length(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let below_space = word.wrapping_sub(ONES * b' ' as u64);
        let delete = (word ^ (ONES * 0x7f)).wrapping_sub(ONES);
        let marked = (below_space | delete) & !word & HIGH;
        if marked == 0 {
            continue;
        }
        let first = first_marked(marked);
        if bytes[first] != b'\t' {
            return index * 8 + first;
        }
        if let Some(at) = bytes.iter().position(|&byte| !is_value(byte)) {
            return index * 8 + at;
        }
    }
    let end = rest.iter().position(|&byte| !is_value(byte)).unwrap_or(rest.len());
    words.len() * 8 + end
}

/// The first byte of a word, read as little-endian, whose highest bit is set. A subtraction may also
/// mark bytes behind one that is marked, so that only the first is certain.
#[inline]
fn first_marked(word: u64) -> usize {
    word.trailing_zeros() as usize / 8
}

fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn read(bytes: &[u8]) -> Result<Option<(Fields, usize)>, ProtocolError> {
        let mut fields = Vec::new();
        let end = read_fields(bytes, 0, 4, |name, known, value| {
            assert_eq!(known, KnownName::of(&bytes[name.clone()]));
            fields.push((bytes[name].to_vec(), bytes[value].to_vec()));
        })?;
        Ok(end.map(|end| (fields, end)))
    }

    /// The result of another parser, which accepts LF as the end of a line too.
    fn naive(bytes: &[u8]) -> Result<Option<(Fields, usize)>, httparse::Error> {
        let mut fields = [httparse::EMPTY_HEADER; 4];
        Ok(match httparse::parse_headers(bytes, &mut fields)? {
            httparse::Status::Complete((end, fields)) => {
                let pair = |field: &httparse::Header<'_>| (field.name.into(), field.value.to_vec());
                Some((fields.iter().map(pair).collect(), end))
            }
            httparse::Status::Partial => None,
        })
    }

    #[test]
    fn fields_are_those_of_another_parser() {
        const PIECES: [&[u8]; 20] = [
            b"a",
            b"Bc-d",
            b"content-length",
            b":",
            b": ",
            b":\t ",
            b"x",
            b"1, 2",
            b"\r\n",
            b"\r\n\r\n",
            b" ",
            b"\t",
            b"\r",
            b"\xff\xc3",
            b"\x7f",
            b"\x00",
            b"\x1f",
            b"longer-than-a-word",
            b"\x80\x20\x1f",
            b"\"(",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let mut seen = [0; 3];
        for _ in 0..200_000 {
            let pieces = random.usize(1..14);
            let bytes = (0..pieces).flat_map(|_| PIECES[random.usize(..PIECES.len())]).copied();
            let bytes: Vec<u8> = bytes.collect();
            let (ours, theirs) = (read(&bytes), naive(&bytes));
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{bytes:?}"),
                // The other parser waits for the byte behind a CR, and for the end of a line beyond
                // the limit.
                (Err(_), Err(_) | Ok(None)) | (Ok(None), Err(_)) => {}
                _ => panic!("{bytes:?}: {ours:?}, {theirs:?}"),
            }
            seen[match ours {
                Ok(Some(_)) => 0,
                Ok(None) => 1,
                Err(_) => 2,
            }] += 1;
        }
        assert!(seen.iter().all(|&count| count > 1_000), "{seen:?}");
    }

    #[test]
    fn values_end_at_control_characters_wherever_they_are() {
        for length in 0..40 {
            let value = vec![b'\xff'; length];
            assert_eq!(value_length(&value), length);
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    for around in [b'a', b' ', b'\t', b'\x80'] {
                        let mut value = vec![around; length];
                        value[at] = byte;
                        assert_eq!(value_length(&value), if is_value(byte) { length } else { at });
                    }
                }
            }
        }
    }
}
