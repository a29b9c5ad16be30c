//! The framing of the body, by the head of its response.

use super::*;

#[test]
fn some_responses_have_no_body_whatever_their_headers_say() {
    for lines in ["content-length: 5", "transfer-encoding: chunked", "content-length: x", ""] {
        for (method, status) in
            [(Method::HEAD, "200 OK"), (Method::GET, "204 No Content"), (Method::GET, "304 x")]
        {
            let replay = response(
                method,
                &format!("HTTP/1.1 {status}\r\n{lines}\r\n\r\n").replace("\r\n\r\n\r\n", "\r\n\r\n"),
            );
            assert_eq!(replay.head.unwrap().framing, Framing::None);
            assert_eq!((replay.verdict, replay.body.len()), (Verdict::Complete, 0), "{status} {lines}");
        }
    }
}

#[test]
fn the_length_of_what_is_not_sent_is_passed_on_untouched() {
    let lines = "content-length: 5\r\ncontent-length: 05";
    for (method, status) in [(Method::HEAD, "200 OK"), (Method::GET, "304 Not Modified")] {
        let head = head_for(method, &format!("HTTP/1.1 {status}\r\n{lines}\r\n\r\n"));
        let lengths = head.head.headers.values(KnownName::ContentLength);
        assert_eq!(lengths.collect::<Vec<_>>(), [&b"5"[..], b"05"]);
        assert!(head.keep_alive);
    }
}

#[test]
fn a_tunnel_has_no_body_and_is_no_connection_to_keep() {
    let granted = head_for(Method::CONNECT, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    assert_eq!((granted.framing, granted.keep_alive), (Framing::None, false));
    let denied = head_for(Method::CONNECT, "HTTP/1.1 407 x\r\ncontent-length: 5\r\n\r\n");
    assert_eq!((denied.framing, denied.keep_alive), (Framing::Length(5), true));
}

#[test]
fn the_framing_is_the_headers() {
    assert_eq!(with("content-length: 0").framing, Framing::Length(0));
    assert_eq!(with("content-length: 0012").framing, Framing::Length(12));
    assert_eq!(with(&format!("content-length: {MAX_LENGTH}")).framing, Framing::Length(MAX_LENGTH));
    assert_eq!(with("transfer-encoding: chunked").framing, Framing::Chunked);
    assert_eq!(with("Transfer-Encoding: Chunked").framing, Framing::Chunked);
    assert_eq!(with("content-type: x").framing, Framing::UntilClose);
    assert_eq!(head("HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n").framing, Framing::Length(0));
}

#[test]
fn a_length_and_a_coding_together_are_refused() {
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "transfer-encoding: chunked\r\ncontent-length: x",
        "transfer-encoding: gzip\r\ncontent-length: 5",
    ] {
        assert_eq!(refused_with(lines), ProtocolError::LengthAndCoding, "{lines:?}");
    }
}

#[test]
fn lengths_that_differ_are_refused() {
    for lines in
        ["content-length: 5\r\ncontent-length: 6", "content-length: 5, 6", "content-length: 5,5,6\r\nx: y"]
    {
        assert_eq!(refused_with(lines), ProtocolError::ContentLengthsDiffer, "{lines:?}");
    }
}

#[test]
fn one_length_said_twice_is_accepted_and_passed_on_once() {
    for lines in ["content-length: 5\r\ncontent-length: 5", "content-length: 5, 5", "content-length: 5 ,\t05"]
    {
        let head = with(lines);
        assert_eq!(head.framing, Framing::Length(5));
        let lengths = head.head.headers.values(KnownName::ContentLength);
        assert_eq!(lengths.collect::<Vec<_>>(), [b"5"]);
    }
}

#[test]
fn a_length_that_is_not_one_is_refused() {
    for value in [
        "",
        "+5",
        "-5",
        "0x5",
        "5 5",
        "5;",
        "5.",
        "1e3",
        "5,",
        ",5",
        "5,,5",
        "5, x",
        "x, 5",
        "a",
        "18446744073709551616",
        "9223372036854775808",
        "\u{0665}",
    ] {
        assert_eq!(
            refused_with(&format!("content-length: {value}")),
            ProtocolError::ContentLength,
            "{value:?}"
        );
    }
}

#[test]
fn a_coding_other_than_one_chunked_is_refused() {
    for lines in [
        "transfer-encoding: gzip",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
        "transfer-encoding: identity",
        "transfer-encoding: chunked;x=y",
        "transfer-encoding: chunked,",
        "transfer-encoding: xchunked",
        "transfer-encoding:",
    ] {
        assert_eq!(refused_with(lines), ProtocolError::TransferEncoding, "{lines:?}");
    }
}

#[test]
fn a_coding_in_http_1_0_is_refused() {
    let text = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(refused(text), ProtocolError::CodingInHttp10);
}
