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

/// The length of the string that `text` begins with, read byte by byte.
fn naive_string(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += match (text.get(at)?, text.get(at + 1)) {
            (b'"', _) => return Some(at + 1),
            (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => 2,
            (b'\\', Some(b'u')) if text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
            (b'\\' | 0..0x20, _) => return None,
            _ => 1,
        };
    }
}

#[test]
fn strict_cursor_ends_strings_where_a_naive_reader_does() {
    let valid: [&[u8]; 8] =
        [b"\\\"", b"\\\\", b"\\n", b"\\u00e9", b"\xff", b"n", b"text", b"0123456789abcdef"];
    let odd: [&[u8]; 5] = [b"\"", b"\\", b"\\u12", b"\\x", b"\n"];
    let mut random = fastrand::Rng::with_seed(5);
    let mut ended = [0; 2];
    for round in 0..60_000 {
        let mut text = vec![b'"'];
        // The length is that of some blocks or of some strides.
        for _ in 0..random.usize(0..if round % 2 == 0 { 12 } else { 80 }) {
            let is_odd = random.u8(0..60) == 0;
            let parts = if is_odd { &odd[..] } else { &valid[..] };
            text.extend_from_slice(parts[random.usize(0..parts.len())]);
        }
        text.extend_from_slice(if round % 4 == 0 { b"" } else { b"\"" });
        text.resize(text.len() + random.usize(0..40), b' ');
        let begin = random.usize(0..40);
        let whole = [&vec![b' '; begin][..], &text].concat();
        let value = StrictCursor::new(&whole).value();
        let expected = naive_string(&text).map(|length| &text[..length]).ok_or(Malformed);
        assert_eq!(value, expected, "{}", text.escape_ascii());
        ended[usize::from(value.is_ok())] += 1;
    }
    assert!(ended.iter().all(|&count| count > 10_000), "{ended:?}");
}

#[test]
fn strict_cursor_finds_a_quote_behind_any_number_of_backslashes() {
    for before in 0..40 {
        for backslashes in 0..40 {
            for behind in [0, 1, 15, 16, 40] {
                let (text, slashes, rest) =
                    ("x".repeat(before), "\\".repeat(backslashes), " ".repeat(behind));
                let whole = format!("\"{text}{slashes}\"{rest}");
                let mut cursor = StrictCursor::new(whole.as_bytes());
                let is_end = backslashes % 2 == 0;
                assert_eq!(cursor.skip().is_ok(), is_end, "{whole}");
                assert!(!is_end || cursor.position() == before + backslashes + 2, "{whole}");
            }
        }
    }
}

#[test]
fn strict_cursor_reads_numbers_as_serde_json_does() {
    let parts = ["0", "1", "9", "12", "1234567890", "0123456789", ".", "e", "E", "+", "-", "x"];
    let mut random = fastrand::Rng::with_seed(9);
    let mut accepted = 0;
    for _ in 0..100_000 {
        let number: String = (0..random.usize(1..6)).map(|_| parts[random.usize(0..parts.len())]).collect();
        for text in [number.clone(), format!("[{number}]"), format!("{{\"a\":{number},\"b\":0}}")] {
            let expected = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            assert_eq!(accepts(&text), expected, "{text}");
            accepted += u32::from(expected);
        }
        let text = format!("{number},");
        let mut cursor = StrictCursor::new(text.as_bytes());
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit())
            && (number.len() == 1 || !number.starts_with('0'))
            && number.len() <= 19;
        assert_eq!(cursor.integer(), number.parse().ok().filter(|_| is_plain), "{text}");
    }
    assert!(accepted > 10_000, "{accepted} were numbers");
}
