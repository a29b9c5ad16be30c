use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::*;
use crate::codec::h1::HeadReader;
use crate::codec::h1::server::RequestReader;

/// Names and values in every spelling, with the lines that a reader of HTTP/1.1 gets.
const LINES: [&str; 9] = [
    "Host: a",
    "X-Zeta:1",
    "x-alpha:  2 \t",
    "X-ZETA: 3",
    "Set-Cookie: b",
    "traceparent:",
    "x_under: \u{e9}",
    "SET-COOKIE: c",
    "!#$%&'*+-.^_`|~: d",
];

fn read(lines: &[&str]) -> Headers {
    let text = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", lines.join("\r\n"));
    HeadReader::new(&Method::GET).read(text.as_bytes()).unwrap().unwrap().0.head.headers
}

/// The headers as `http` has them.
fn map(lines: &[&str]) -> HeaderMap {
    let pair = |line: &&str| {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.trim_matches([' ', '\t']).as_bytes();
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap())
    };
    let mut map = HeaderMap::new();
    lines.iter().map(pair).for_each(|(name, value)| {
        map.append(name, value);
    });
    map
}

fn written(headers: &Headers) -> String {
    let mut out = Vec::new();
    headers.write(&mut out, |_| true);
    String::from_utf8(out).unwrap()
}

#[test]
fn fields_pass_in_their_order_and_spelling() {
    let headers = read(&LINES);
    // The whitespace around a value does not belong to it.
    let plain = LINES.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        format!("{name}: {}\r\n", value.trim_matches([' ', '\t']))
    });
    assert_eq!(written(&headers), plain.concat());
    assert_eq!(written(&read(&["A: b", "C: d"])), "A: b\r\nC: d\r\n");
    assert_eq!(written(&Headers::default()), "");
}

#[test]
fn lookups_agree_with_a_map() {
    let (headers, map) = (read(&LINES), map(&LINES));
    assert_eq!(headers.to_map(), map);
    assert_eq!(headers.len(), map.len());
    for &name in KnownName::ALL {
        let values: Vec<_> = headers.values(name).collect();
        assert_eq!(values, map.get_all(name.as_str()).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>());
        assert_eq!(headers.get(name), map.get(name.as_str()).map(HeaderValue::as_bytes));
        assert_eq!(headers.has(name), map.contains_key(name.as_str()), "{name:?}");
    }
    let back = Headers::from(&map);
    assert_eq!(back.to_map(), map);
}

#[test]
fn a_field_that_is_left_out_parts_the_lines() {
    let headers = read(&LINES);
    for left_out in 0..LINES.len() {
        let mut at = 0;
        let mut out = Vec::new();
        headers.write(&mut out, |_| {
            at += 1;
            at != left_out + 1
        });
        let mut kept = LINES.to_vec();
        kept.remove(left_out);
        assert_eq!(String::from_utf8(out).unwrap(), written(&read(&kept)));
    }
}

#[test]
fn set_takes_the_place_of_the_first_and_removes_the_others() {
    let mut headers = read(&["A: 1", "Host: 2", "B: 3", "host: 4"]);
    headers.set(KnownName::Host, b"x");
    assert_eq!(written(&headers), "A: 1\r\nhost: x\r\nB: 3\r\n");
    headers.set(KnownName::Date, b"y");
    assert_eq!(written(&headers), "A: 1\r\nhost: x\r\nB: 3\r\ndate: y\r\n");
}

#[test]
fn appended_head_is_like_its_fields_one_by_one() {
    let mut others = Headers::default();
    others.append(b"Host", b"2");
    others.append_own("x-streamgauge-upstream", b"a");
    let lines = ["A: 1", "host: 1"];
    let (mut together, mut apart) = (read(&lines), read(&lines));
    together.append_all(&others);
    others.iter().for_each(|field| apart.append(field.name(), field.value()));
    assert_eq!((written(&together), &together), (written(&apart), &apart));
    for known in KnownName::ALL.iter().chain([&KnownName::AnyOwn]) {
        assert!(together.values(*known).eq(apart.values(*known)), "{known:?}");
    }
    let mut first = Headers::default();
    first.append_all(&others);
    assert_eq!((&first, first.get(KnownName::Host)), (&others, Some(&b"2"[..])));
}

#[test]
fn removed_fields_are_in_no_lookup() {
    let mut headers = read(&["A: 1", "Host: 2", "Date: 3", "host: 4"]);
    headers.remove(KnownName::Host);
    assert_eq!((headers.has(KnownName::Host), headers.get(KnownName::Host)), (false, None));
    assert_eq!(written(&headers), "A: 1\r\nDate: 3\r\n");
    headers.retain(|field| field.is_named("a"));
    assert!(!headers.has(KnownName::Date));
    assert_eq!(written(&headers), "A: 1\r\n");
}

#[test]
fn replaced_values_stay_in_their_place() {
    let mut headers = read(&["ETag: \"a\"", "B: 3", "etag: W/\"b\""]);
    headers.replace(KnownName::Etag, |tag| (!tag.starts_with(b"W/")).then(|| [b"W/", tag].concat()));
    assert_eq!(written(&headers), "etag: W/\"a\"\r\nB: 3\r\netag: W/\"b\"\r\n");
}

#[test]
fn copy_is_independent_and_sensitive_values_stay_so() {
    let mut key = HeaderValue::from_static("k");
    key.set_sensitive(true);
    let map = HeaderMap::from_iter([(http::header::AUTHORIZATION, key)]);
    let mut headers = Headers::from(&map);
    let copy = headers.clone();
    headers.remove(KnownName::Authorization);
    assert!(headers.is_empty());
    assert_eq!(copy.to_map(), map);
    assert!(copy.to_map()[http::header::AUTHORIZATION].is_sensitive());
    assert!(!format!("{copy:?}").contains('k'), "values are not shown");
}

/// The bytes that a name and a value may have.
#[test]
fn reader_takes_the_bytes_that_http_takes() {
    for byte in 0..=u8::MAX {
        let read = |line: &[u8]| {
            let text = [b"HTTP/1.1 200 OK\r\n", line, b"\r\n\r\n"].concat();
            HeadReader::new(&Method::GET).read(&text).is_ok_and(|head| head.is_some())
        };
        let name = [b'a', byte, b'b'];
        if byte != b':' {
            assert_eq!(read(&[&name[..], b": x"].concat()), HeaderName::from_bytes(&name).is_ok(), "{byte}");
        }
        let value = [b'a', byte, b'b'];
        assert_eq!(read(&[b"x: ", &value[..]].concat()), HeaderValue::from_bytes(&value).is_ok(), "{byte}");
    }
}

/// The target as it is read, and as `http` reads it.
fn target(text: &[u8]) -> (Option<RequestHead>, Option<Uri>) {
    let head = [b"GET ", text, b" HTTP/1.1\r\n\r\n"].concat();
    let read = RequestReader::default().read(&head).ok().flatten().map(|(parsed, _)| parsed.head);
    (read, Uri::try_from(text).ok())
}

#[test]
fn targets_are_those_that_http_takes() {
    let mut texts: Vec<Vec<u8>> = [
        "/",
        "/?",
        "/a?b",
        "/a??b",
        "/a?b#c",
        "/a#b",
        "*",
        "http://h",
        "http://h?a",
        "http://u@h:1/a?b",
        "h:1",
        "a/b",
        "https://[::1]/",
    ]
    .map(Into::into)
    .to_vec();
    for byte in 0..=u8::MAX {
        for around in [[&b"/a"[..], b"b"], [b"/a?", b"b"], [b"/a?\xc3", b""]] {
            texts.push([around[0], &[byte], around[1]].concat());
        }
    }
    for long in [60_000, 60_001, 65_000] {
        texts.push([b"/".to_vec(), vec![b'a'; long]].concat());
    }
    for text in texts {
        let (read, uri) = target(&text);
        let shown = String::from_utf8_lossy(&text);
        // The line ends at these bytes, which the reader of lines sees first.
        if text.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            assert!(read.is_none(), "{shown:?}");
            continue;
        }
        assert_eq!(read.is_some(), uri.is_some(), "{shown:?}");
        let Some((read, uri)) = read.zip(uri) else { continue };
        assert_eq!((read.path(), read.query()), (uri.path(), uri.query()), "{shown:?}");
        assert_eq!(read.authority(), uri.authority().map(|authority| authority.as_str()), "{shown:?}");
        assert_eq!(read.is_https(), uri.scheme_str() == Some("https"));
    }
}

#[test]
fn query_is_replaced_and_the_path_stays() {
    for text in ["/v1/x?a=1", "http://h/v1/x?a=1"] {
        let mut head = target(text.as_bytes()).0.unwrap();
        head.set_query(Some("b"));
        assert_eq!((head.path(), head.query()), ("/v1/x", Some("b")));
        head.set_query(None);
        assert_eq!((head.path(), head.query()), ("/v1/x", None));
    }
}

#[test]
fn head_over_http2_has_the_parts_of_its_request() {
    let request = http::Request::post("https://h:1/v1/x?a=1").version(Version::HTTP_2).header("x-a", "1");
    let head = RequestHead::from(request.body(()).unwrap().into_parts().0);
    assert_eq!((head.method.clone(), head.version, head.is_https()), (Method::POST, Version::HTTP_2, true));
    assert_eq!((head.path(), head.query(), head.authority()), ("/v1/x", Some("a=1"), Some("h:1")));
    assert_eq!(written(&head.headers), "x-a: 1\r\n");
}
