use http::{HeaderValue, header};

use super::*;
use crate::codec::h1::server::RequestReader;

fn request(line: &str) -> RequestFraming {
    let text = format!("{line}\r\nte: trailers\r\n\r\n");
    RequestFraming::new(&RequestReader::default().read(text.as_bytes()).unwrap().unwrap().0.head)
}

fn get() -> RequestFraming {
    request("GET / HTTP/1.1")
}

/// The head of a response to `request` with these headers, without its date, and the framing of its
/// body.
fn write(
    request: RequestFraming,
    status: u16,
    headers: &[(header::HeaderName, &str)],
    exact: Option<u64>,
    close: bool,
) -> (String, BodyEncoder) {
    let mut sent = Headers::default();
    headers.iter().for_each(|(name, value)| sent.append(name.as_str().as_bytes(), value.as_bytes()));
    let start = ResponseStart { status: StatusCode::from_u16(status).unwrap(), reason: None, close };
    let mut out = Vec::new();
    let encoder = write_response_head(&mut out, request, start, &sent, exact, || "now".to_owned());
    (String::from_utf8(out).unwrap().replace("date: now\r\n", ""), encoder)
}

#[test]
fn a_head_is_its_headers_and_what_frames_the_body() {
    let headers = [(header::CONTENT_TYPE, "a/b"), (header::CONTENT_LENGTH, "5"), (header::ETAG, "x")];
    assert_eq!(
        write(get(), 200, &headers, None, false),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ncontent-length: 5\r\netag: x\r\n\r\n".to_owned(),
            BodyEncoder::Length(5)
        )
    );
    assert_eq!(
        write(get(), 200, &[], None, true),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".to_owned(),
            BodyEncoder::Chunked
        )
    );
    assert_eq!(write(get(), 404, &[], Some(2), false).1, BodyEncoder::Length(2));
}

#[test]
fn headers_about_framing_and_connection_are_ignored() {
    let headers =
        [(header::TRANSFER_ENCODING, "gzip"), (header::CONNECTION, "x"), (header::CONTENT_LENGTH, "a")];
    let (head, encoder) = write(get(), 200, &headers, Some(0), false);
    assert_eq!(
        (head.as_str(), encoder),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", BodyEncoder::Length(0))
    );
}

#[test]
fn response_without_a_body_has_only_a_known_length() {
    let to_head = request("HEAD / HTTP/1.1");
    let told = |to, status, declared: Option<&str>, exact| {
        let headers: Vec<_> = declared.map(|length| (header::CONTENT_LENGTH, length)).into_iter().collect();
        let (head, encoder) = write(to, status, &headers, exact, false);
        assert_eq!(encoder, BodyEncoder::None);
        assert!(!head.contains("transfer-encoding"));
        head.contains("content-length: 7\r\n")
    };
    assert!(told(to_head, 200, Some("7"), Some(0)));
    assert!(told(to_head, 200, None, Some(7)));
    assert!(!told(to_head, 200, None, Some(0)), "what is at hand of a HEAD's body is nothing");
    assert!(told(get(), 304, Some("7"), Some(0)));
    assert!(!told(get(), 204, Some("7"), Some(0)));
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let old = request("GET / HTTP/1.0");
    let (head, encoder) = write(old, 200, &[], None, false);
    assert_eq!(
        (head.as_str(), encoder),
        ("HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n", BodyEncoder::UntilClose)
    );
    assert!(write(old, 200, &[], Some(1), false).0.contains("connection: keep-alive\r\n"));
}

#[test]
fn a_switch_keeps_its_own_connection_header() {
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")];
    let (head, encoder) = write(get(), 101, &headers, Some(0), true);
    assert_eq!(encoder, BodyEncoder::None);
    assert_eq!(head, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
}

#[test]
fn a_date_is_put_where_there_is_none_and_a_reason_is_kept() {
    let mut out = Vec::new();
    let start = ResponseStart { status: StatusCode::OK, reason: Some(b"Fine"), close: false };
    write_response_head(&mut out, get(), start, &Headers::default(), Some(0), || "today".to_owned());
    assert_eq!(out, b"HTTP/1.1 200 Fine\r\ncontent-length: 0\r\ndate: today\r\n\r\n");
    let mut dated = Headers::default();
    dated.append(b"Date", b"then");
    out.clear();
    write_response_head(&mut out, get(), start, &dated, Some(0), || unreachable!("it has one"));
    assert_eq!(out, b"HTTP/1.1 200 Fine\r\nDate: then\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn a_body_is_framed_and_never_longer_than_its_length() {
    let mut data = Bytes::from_static(b"hello");
    let (size, behind) = BodyEncoder::Chunked.frame(&mut data);
    assert_eq!((size.unwrap().as_ref(), behind, &data[..]), (&b"5\r\n"[..], &b"\r\n"[..], &b"hello"[..]));
    assert!(BodyEncoder::Chunked.frame(&mut Bytes::new()).0.is_none(), "an empty chunk would end it");

    let mut sized = BodyEncoder::Length(7);
    assert!(sized.frame(&mut data).0.is_none());
    assert!(!sized.is_done());
    assert!(!sized.end(&mut Vec::new(), None), "two bytes are missing");
    sized.frame(&mut data);
    assert_eq!((&data[..], sized.is_done()), (&b"he"[..], true));
    assert!(sized.end(&mut Vec::new(), None));
}

#[test]
fn trailers_stand_behind_the_last_chunk() {
    assert!(get().takes_trailers);
    // Trailers about framing, which a service over HTTP/2 may send, are dropped.
    let trailers = HeaderMap::from_iter([
        (header::CONTENT_LENGTH, HeaderValue::from_static("7")),
        (header::ETAG, HeaderValue::from_static("x")),
        (header::HOST, HeaderValue::from_static("h")),
    ]);
    let mut out = Vec::new();
    assert!(BodyEncoder::Chunked.end(&mut out, Some(&trailers)));
    assert_eq!(out, b"0\r\netag: x\r\n\r\n");
}
