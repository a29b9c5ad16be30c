use super::*;

#[test]
fn string_decodes_as_serde_json_does() {
    for text in [r#""""#, r#""plain é""#, r#""\"\\\/\b\f\n\r\t""#, r#""\u00e9\u20AC\ud83d\ude00!""#] {
        assert_eq!(string(text.as_bytes()), serde_json::from_str(text).unwrap());
    }
}

#[test]
fn string_replaces_invalid_characters() {
    assert_eq!(string(br#""\ud83d\u0041\udc00""#).unwrap(), "\u{fffd}A\u{fffd}");
    assert_eq!(string(b"\"a\xffb\"").unwrap(), "a\u{fffd}b");
}

#[test]
fn string_that_was_cut_off_ends_at_the_cut() {
    assert_eq!(string(br#""abc"#).unwrap(), "abc");
    for cut in [&br#""ab\"#[..], br#""ab\u00"#, br#""ab\u"#] {
        assert_eq!(string(cut).unwrap(), "ab");
    }
    assert_eq!(string(b"12"), None);
}
