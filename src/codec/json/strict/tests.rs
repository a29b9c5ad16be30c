use super::*;

/// Returns true if the text is one JSON value.
fn accepts(text: &str) -> bool {
    let mut cursor = StrictCursor::new(text.as_bytes());
    cursor.skip().is_ok() && cursor.end().is_ok()
}

#[test]
fn strict_cursor_accepts_what_serde_json_accepts() {
    let parts =
        ["{", "}", "[", "]", ",", ":", "\"a\"", "\"", " ", "0", "-1", "2.5", "null", "tru", "\\u00e9"];
    let mut random = fastrand::Rng::with_seed(3);
    let mut accepted = 0;
    for _ in 0..200_000 {
        let text: String = (0..random.usize(1..9)).map(|_| parts[random.usize(0..parts.len())]).collect();
        let expected = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        assert_eq!(accepts(&text), expected, "{text}");
        accepted += u32::from(expected);
    }
    assert!(accepted > 1_000, "{accepted} were JSON");
}

#[test]
fn strict_cursor_refuses_malformed_scalars() {
    for (text, expected) in [
        ("0", true),
        ("-0", true),
        ("10.01", true),
        ("1E-2", true),
        ("01", false),
        ("-", false),
        (".5", false),
        ("1.", false),
        ("1e", false),
        ("1e+", false),
        ("+1", false),
        ("nul", false),
        ("nulll", false),
        ("True", false),
        (r#""\/\b\f\n\r\t\"\\""#, true),
        (r#""\ud800""#, true),
        (r#""\u12g4""#, false),
        (r#""\u12"#, false),
        (r#""\x""#, false),
        ("\"a\nb\"", false),
        ("\"\u{7f}\"", true),
        (r#""a"#, false),
        (r#""\"#, false),
        ("", false),
        (" ", false),
        ("1 1", false),
    ] {
        assert_eq!(accepts(text), expected, "{text}");
    }
}

#[test]
fn strict_cursor_refuses_nesting_beyond_its_limit() {
    for (depth, expected) in [(MAX_DEPTH as usize, true), (MAX_DEPTH as usize + 1, false)] {
        assert_eq!(accepts(&("[".repeat(depth) + &"]".repeat(depth))), expected);
        assert_eq!(accepts(&("{\"a\":".repeat(depth) + "1" + &"}".repeat(depth))), expected);
    }
}

#[test]
fn strict_cursor_walks_members_and_items() {
    let mut cursor = StrictCursor::new(b" { \"a\" : [ 1 ,\"x\"],\"b\\n\":{} }\n");
    assert_eq!(cursor.peek(), b'{');
    cursor.open().unwrap();
    assert_eq!(cursor.first_key(), Ok(Some(&b"a"[..])));
    assert_eq!(cursor.peek(), b'[');
    cursor.open().unwrap();
    assert_eq!(cursor.item(true), Ok(true));
    assert_eq!(cursor.value(), Ok(&b"1"[..]));
    assert_eq!(cursor.item(false), Ok(true));
    assert_eq!(cursor.value(), Ok(&b"\"x\""[..]));
    assert_eq!(cursor.item(false), Ok(false));
    assert_eq!(cursor.next_key(), Ok(Some(&b"b\\n"[..])));
    assert_eq!(cursor.value(), Ok(&b"{}"[..]));
    assert_eq!(cursor.next_key(), Ok(None));
    assert_eq!(cursor.end(), Ok(()));
}

#[test]
fn integer_is_passed_where_it_ends_at_once() {
    for (text, expected) in [
        ("0,", Some(0)),
        ("78}", Some(78)),
        ("9999999999999999999,", Some(9_999_999_999_999_999_999)),
        ("10000000000000000000,", None),
        ("00,", None),
        ("07}", None),
        ("1", None),
        ("1 ,", None),
        (" 1,", None),
        ("1.0,", None),
        ("1e3,", None),
        ("-1,", None),
        ("\"1\",", None),
        ("null,", None),
        (",", None),
        ("", None),
    ] {
        let mut cursor = StrictCursor::new(text.as_bytes());
        assert_eq!(cursor.integer(), expected, "{text}");
        let passed = if expected.is_some() { text.len() - 1 } else { 0 };
        assert_eq!(cursor.position(), passed, "{text}");
    }
}

#[test]
fn strict_cursor_reads_keys_of_any_length_and_form() {
    for length in 0..70 {
        let key = "k".repeat(length);
        for (text, expected) in [
            (format!("{{\"a\":1,\"{key}\":2}}"), true),
            (format!("{{\"a\":1,\"{key}\":2{}}}", " ".repeat(40)), true),
            (format!("{{\"a\":1 ,\n\"{key}\" :2{}}}", " ".repeat(40)), true),
            (format!("{{\"a\":1,\"{key}\"2{}}}", " ".repeat(40)), false),
            (format!("{{\"a\":1,\"{key}\n\":2{}}}", " ".repeat(40)), false),
            (format!("{{\"a\":1,{key}\":2{}}}", " ".repeat(40)), false),
            (format!("{{\"a\":1\"{key}\":2{}}}", " ".repeat(40)), false),
        ] {
            assert_eq!(accepts(&text), expected, "{text}");
        }
        let text = format!("{{\"a\":1,\"{key}\":2,\"b\\\"{key}\":3{}}}", " ".repeat(40));
        let mut cursor = StrictCursor::new(text.as_bytes());
        cursor.open().unwrap();
        assert_eq!(cursor.first_key(), Ok(Some(&b"a"[..])));
        cursor.skip().unwrap();
        assert_eq!(cursor.next_key(), Ok(Some(key.as_bytes())));
        assert_eq!(cursor.value(), Ok(&b"2"[..]));
        assert_eq!(cursor.next_key(), Ok(Some(format!("b\\\"{key}").as_bytes())));
        cursor.skip().unwrap();
        assert_eq!(cursor.next_key(), Ok(None));
    }
}
