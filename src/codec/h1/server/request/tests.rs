use super::*;

/// The head in `text`, which is the same at every split, and its number of bytes.
fn read(text: &str) -> Result<Option<(ParsedRequest, usize)>, BadRequest> {
    let bytes = text.as_bytes();
    let whole = RequestReader::default().read(bytes);
    for step in 1..=bytes.len().min(40) {
        let mut reader = RequestReader::default();
        let mut found = Ok(None);
        for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
            found = reader.read(&bytes[..end]);
            if !matches!(found, Ok(None)) {
                break;
            }
        }
        assert_eq!(found, whole, "in steps of {step}: {text:?}");
    }
    whole
}

fn head(text: &str) -> ParsedRequest {
    read(text).unwrap().unwrap_or_else(|| panic!("{text:?} is whole")).0
}

fn with(lines: &str) -> Result<ParsedRequest, BadRequest> {
    read(&format!("POST /v1/x HTTP/1.1\r\nhost: p\r\n{lines}\r\n")).map(|found| found.unwrap().0)
}

#[test]
fn a_head_is_its_line_and_its_fields_as_they_came() {
    let text = "POST /v1/chat/completions?a=%20b HTTP/1.1\r\nHost: p\r\nX-A:  1 \r\nx-a: \u{e9}\r\n\r\nrest";
    let (head, used) = read(text).unwrap().unwrap();
    assert_eq!(&text[used..], "rest");
    assert_eq!((head.framing, head.keep_alive, head.expects_continue), (Framing::None, true, false));
    let head = head.head;
    assert_eq!((head.method.clone(), head.version), (Method::POST, Version::HTTP_11));
    assert_eq!((head.path(), head.query()), ("/v1/chat/completions", Some("a=%20b")));
    let fields: Vec<_> = head.headers.iter().map(|field| (field.name(), field.value())).collect();
    assert_eq!(fields, [(&b"Host"[..], &b"p"[..]), (b"X-A", b"1"), (b"x-a", "\u{e9}".as_bytes())]);
}

#[test]
fn the_target_may_have_any_form() {
    for (line, authority, path) in [
        ("GET http://other/v1 HTTP/1.1", Some("other"), "/v1"),
        ("OPTIONS * HTTP/1.1", None, "*"),
        ("CONNECT other:443 HTTP/1.1", Some("other:443"), ""),
    ] {
        let head = head(&format!("{line}\r\n\r\n")).head;
        assert_eq!((head.authority(), head.path()), (authority, path));
    }
}

#[test]
fn empty_lines_before_a_request_are_skipped_and_not_without_end() {
    let (head, used) = read("\r\n\r\nGET / HTTP/1.1\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.head.method, used), (Method::GET, 22));
    assert_eq!(
        RequestReader::default().read("\r\n".repeat(MAX_HEAD).as_bytes()),
        Err(BadRequest::HeadTooLarge)
    );
}

#[test]
fn the_framing_is_certain_or_refused() {
    let framing = |lines| with(lines).map(|head| head.framing);
    let malformed = |error| Err(BadRequest::Malformed(error));
    assert_eq!(framing("content-length: 12\r\n"), Ok(Framing::Length(12)));
    assert_eq!(framing("transfer-encoding: Chunked\r\n"), Ok(Framing::Chunked));
    let twice = with("content-length: 3\r\ncontent-length: 3\r\n").unwrap();
    assert_eq!(
        (twice.framing, twice.head.headers.values(KnownName::ContentLength).count()),
        (Framing::Length(3), 1)
    );
    assert_eq!(
        framing("content-length: 3\r\ncontent-length: 4\r\n"),
        malformed(ProtocolError::ContentLengthsDiffer)
    );
    assert_eq!(framing("content-length: +3\r\n"), malformed(ProtocolError::ContentLength));
    assert_eq!(
        framing("content-length: 3\r\ntransfer-encoding: chunked\r\n"),
        malformed(ProtocolError::LengthAndCoding)
    );
    assert_eq!(framing("transfer-encoding: gzip, chunked\r\n"), malformed(ProtocolError::TransferEncoding));
    let old = read("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").unwrap_err();
    assert_eq!(old, BadRequest::Malformed(ProtocolError::CodingInHttp10));
}

#[test]
fn client_decides_whether_the_connection_is_kept() {
    let keeps = |text: &str| head(text).keep_alive;
    assert!(keeps("GET / HTTP/1.1\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
    assert!(keeps("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"));
}

#[test]
fn an_expectation_is_one_of_http_1_1() {
    assert!(with("expect: 100-Continue\r\n").unwrap().expects_continue);
    assert!(!head("POST / HTTP/1.0\r\nexpect: 100-continue\r\n\r\n").expects_continue);
}

#[test]
fn ambiguous_request_is_refused() {
    let malformed = |text: &str, error| assert_eq!(read(text), Err(BadRequest::Malformed(error)), "{text:?}");
    malformed("GET / HTTP/1.1\nhost: p\n\n", ProtocolError::BareLineFeed);
    malformed("GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", ProtocolError::FoldedLine);
    malformed("GET / HTTP/1.1\r\na : b\r\n\r\n", ProtocolError::HeaderName);
    malformed("GET / HTTP/1.1\r\na: b\u{0}\r\n\r\n", ProtocolError::HeaderValue);
    malformed("GET /a b HTTP/1.1\r\n\r\n", ProtocolError::RequestLine);
}

#[test]
fn bytes_of_another_protocol_are_refused_before_a_blank_line() {
    let malformed = Err(BadRequest::Malformed(ProtocolError::RequestLine));
    assert_eq!(read("\u{16}\u{3}\u{1}"), malformed, "TLS on a plain port");
    assert_eq!(read("GET /\r\n"), malformed, "HTTP/0.9");
    assert_eq!(read("GET / HTTP/2.0\r\n"), malformed);
    assert_eq!(read("GET / HTTP/1.1\r\nhost: p\r\n"), Ok(None));
}

#[test]
fn a_head_has_limits() {
    let fields = |count| with(&"a: b\r\n".repeat(count - 1)).map(|parsed| parsed.head.headers.len());
    assert_eq!(fields(MAX_REQUEST_HEADERS), Ok(MAX_REQUEST_HEADERS));
    assert_eq!(fields(MAX_REQUEST_HEADERS + 1), Err(BadRequest::HeadTooLarge));
    let sized = |length: usize| {
        let rest = "GET / HTTP/1.1\r\na: \r\n\r\n".len();
        let text = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(length - rest));
        RequestReader::default().read(text.as_bytes()).map(|found| found.map(|(_, used)| used))
    };
    assert_eq!(sized(MAX_HEAD), Ok(Some(MAX_HEAD)));
    assert_eq!(sized(MAX_HEAD + 1), Err(BadRequest::HeadTooLarge));
    let target = format!("GET /{}", "a".repeat(MAX_HEAD));
    assert_eq!(RequestReader::default().read(target.as_bytes()), Err(BadRequest::TargetTooLong));
}
