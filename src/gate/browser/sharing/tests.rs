use super::*;

const PAGE: (&str, &str) = ("origin", "https://app.example");

fn request(method: &str, fields: &[(&str, &str)]) -> RequestHead {
    let request = http::Request::builder().method(method).uri("/v1/chat/completions");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0.into()
}

fn sharing(method: &str, fields: &[(&str, &str)]) -> Option<Sharing> {
    let listed = ["https://app.example", "app://x"].map(|origin| Origin::parse(origin).unwrap());
    Sharing::of(&request(method, fields), &Origins::new(listed.into()))
}

fn with_page() -> Sharing {
    Sharing::With(b"https://app.example"[..].into())
}

fn response(fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::OK);
    fields.iter().for_each(|(name, value)| head.headers.append(name.as_bytes(), value.as_bytes()));
    head
}

/// All fields, with names in lower case.
fn fields(head: &ResponseHead) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap();
    let pair = |field: HeaderField<'_>| (text(field.name()).to_lowercase(), text(field.value()));
    head.headers.iter().map(pair).collect()
}

fn values(head: &ResponseHead, name: &str) -> Vec<String> {
    fields(head).into_iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect()
}

#[test]
fn listed_origin_is_returned_byte_by_byte() {
    for origin in ["https://app.example", "HTTPS://App.Example:443", "app://x"] {
        let found = sharing("POST", &[("origin", origin)]);
        assert_eq!(found, Some(Sharing::With(origin.as_bytes().into())));
    }
}

#[test]
fn response_is_shared_with_listed_pages_and_marked_for_caches() {
    for fields in [&[][..], &[("origin", "null")], &[("origin", "https://evil.example")], &[PAGE, PAGE]] {
        assert_eq!(sharing("POST", fields), None, "{fields:?}");
        assert_eq!(sharing("OPTIONS", fields), None, "{fields:?}");
        assert_eq!(sharing("GET", fields), Some(Sharing::Cacheable), "{fields:?}");
        assert_eq!(sharing("HEAD", fields), Some(Sharing::Cacheable), "{fields:?}");
    }
}

#[test]
fn preflight_is_granted_what_it_asks_for() {
    let asked = [
        PAGE,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, content-type ,,x-stainless-os"),
        ("access-control-request-private-network", "true"),
    ];
    let granted = with_page().preflight(&request("OPTIONS", &asked)).unwrap();
    assert_eq!(granted.status, StatusCode::NO_CONTENT);
    let expected = [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
        ("access-control-allow-headers", "authorization, content-type, x-stainless-os"),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "600"),
        (
            "vary",
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, \
             Access-Control-Request-Private-Network",
        ),
    ];
    assert_eq!(fields(&granted), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));

    let granted = with_page().preflight(&request("OPTIONS", &asked[..2])).unwrap();
    for name in ["access-control-allow-headers", "access-control-allow-private-network"] {
        assert!(values(&granted, name).is_empty(), "{name}");
    }
}

#[test]
fn request_that_is_no_preflight_is_granted_nothing() {
    let asked = [PAGE, ("access-control-request-method", "POST")];
    for (sharing, request) in [
        (with_page(), request("OPTIONS", &asked[..1])),
        (with_page(), request("POST", &asked)),
        (Sharing::Cacheable, request("OPTIONS", &asked)),
    ] {
        assert_eq!(sharing.preflight(&request), None);
    }
}

#[test]
fn asked_headers_are_valid_and_bounded() {
    let asked = |list: &str| {
        let fields =
            [PAGE, ("access-control-request-method", "GET"), ("access-control-request-headers", list)];
        let granted = with_page().preflight(&request("OPTIONS", &fields)).unwrap();
        values(&granted, "access-control-allow-headers").pop().unwrap_or_default()
    };
    assert_eq!(asked("a, b c, \"d\", x:y, \u{e9}, e"), "a, e");
    assert_eq!(asked("a(b), *"), "");
    assert_eq!(asked(" , "), "");
    assert_eq!(asked(&["a"; 1000].join(",")).split(", ").count(), MAX_ASKED);
    assert!(asked(&vec!["a".repeat(1000); 50].join(",")).len() <= MAX_ASKED_BYTES);
}

#[test]
fn upstream_permissions_are_replaced() {
    let mut head = response(&[
        ("Access-Control-Allow-Origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("Access-Control-Expose-Headers", "X-Request-ID"),
        ("access-control-anything", "new"),
        ("content-type", "text/plain"),
    ]);
    with_page().apply(&mut head);
    assert_eq!(
        fields(&head),
        [
            ("content-type", "text/plain"),
            ("vary", "Origin"),
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-expose-headers", EXPOSED),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );

    let mut head = response(&[("access-control-allow-origin", "*"), ("etag", "\"e\"")]);
    Sharing::Cacheable.apply(&mut head);
    assert_eq!(fields(&head), [("etag", "\"e\""), ("vary", "Origin")].map(|(a, b)| (a.into(), b.into())));
}

#[test]
fn vary_gets_origin_once_in_one_line() {
    for (lines, vary) in [
        (&[][..], &["Origin"][..]),
        (&["Accept-Encoding"], &["Accept-Encoding, Origin"]),
        (&["Accept-Encoding, ", "X-A,X-B"], &["Accept-Encoding, X-A, X-B, Origin"]),
        (&["accept-encoding", "origin"], &["accept-encoding", "origin"]),
        (&["*"], &["*"]),
        (&[""], &["Origin"]),
    ] {
        let lines: Vec<_> = lines.iter().map(|value| ("Vary", *value)).collect();
        let mut head = response(&lines);
        with_page().apply(&mut head);
        assert_eq!(values(&head, "vary"), vary, "{lines:?}");
    }
}

#[test]
fn names_of_families_are_exposed_where_a_response_has_them() {
    let mut head = response(&[
        ("X-RateLimit-Remaining-Tokens", "1"),
        ("x-ratelimit-remaining-tokens", "2"),
        ("anthropic-ratelimit-input-tokens-reset", "3"),
        ("x-streamgauge-waited-ms", "4"),
        ("x-streamgauge-id", "5"),
        ("server", "6"),
    ]);
    with_page().apply(&mut head);
    let exposed = values(&head, "access-control-expose-headers").pop().unwrap();
    let more = exposed.strip_prefix(EXPOSED).unwrap();
    assert_eq!(
        more,
        ", X-RateLimit-Remaining-Tokens, anthropic-ratelimit-input-tokens-reset, x-streamgauge-waited-ms"
    );

    let many: Vec<_> = (0..100).map(|number| format!("x-ratelimit-{number}")).collect();
    let mut head = response(&many.iter().map(|name| (&**name, "")).collect::<Vec<_>>());
    with_page().apply(&mut head);
    let exposed = values(&head, "access-control-expose-headers").pop().unwrap();
    assert_eq!(exposed.matches("x-ratelimit-").count(), MAX_OF_FAMILIES);
}

#[test]
fn upgrade_is_left_alone() {
    let mut head = ResponseHead::new(StatusCode::SWITCHING_PROTOCOLS);
    with_page().apply(&mut head);
    assert!(head.headers.is_empty());
}
