use http::Method;

use super::*;
use crate::codec::h1::replay::{Replay, Verdict, replay, replay_at_every_split};
use crate::codec::h1::{EXTENSIONS_FREE, MAX_CHUNK_LINE, MAX_HEADERS, MAX_TRAILERS};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// A response with this body in chunks.
fn chunks(wire: impl AsRef<[u8]>) -> Replay {
    replay_at_every_split(&Method::GET, &[CHUNKED.as_bytes(), wire.as_ref()].concat())
}

/// A response with a body in chunks that is too long to be split everywhere.
fn long_chunks(wire: &str) -> Replay {
    let wire = format!("{CHUNKED}{wire}");
    let whole = replay(&Method::GET, [wire.as_bytes()]);
    for step in [1, 7, 4096] {
        assert_eq!(replay(&Method::GET, wire.as_bytes().chunks(step)), whole, "in pieces of {step}");
    }
    whole
}

/// The body, which must be complete.
fn body(wire: impl AsRef<[u8]>) -> String {
    let replay = chunks(wire);
    assert_eq!(replay.verdict, Verdict::Complete);
    String::from_utf8(replay.body).unwrap()
}

/// The error with which the body is refused.
fn refused(wire: impl AsRef<[u8]>) -> ProtocolError {
    refusal(chunks(wire))
}

fn refusal(replay: Replay) -> ProtocolError {
    match replay.verdict {
        Verdict::Refused(error) => error,
        verdict => panic!("it must be refused: {verdict:?}"),
    }
}

#[test]
fn a_length_is_counted_and_its_bytes_stay_where_they_are() {
    let mut decoder = BodyDecoder::new(Framing::Length(5));
    assert_eq!(decoder.remaining(), Some(5));
    assert_eq!(decoder.decode(&mut b"hel".to_vec()), Ok(Decoded { data: 0..3, consumed: 3 }));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(2), false));
    assert_eq!(decoder.decode(&mut b"lo, more".to_vec()), Ok(Decoded { data: 0..2, consumed: 2 }));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(0), true));
    assert_eq!(decoder.end_of_connection(), Ok(()));
}

#[test]
fn a_length_that_is_not_reached_says_what_is_missing() {
    let replay = replay_at_every_split(&Method::GET, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel");
    assert_eq!(replay.verdict, Verdict::Refused(ProtocolError::BodyCutShort { missing: 2 }));
    assert_eq!(replay.body, b"hel", "what came is given nevertheless");
}

#[test]
fn no_body_has_ended_before_it_began() {
    for framing in [Framing::None, Framing::Length(0)] {
        let mut decoder = BodyDecoder::new(framing);
        assert!(decoder.is_done());
        assert_eq!(decoder.decode(&mut b"more".to_vec()), Ok(Decoded { data: 0..0, consumed: 0 }));
        assert_eq!(decoder.end_of_connection(), Ok(()));
    }
}

#[test]
fn a_body_without_framing_ends_with_the_connection() {
    let mut decoder = BodyDecoder::new(Framing::UntilClose);
    assert_eq!(decoder.decode(&mut b"hello".to_vec()), Ok(Decoded { data: 0..5, consumed: 5 }));
    assert_eq!((decoder.remaining(), decoder.is_done()), (None, false));
    assert_eq!(decoder.end_of_connection(), Ok(()));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(0), true));
}

#[test]
fn chunks_of_one_buffer_join_without_moving_the_first() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let mut buf = b"3\r\nabc\r\n4\r\ndefg\r\n1\r\nh\r\n2\r\ni".to_vec();
    let decoded = decoder.decode(&mut buf).unwrap();
    assert_eq!(decoded, Decoded { data: 3..12, consumed: buf.len() });
    assert_eq!(&buf[decoded.data], b"abcdefghi");

    let mut buf = b"j\r\n0\r\n\r\nmore".to_vec();
    assert_eq!(decoder.decode(&mut buf), Ok(Decoded { data: 0..1, consumed: 8 }));
    assert_eq!((decoder.is_done(), decoder.remaining()), (true, Some(0)));
    assert_eq!(decoder.decode(&mut b"more".to_vec()), Ok(Decoded { data: 0..0, consumed: 0 }));
}

#[test]
fn a_chunk_size_is_hexadecimal() {
    assert_eq!(body("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n").len(), 20);
    assert_eq!(body("000000000000001F\r\n0123456789abcdef0123456789abcde\r\n00\r\n\r\n").len(), 31);
    let huge = chunks("ffffffffffffffff\r\nabc");
    assert_eq!(
        (huge.verdict, &huge.body[..]),
        (Verdict::Refused(ProtocolError::ChunksCutShort), &b"abc"[..])
    );
}

#[test]
fn a_chunk_size_that_is_not_one_is_refused() {
    for size in ["", " 3", "\t3", "+3", "-3", "0x3", "x", "3g", "3 3", "3,", "3\r3", "3\0", ";x", "\u{0663}"]
    {
        assert_eq!(refused(format!("{size}\r\nabc\r\n0\r\n\r\n")), ProtocolError::ChunkSize, "{size:?}");
    }
}

#[test]
fn a_chunk_size_of_more_than_16_digits_is_refused() {
    for size in ["10000000000000000", "00000000000000003"] {
        assert_eq!(refused(format!("{size}\r\nabc\r\n0\r\n\r\n")), ProtocolError::ChunkSizeTooLong);
    }
}

#[test]
fn a_chunk_that_is_not_as_long_as_it_says_is_refused() {
    for wire in
        ["2\r\nabc\r\n0\r\n\r\n", "3\r\nabc0\r\n\r\n", "3\r\nabc\r\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n"]
    {
        assert_eq!(refused(wire), ProtocolError::ChunkEnd, "{wire:?}");
    }
}

#[test]
fn a_size_line_that_ends_with_lf_alone_is_refused() {
    for wire in
        ["3\nabc\r\n0\r\n\r\n", "3;x\nabc\r\n0\r\n\r\n", "3 \nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\n\r\n"]
    {
        assert_eq!(refused(wire), ProtocolError::BareLineFeed, "{wire:?}");
    }
}

#[test]
fn extensions_are_skipped() {
    for extension in [";x", ";x=y", " ; x = \"a;b\" ;z", "\t;é\tx", ";", "  "] {
        assert_eq!(body(format!("3{extension}\r\nabc\r\n0{extension}\r\n\r\n")), "abc", "{extension:?}");
    }
}

#[test]
fn a_control_character_in_an_extension_is_refused() {
    for extension in [";\0", ";a\x1bb", ";\x7f", "; x=\"\x08\""] {
        assert_eq!(refused(format!("3{extension}\r\nabc\r\n0\r\n\r\n")), ProtocolError::ChunkExtension);
    }
    // A CR ends the line only if an LF follows.
    assert_eq!(refused("3;a\rb\r\nabc\r\n0\r\n\r\n"), ProtocolError::ChunkSize);
}

#[test]
fn an_extension_has_a_limit() {
    let with = |length: usize| long_chunks(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(length - 1)));
    assert_eq!(with(MAX_CHUNK_LINE).verdict, Verdict::Complete);
    assert_eq!(refusal(with(MAX_CHUNK_LINE + 1)), ProtocolError::ChunkExtensionsTooLarge);
}

#[test]
fn extensions_without_data_have_a_limit() {
    let line = EXTENSIONS_FREE as usize / 64;
    let one = format!("1;{}\r\na\r\n", "x".repeat(line - 1));
    let verdict = |count: usize| long_chunks(&format!("{}0\r\n\r\n", one.repeat(count))).verdict;
    assert_eq!(verdict(64), Verdict::Complete, "the first ones are free");
    assert_eq!(verdict(65), Verdict::Refused(ProtocolError::ChunkExtensionsTooLarge));
}

#[test]
fn a_long_stream_may_sign_each_of_its_chunks() {
    let one = format!("64;sig={}\r\n{}\r\n", "x".repeat(64), "a".repeat(100));
    let replay = long_chunks(&format!("{}0\r\n\r\n", one.repeat(1000)));
    assert_eq!((replay.verdict, replay.body.len()), (Verdict::Complete, 100_000));
}

#[test]
fn trailers_are_given_after_the_end() {
    let replay = chunks("3\r\nabc\r\n0\r\nX-Sum: 1f\r\nx-sum: 20\r\nServer-Timing:total;dur=5\r\n\r\nmore");
    assert_eq!((replay.verdict, &replay.body[..], replay.left_over), (Verdict::Complete, &b"abc"[..], 4));
    let trailers = replay.trailers.unwrap();
    assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1f", "20"]);
    assert_eq!(trailers["server-timing"], "total;dur=5");
}

#[test]
fn a_body_without_trailers_has_none() {
    assert_eq!(chunks("0\r\n\r\n").trailers, None);
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    decoder.decode(&mut b"0\r\nx: y\r\n".to_vec()).unwrap();
    assert_eq!(decoder.take_trailers(), None, "there are none before the end");
    decoder.decode(&mut b"\r\n".to_vec()).unwrap();
    assert_eq!(decoder.take_trailers().unwrap().len(), 1);
}

#[test]
fn trailers_about_framing_or_the_connection_are_dropped() {
    let dropped = "transfer-encoding: gzip\r\nContent-Length: 5\r\nconnection: close\r\nhost: x\r\nte: x\r\n\
                   trailer: x\r\nupgrade: x\r\n";
    let replay = chunks(format!("0\r\n{dropped}x: y\r\n\r\n"));
    assert_eq!(replay.trailers.unwrap().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x"]);
    assert_eq!(chunks(format!("0\r\n{dropped}\r\n")).trailers, None);
}

#[test]
fn trailers_are_lines_as_strict_as_a_heads() {
    for (lines, error) in [
        ("x: y\n\r\n", ProtocolError::BareLineFeed),
        ("\n", ProtocolError::BareLineFeed),
        ("x: y\r\n\n", ProtocolError::BareLineFeed),
        (" x: y\r\n\r\n", ProtocolError::FoldedLine),
        ("x: y\r\n z\r\n\r\n", ProtocolError::FoldedLine),
        ("x : y\r\n\r\n", ProtocolError::HeaderName),
        ("x\r\n\r\n", ProtocolError::HeaderName),
        ("\0\r\n\r\n", ProtocolError::HeaderName),
        ("x: \0\r\n\r\n", ProtocolError::HeaderValue),
        ("x: a\rb\r\n\r\n", ProtocolError::HeaderValue),
    ] {
        assert_eq!(refused(format!("1\r\na\r\n0\r\n{lines}")), error, "{lines:?}");
    }
}

#[test]
fn trailers_have_a_limit() {
    let with = |length: usize| long_chunks(&format!("0\r\nx:{}\r\n\r\n", "y".repeat(length - 6)));
    assert_eq!(with(MAX_TRAILERS).verdict, Verdict::Complete);
    assert_eq!(refusal(with(MAX_TRAILERS + 1)), ProtocolError::TrailersTooLarge);

    let with = |count: usize| long_chunks(&format!("0\r\n{}\r\n", "x:y\r\n".repeat(count)));
    assert_eq!(with(MAX_HEADERS).trailers.unwrap().len(), MAX_HEADERS);
    assert_eq!(refusal(with(MAX_HEADERS + 1)), ProtocolError::TooManyHeaders);
}

#[test]
fn a_body_that_breaks_off_before_its_last_chunk_is_cut_short() {
    let whole = "3\r\nabc\r\n0\r\nx: y\r\n\r\n";
    for end in 0..whole.len() {
        assert_eq!(refused(&whole[..end]), ProtocolError::ChunksCutShort, "after {:?}", &whole[..end]);
    }
    assert_eq!(body(whole), "abc");
}

#[test]
fn payload_before_a_mistake_is_not_lost() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let mut buf = b"3\r\nabc\r\nx\r\n".to_vec();
    let decoded = decoder.decode(&mut buf).unwrap();
    assert_eq!((&buf[decoded.data], decoded.consumed), (&b"abc"[..], buf.len()));
    assert!(!decoder.is_done());
    for more in [&b""[..], b"0\r\n\r\n"] {
        assert_eq!(decoder.decode(&mut more.to_vec()), Err(ProtocolError::ChunkSize));
    }
    assert_eq!(decoder.end_of_connection(), Err(ProtocolError::ChunkSize));
    assert_eq!(decoder.take_trailers(), None);
}

#[test]
fn the_decoder_finds_what_the_naive_one_finds() {
    let mut random = fastrand::Rng::with_seed(9112);
    let mut complete = 0;
    for _ in 0..4000 {
        let wire = random_chunks(&mut random);
        let (expected, is_complete) = naive(&wire);
        let response = [CHUNKED.as_bytes(), &wire].concat();
        for step in [response.len(), 1, random.usize(2..40)] {
            let replay = replay(&Method::GET, response.chunks(step));
            let shown = String::from_utf8_lossy(&wire);
            assert_eq!(replay.verdict == Verdict::Complete, is_complete, "{shown:?}: {:?}", replay.verdict);
            assert_eq!(replay.body, expected, "{shown:?}");
        }
        complete += u32::from(is_complete);
    }
    assert!((1000..3500).contains(&complete), "both kinds are tried: {complete} were complete");
}

/// A body in chunks, in half of the cases with one byte changed.
fn random_chunks(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..random.usize(0..6) {
        let size = random.usize(1..30);
        wire.extend_from_slice(format!("{size:0width$x}", width = random.usize(1..5)).as_bytes());
        wire.extend_from_slice(random.choice([&b""[..], b"", b";a=b", b" ;\"x\""]).unwrap_or_default());
        wire.extend_from_slice(b"\r\n");
        wire.extend((0..size).map(|_| *random.choice(b"abc\r\n0;").unwrap()));
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n");
    for _ in 0..random.usize(0..3) {
        wire.extend_from_slice(b"name: value\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    if random.bool() {
        let at = random.usize(0..wire.len());
        wire[at] = *random.choice(b"\r\n 0a;:\0x").unwrap();
    }
    wire
}

/// The payload up to the first mistake or the end, and true if the body is complete.
fn naive(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = naive_line(&mut rest) {
        let (size, extension) = line.split_once(';').unwrap_or((line, ""));
        let size = size.trim_end_matches([' ', '\t']);
        let is_size = (1..=16).contains(&size.len()) && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_size || extension.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            break;
        }
        let size = u64::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, naive_trailers(rest));
        }
        let taken = rest.len().min(usize::try_from(size).unwrap());
        body.extend_from_slice(&rest[..taken]);
        match rest[taken..].strip_prefix(b"\r\n") {
            Some(after) => rest = after,
            None => break,
        }
    }
    (body, false)
}

fn naive_line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    std::str::from_utf8(line).ok()
}

fn naive_trailers(mut rest: &[u8]) -> bool {
    while let Some(line) = naive_line(&mut rest) {
        if line.is_empty() {
            return true;
        }
        let Some((name, value)) = line.split_once(':') else { return false };
        let is_name = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !is_name || http::HeaderValue::from_str(value).is_err() {
            return false;
        }
    }
    false
}
