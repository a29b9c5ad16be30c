mod framing;

use super::*;
use crate::codec::h1::MAX_LENGTH;
use crate::codec::h1::lines::MAX_HEAD;
use crate::codec::h1::replay::{Replay, Verdict, replay, replay_at_every_split};

fn response(method: Method, text: &str) -> Replay {
    replay_at_every_split(&method, text.as_bytes())
}

/// The head of a response to a POST, regardless of its body.
fn head(text: &str) -> ParsedResponse {
    head_for(Method::POST, text)
}

fn head_for(method: Method, text: &str) -> ParsedResponse {
    let replay = response(method, text);
    replay.head.unwrap_or_else(|| panic!("{text:?} has no head: {:?}", replay.verdict))
}

/// The head of a 200 with these header lines.
fn with(lines: &str) -> ParsedResponse {
    head(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n"))
}

/// The error with which a response to a POST is refused, before its head is returned.
fn refused(text: &str) -> ProtocolError {
    let replay = response(Method::POST, text);
    assert_eq!(replay.head, None, "{text:?} must be refused before its head is given");
    match replay.verdict {
        Verdict::Refused(error) => error,
        verdict => panic!("{text:?} must be refused: {verdict:?}"),
    }
}

/// The error with which a 200 with these header lines is refused.
fn refused_with(lines: &str) -> ProtocolError {
    refused(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n"))
}

#[test]
fn a_head_has_status_version_and_headers() {
    let head = with("Content-Type: application/json\r\nX-Request-ID:req_1\r\ncontent-length: \t 2 \t");
    assert_eq!((head.head.status, head.version), (StatusCode::OK, Version::HTTP_11));
    let headers: Vec<_> = head.head.headers.iter().map(|field| (field.name(), field.value())).collect();
    assert_eq!(
        headers,
        [
            (&b"Content-Type"[..], &b"application/json"[..]),
            (b"X-Request-ID", b"req_1"),
            (b"content-length", b"2")
        ]
    );
    assert_eq!((head.framing, head.keep_alive, head.head.reason), (Framing::Length(2), true, None));
}

#[test]
fn a_repeated_header_keeps_its_order() {
    let head = with("set-cookie: a\r\nx: 1\r\nset-cookie: b\r\nset-cookie:");
    let values: Vec<_> = head.head.headers.iter().map(|field| field.value()).collect();
    assert_eq!(values, [&b"a"[..], b"1", b"b", b""]);
    assert_eq!(head.head.headers.values(KnownName::SetCookie).collect::<Vec<_>>(), [&b"a"[..], b"b", b""]);
}

#[test]
fn a_value_may_have_bytes_beyond_ascii_and_tabs() {
    let bytes = b"HTTP/1.1 200 OK\r\nx: a\tb\xff\xc3\xa9\r\n\r\n";
    let replay = replay_at_every_split(&Method::GET, bytes);
    let headers = replay.head.unwrap().head.headers;
    assert_eq!(headers.iter().next().unwrap().value(), b"a\tb\xff\xc3\xa9");
}

#[test]
fn the_bytes_behind_a_head_are_not_its_own() {
    let mut reader = HeadReader::new(&Method::GET);
    let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (_, used) = reader.read(bytes).unwrap().unwrap();
    assert_eq!(&bytes[used..], b"ok");
}

#[test]
fn a_head_that_comes_slowly_is_looked_at_once() {
    let bytes = b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\n";
    let mut reader = HeadReader::new(&Method::GET);
    for end in 0..bytes.len() {
        assert_eq!(reader.read(&bytes[..end]), Ok(None));
        assert_eq!(reader.end.looked(), end, "the next search begins where this one ended");
    }
    assert!(reader.read(bytes).unwrap().is_some());
}

#[test]
fn an_unusual_reason_is_kept() {
    let reason = |line: &str| {
        let reason = head(&format!("HTTP/1.1 {line}\r\n\r\n")).head.reason;
        reason.map(|reason| String::from_utf8(reason.into()).unwrap())
    };
    assert_eq!(reason("200 OK"), None);
    assert_eq!(reason("200 Fine, thanks").unwrap(), "Fine, thanks");
    assert_eq!(reason("200 OK then").unwrap(), "OK then");
    assert_eq!(reason("200 ok").unwrap(), "ok");
    assert_eq!(reason("529 Overloaded").unwrap(), "Overloaded");
    assert_eq!(reason("429 Zu viele Schlüssel").unwrap(), "Zu viele Schlüssel");
    assert_eq!(reason("200 ").unwrap(), "");
    // RFC 9112 section 4 requires the space; many servers omit it, without harm.
    assert_eq!(reason("200").unwrap(), "");
}

#[test]
fn every_status_of_three_digits_is_one() {
    assert_eq!(head("HTTP/1.1 999 \r\n\r\n").head.status.as_u16(), 999);
    for line in
        ["099 x", "000", "20 OK", "2000 OK", " 200 OK", "2x0 OK", "OK", "", "-20", "200\tOK", "200 a\x01b"]
    {
        assert_eq!(refused(&format!("HTTP/1.1 {line}\r\n\r\n")), ProtocolError::StatusLine, "{line:?}");
    }
}

#[test]
fn other_protocols_are_refused_with_their_first_bytes() {
    let mut reader = HeadReader::new(&Method::GET);
    for bytes in
        [&b"\x15\x03\x01\0\x02\x02\x16"[..], b"\0\0\x12\x04", b"SSH-2.0-x", b"HTTP/2 ", b"h", b"<html>"]
    {
        assert_eq!(reader.read(bytes), Err(ProtocolError::NotHttp1), "{bytes:?}");
    }
    for version in ["HTTP/1.2", "HTTP/1.10", "http/1.1", "HTTP/0.9", "ICY"] {
        assert_eq!(refused(&format!("{version} 200 OK\r\n\r\n")), ProtocolError::NotHttp1);
    }
}

#[test]
fn an_empty_line_before_the_head_is_refused() {
    for line in ["\r\n", "\n", "\r"] {
        assert_eq!(refused(&format!("{line}HTTP/1.1 200 OK\r\n\r\n")), ProtocolError::EmptyLineFirst);
    }
}

#[test]
fn a_line_that_ends_with_lf_alone_is_refused() {
    for text in ["HTTP/1.1 200 OK\n\r\n", "HTTP/1.1 200 OK\r\nx: y\n\r\n", "HTTP/1.1 200 OK\r\nx: y\r\n\n"] {
        assert_eq!(refused(text), ProtocolError::BareLineFeed);
    }
}

#[test]
fn a_folded_header_is_refused() {
    for lines in ["x: a\r\n b", "x: a\r\n\tb", " x: a", "x: a\r\n \r\ny: b"] {
        assert_eq!(refused_with(lines), ProtocolError::FoldedLine, "{lines:?}");
    }
}

#[test]
fn a_malformed_name_is_refused() {
    for line in [
        "x : a",
        "x\t: a",
        ": a",
        "x",
        "a b: c",
        "x\0: a",
        "x\x7f: a",
        "(x): a",
        "ä: a",
        "x\rcontent-length: 0",
    ] {
        assert_eq!(refused_with(line), ProtocolError::HeaderName, "{line:?}");
    }
}

#[test]
fn a_control_character_in_a_value_is_refused() {
    for line in ["x: a\0b", "x: \x01", "x: a\x7f", "x: a\x0bb", "x: a\rb", "x: a\r\r\n", "x:\r y"] {
        assert_eq!(refused_with(line), ProtocolError::HeaderValue, "{line:?}");
    }
}

#[test]
fn a_head_up_to_the_limit_is_read_and_one_beyond_it_refused() {
    let beginning = "HTTP/1.1 200 OK\r\nx: ";
    let largest = format!("{beginning}{}\r\n\r\n", "y".repeat(MAX_HEAD - beginning.len() - 4));
    assert_eq!(largest.len(), MAX_HEAD);
    let larger = largest.replace("x: ", "x: y");
    let endless = &larger[..MAX_HEAD];
    for step in [MAX_HEAD + 1, 16 * 1024, 1000] {
        let verdict = |text: &str| replay(&Method::GET, text.as_bytes().chunks(step)).verdict;
        assert_eq!(verdict(&largest), Verdict::Complete);
        for text in [&larger, endless] {
            assert_eq!(verdict(text), Verdict::Refused(ProtocolError::HeadTooLarge));
        }
    }
}

#[test]
fn a_head_may_have_so_many_headers_and_no_more() {
    let with = |count: usize| {
        let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(count));
        replay(&Method::GET, [text.as_bytes()])
    };
    assert_eq!(with(MAX_HEADERS).head.unwrap().head.headers.len(), MAX_HEADERS);
    assert_eq!(with(MAX_HEADERS + 1).verdict, Verdict::Refused(ProtocolError::TooManyHeaders));
}

#[test]
fn interim_heads_come_one_by_one_and_have_no_body() {
    let text = "HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let replay = response(Method::POST, text);
    assert_eq!(replay.interim, [StatusCode::CONTINUE, StatusCode::EARLY_HINTS]);
    assert_eq!((replay.verdict, &replay.body[..]), (Verdict::Complete, &b"ok"[..]));

    let mut reader = HeadReader::new(&Method::POST);
    let (head, _) = reader.read(text.as_bytes()).unwrap().unwrap();
    assert_eq!(head.framing, Framing::None);
}

#[test]
fn interim_heads_without_end_are_refused() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    let verdict = |count: u8| {
        let text = format!("{}HTTP/1.1 204 No Content\r\n\r\n", interim.repeat(count.into()));
        replay(&Method::POST, [text.as_bytes()]).verdict
    };
    assert_eq!(verdict(MAX_INTERIM), Verdict::Complete);
    assert_eq!(verdict(MAX_INTERIM + 1), Verdict::Refused(ProtocolError::TooManyInterim));
}

#[test]
fn switching_protocols_is_returned_and_connection_not_reused() {
    let head = head("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    assert_eq!((head.framing, head.keep_alive), (Framing::None, false));
}

#[test]
fn connection_is_kept_when_both_sides_know_the_response_end() {
    let kept = |version: &str, status: &str, lines: &str| {
        head(&format!("HTTP/1.{version} {status} \r\n{lines}\r\n\r\n")).keep_alive
    };
    assert!(kept("1", "200", "content-length: 0"));
    assert!(kept("1", "200", "transfer-encoding: chunked"));
    assert!(kept("1", "200", "content-length: 0\r\nconnection: keep-alive"));
    assert!(!kept("1", "200", "content-type: x"), "a body until the close");

    for close in ["close", "Close", "keep-alive, close", "x ,\tclose , y", "close\r\nconnection: keep-alive"]
    {
        assert!(!kept("1", "200", &format!("content-length: 0\r\nconnection: {close}")), "{close}");
    }
    assert!(kept("1", "200", "content-length: 0\r\nconnection: closed, not-close"));

    assert!(!kept("0", "200", "content-length: 0"));
    assert!(kept("0", "200", "content-length: 0\r\nconnection: Keep-Alive"));
    assert!(!kept("0", "200", "content-length: 0\r\nconnection: keep-alive, close"));
    assert!(!kept("0", "200", "connection: keep-alive"), "a body until the close");
}

#[test]
fn a_connection_is_not_kept_when_a_body_may_follow_after_all() {
    let kept = |method: Method, status: &str, lines: &str| {
        head_for(method, &format!("HTTP/1.1 {status} \r\nx: y\r\n{lines}\r\n")).keep_alive
    };
    assert!(kept(Method::GET, "204", ""));
    assert!(kept(Method::GET, "204", "content-length: 0\r\n"));
    assert!(!kept(Method::GET, "204", "content-length: 5\r\n"));
    assert!(!kept(Method::GET, "204", "transfer-encoding: chunked\r\n"));
    assert!(kept(Method::HEAD, "200", "content-length: 5\r\n"));
    assert!(kept(Method::HEAD, "200", "transfer-encoding: chunked\r\n"));
    assert!(!kept(Method::HEAD, "200", "transfer-encoding: chunked\r\ncontent-length: 5\r\n"));
}

#[test]
fn response_that_breaks_off_in_its_head_has_none() {
    for text in ["", "HTTP", "HTTP/1.1 200 OK\r\nx: y\r\n\r", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let replay = response(Method::POST, text);
        assert_eq!((replay.head, replay.verdict), (None, Verdict::NoHead));
    }
}
