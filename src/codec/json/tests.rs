use super::*;

/// The members of an object by the cursor, up to an error.
fn members(text: &str) -> Result<Vec<(String, &str)>, Error> {
    let mut cursor = Cursor::new(text.as_bytes());
    cursor.expect(b'{')?;
    let mut members = Vec::new();
    while let Some((key, value)) = cursor.member(members.is_empty())? {
        members.push((key.decode().into_owned(), &text[value]));
    }
    match cursor.peek() {
        None => Ok(members),
        Some(_) => Err(Error::Unexpected(cursor.position())),
    }
}

fn decoded(literal: &[u8]) -> String {
    Cursor::new(literal).string().unwrap().decode().into_owned()
}

#[test]
fn a_value_is_found_without_the_whitespace_around_it() {
    let text = " {\n\t\"a\" : 1 ,\r\"b\":[ {} , \"]\" ] ,\"c\":\"}\",\"d\":{\"e\":{\"f\":[]}},\"g\":-1.5e3} ";
    let expected =
        [("a", "1"), ("b", "[ {} , \"]\" ]"), ("c", "\"}\""), ("d", "{\"e\":{\"f\":[]}}"), ("g", "-1.5e3")];
    assert_eq!(members(text).unwrap(), expected.map(|(key, value)| (key.to_owned(), value)));
    assert_eq!(members("{}").unwrap(), []);
    assert_eq!(members(" { } ").unwrap(), []);
}

#[test]
fn a_quote_behind_a_backslash_does_not_end_a_string() {
    let text = r#"{"a":"\"}","b\"":"\\","c":["\\\"]",1]}"#;
    let expected = [("a", r#""\"}""#), ("b\"", r#""\\""#), ("c", r#"["\\\"]",1]"#)];
    assert_eq!(members(text).unwrap(), expected.map(|(key, value)| (key.to_owned(), value)));
}

#[test]
fn none_is_returned_for_a_text_that_is_not_an_object() {
    for text in [
        "",
        " ",
        "1",
        "[]",
        "\"{}\"",
        "{",
        "{\"",
        "{\"a",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{\"a\":\"\\\"",
        "{\"a\":[",
        "{\"a\":[\"",
        "{\"a\":{}",
        "{\"a\" 1}",
        "{\"a\"1}",
        "{a:1}",
        "{,}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":}",
        "{\"a\":,}",
        "{\"a\":x}",
        "{}x",
        "{}{}",
        "\u{feff}{}",
    ] {
        assert!(members(text).is_err(), "{text:?} must be refused");
    }
}

#[test]
fn the_error_says_where() {
    assert_eq!(members("{\"a\":1 \"b\":2}"), Err(Error::Unexpected(7)));
    assert_eq!(members("{\"a\":1"), Err(Error::Truncated));
}

#[test]
fn every_cut_of_a_text_is_truncated() {
    let text = r#"{"a":[1,{"b":"\u00e9\\"}],"c":null,"d":"x"}"#;
    assert!(members(text).is_ok());
    for end in 0..text.len() {
        assert_eq!(members(&text[..end]), Err(Error::Truncated), "cut at {end}");
    }
}

#[test]
fn strings_are_decoded_as_serde_json_does() {
    for literal in [
        r#""""#,
        r#""plain""#,
        "\"\u{e9}\u{1f600}\"",
        r#""\"\\\/\b\f\n\r\t""#,
        r#""\u0041\u00e9\u20AC""#,
        r#""\ud83d\ude00x""#,
        r#""a\u0000b""#,
    ] {
        assert_eq!(
            decoded(literal.as_bytes()),
            serde_json::from_str::<String>(literal).unwrap(),
            "{literal}"
        );
    }
}

#[test]
fn invalid_text_becomes_the_replacement_character() {
    for (literal, expected) in [
        (&br#""\ud83d""#[..], "\u{fffd}"),
        (br#""\ude00x""#, "\u{fffd}x"),
        (br#""\ud83d\u0041""#, "\u{fffd}A"),
        (br#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
        (br#""\u12""#, "\u{fffd}12"),
        (br#""\u+123""#, "\u{fffd}+123"),
        (br#""\x""#, "\u{fffd}x"),
        (b"\"\\\xc3\xa9\"", "\u{fffd}\u{e9}"),
        (b"\"a\xffb\"", "a\u{fffd}b"),
    ] {
        assert_eq!(decoded(literal), expected, "{:?}", String::from_utf8_lossy(literal));
    }
}

#[test]
fn keys_are_compared_by_value() {
    let key = |literal: &'static str| Cursor::new(literal.as_bytes()).string().unwrap();
    assert!(key(r#""model""#) == *"model");
    assert!(key(r#""mod\u0065l""#) == *"model");
    assert!(key(r#""Model""#) != *"model");
    assert!(key(r#""mode""#) != *"model");
}

#[test]
fn depth_costs_nothing() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(members(&deep).unwrap().len(), 1);
}

/// The length of the string that `text` begins with, read byte by byte, and whether it has escapes.
fn naive_string(text: &[u8]) -> Option<(usize, bool)> {
    let (mut at, mut has_escapes) = (1, false);
    loop {
        match text.get(at)? {
            b'"' => return Some((at + 1, has_escapes)),
            b'\\' => {
                has_escapes = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

#[test]
fn cursor_ends_strings_where_a_naive_reader_does() {
    let parts: [&[u8]; 9] =
        [b"\\\"", b"\\\\", b"\\n", b"\\", b"\n", b"\xff", b"text", b"0123456789abcdef", &[b'x'; 70]];
    let mut random = fastrand::Rng::with_seed(4);
    let mut ended = [0; 2];
    for round in 0..60_000 {
        let mut text = vec![b'"'];
        for _ in 0..random.usize(0..if round % 2 == 0 { 6 } else { 80 }) {
            // Text with escapes, or long text without.
            let part = if round % 3 == 0 { random.usize(6..9) } else { random.usize(0..parts.len()) };
            text.extend_from_slice(parts[part]);
        }
        text.extend_from_slice(if round % 5 == 0 { b"" } else { b"\"" });
        text.resize(text.len() + random.usize(0..100), b' ');
        let mut cursor = Cursor::new(&text);
        let read = cursor.string().map(|text| text.has_escapes);
        let expected = naive_string(&text);
        assert_eq!(read.ok(), expected.map(|(_, has_escapes)| has_escapes), "{}", text.escape_ascii());
        if let Some((length, _)) = expected {
            assert_eq!(cursor.position(), length, "{}", text.escape_ascii());
        }
        ended[usize::from(expected.is_some())] += 1;
    }
    assert!(ended.iter().all(|&count| count > 5_000), "{ended:?}");
}
