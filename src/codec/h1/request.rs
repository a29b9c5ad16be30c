//! A request's head, and the chunks of its body.

use http::Method;

use crate::codec::head::KnownName;

/// The framing of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// The request has no body.
    None,
    /// The body has this many bytes.
    Length(u64),
    /// The body is sent in chunks: [`chunk_size_line`], the data and [`CHUNK_END`] for each, then
    /// [`LAST_CHUNK`].
    Chunked,
}

/// The end of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the request line, the lines that `write_headers` appends, the header of the body's
/// framing, and the empty line (RFC 9112 section 3).
///
/// The headers must not include one about framing; the target must not have a space or a control
/// character. A request without a body gets `content-length: 0` if its method usually has one, as
/// RFC 9110 section 8.6 asks: some servers respond with 411 otherwise.
pub fn write_request_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &str,
    write_headers: impl FnOnce(&mut Vec<u8>),
    upload: BodyFraming,
) {
    debug_assert!(target.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{target:?} is one target");
    for piece in [method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"] {
        out.extend_from_slice(piece);
    }
    let before = out.len();
    write_headers(out);
    debug_assert!(!has_framing(&out[before..]), "the framing is written by who knows the body");
    match upload {
        BodyFraming::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            write_length(out, 0)
        }
        BodyFraming::None => {}
        BodyFraming::Length(length) => write_length(out, length),
        BodyFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// The line before a chunk's data. `len` must not be 0, which would end the body.
pub fn chunk_size_line(len: usize) -> ChunkSize {
    debug_assert!(len > 0, "an empty chunk ends the body");
    let mut line = [0; ChunkSize::ROOM];
    let mut start = ChunkSize::ROOM - CHUNK_END.len();
    line[start..].copy_from_slice(CHUNK_END);
    let mut rest = len;
    loop {
        start -= 1;
        line[start] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            return ChunkSize { line, start };
        }
    }
}

/// A chunk's size line, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct ChunkSize {
    line: [u8; Self::ROOM],
    /// The index in the array where the line begins; it ends with the array.
    start: usize,
}

impl ChunkSize {
    /// Two digits for each byte, and the line end.
    const ROOM: usize = 2 * size_of::<usize>() + CHUNK_END.len();
}

impl AsRef<[u8]> for ChunkSize {
    fn as_ref(&self) -> &[u8] {
        &self.line[self.start..]
    }
}

pub(super) fn write_length(out: &mut Vec<u8>, length: u64) {
    // `fmt` takes 300 instructions more, twice per request.
    let mut digits = [0; MAX_DIGITS];
    let (mut rest, mut at) = (length, MAX_DIGITS);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// The number of digits of the largest length.
const MAX_DIGITS: usize = 20;

fn has_framing(lines: &[u8]) -> bool {
    lines.split(|&byte| byte == b'\n').any(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        matches!(KnownName::of(name), Some(KnownName::ContentLength | KnownName::TransferEncoding))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_is_written_to_the_last_digit() {
        for length in [0, 9, 10, 4_096, u64::MAX] {
            let mut out = Vec::new();
            write_length(&mut out, length);
            assert_eq!(String::from_utf8(out).unwrap(), format!("content-length: {length}\r\n"));
        }
    }

    fn head(method: Method, headers: &[(&str, &str)], upload: BodyFraming) -> String {
        let mut out = Vec::new();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let write_headers = |out: &mut Vec<u8>| out.extend_from_slice(lines.as_bytes());
        write_request_head(&mut out, &method, "/v1/x?y=1", write_headers, upload);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn head_has_request_line_headers_in_order_and_framing() {
        assert_eq!(
            head(
                Method::POST,
                &[("host", "a"), ("X-Team", "search"), ("host", "b")],
                BodyFraming::Length(12)
            ),
            "POST /v1/x?y=1 HTTP/1.1\r\nhost: a\r\nX-Team: search\r\nhost: b\r\ncontent-length: 12\r\n\r\n"
        );
        assert_eq!(
            head(Method::POST, &[], BodyFraming::Chunked),
            "POST /v1/x?y=1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(head(Method::GET, &[], BodyFraming::None), "GET /v1/x?y=1 HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn a_post_without_a_body_says_so() {
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            assert!(head(method, &[], BodyFraming::None).ends_with("\r\ncontent-length: 0\r\n\r\n"));
        }
        assert!(!head(Method::DELETE, &[], BodyFraming::None).contains("content-length"));
    }

    #[test]
    fn a_head_is_appended_to_what_is_there() {
        let mut out = b"before".to_vec();
        write_request_head(&mut out, &Method::GET, "/", |_| (), BodyFraming::None);
        assert_eq!(out, b"beforeGET / HTTP/1.1\r\n\r\n");
    }

    #[test]
    #[should_panic(expected = "the framing is written by who knows the body")]
    #[cfg(debug_assertions)]
    fn a_framing_header_among_the_others_is_a_mistake() {
        head(Method::POST, &[("Transfer-Encoding", "chunked")], BodyFraming::Length(1));
    }

    #[test]
    fn a_chunk_size_is_hexadecimal() {
        for len in (1..=0x1001).chain([0xffff, 0x10000, usize::MAX - 1, usize::MAX]) {
            assert_eq!(chunk_size_line(len).as_ref(), format!("{len:x}\r\n").as_bytes());
        }
    }
}
