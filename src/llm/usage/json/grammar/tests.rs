use super::*;

#[derive(Default)]
struct Silent;

impl Outline for Silent {
    fn key(&mut self, _: usize) {}
    fn key_end(&mut self, _: usize) {}
    fn value(&mut self, _: usize, _: Kind) {}
    fn value_end(&mut self, _: usize) {}
}

/// The verdict on a text: whole, refused, or neither. It is the same at every split.
fn verdict(text: &[u8]) -> (bool, bool) {
    let read = |pieces: &[&[u8]]| {
        let mut grammar = Grammar::new();
        pieces.iter().for_each(|piece| grammar.push(piece, &mut Silent));
        (grammar.complete(), grammar.refused())
    };
    let whole = read(&[text]);
    assert_eq!(read(&text.chunks(1).collect::<Vec<_>>()), whole);
    for at in 0..text.len() {
        assert_eq!(read(&[&text[..at], &text[at..]]), whole, "{} at {at}", text.escape_ascii());
    }
    whole
}

/// Every text of up to seven bytes that is made of these, in a list, is judged as serde_json judges
/// it.
#[test]
fn grammar_agrees_with_serde_json() {
    let words: [&str; 22] = [
        "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\\", "\\u00e", "9", "0", "-", "+", ".", "e", "true",
        "null", "fals", " ", "\n", "\t",
    ];
    let mut random = fastrand::Rng::with_seed(3);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut text = String::from("[");
        (0..random.usize(0..7)).for_each(|_| text.push_str(words[random.usize(0..words.len())]));
        text.push(']');
        let expected = serde_json::from_str::<serde_json::Value>(&text);
        let (complete, refused) = verdict(text.as_bytes());
        assert_eq!(complete, expected.is_ok(), "{text:?}");
        if let Err(e) = expected {
            assert_eq!(refused, !e.is_eof(), "{text:?}");
        }
        accepted += u32::from(complete);
    }
    assert!(accepted > 1000, "only {accepted} texts were JSON");
}

#[test]
fn grammar_refuses_control_characters_anywhere_in_strings() {
    for length in [0, 1, 7, 8, 9, 63, 64, 65, 200] {
        let text = |inside: &str| format!("[\"{}{inside}{}\"]", "x".repeat(length), "y".repeat(70));
        assert_eq!(verdict(text("").as_bytes()), (true, false));
        assert_eq!(verdict(text("\u{80}\u{7f}é").as_bytes()), (true, false));
        for wrong in ["\n", "\0", "\u{1f}"] {
            assert_eq!(verdict(text(wrong).as_bytes()), (false, true), "{length}");
        }
    }
}

#[test]
fn grammar_accepts_lone_surrogates_and_huge_numbers() {
    assert_eq!(verdict(br#"["\ud83d", "\udc00", 1e999, 123456789012345678901234567890]"#), (true, false));
}

#[test]
fn grammar_limits_nesting_as_serde_json_does() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let limit = MAX_DEPTH as usize;
    assert!(serde_json::from_str::<serde_json::Value>(&nested(limit)).is_ok());
    assert_eq!(verdict(nested(limit).as_bytes()), (true, false));
    assert!(serde_json::from_str::<serde_json::Value>(&nested(limit + 1)).is_err());
    assert_eq!(verdict(nested(limit + 1).as_bytes()), (false, true));
}

#[test]
fn grammar_allows_only_whitespace_after_the_end() {
    assert_eq!(verdict(b"\n\n  {}\r\n "), (true, false));
    assert_eq!(verdict(b"{} {}"), (false, true));
    assert_eq!(verdict(b"\xef\xbb\xbf{}"), (false, true));
}
