//! Values and keys as TOML.

/// A text as a value.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A name as a key.
pub(super) fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A number of seconds as a duration.
pub(super) fn seconds(number: f64) -> String {
    let milliseconds = (number * 1000.0).round().max(1.0) as u64;
    match milliseconds % 1000 {
        0 => quoted(&format!("{}s", milliseconds / 1000)),
        _ => quoted(&format!("{milliseconds}ms")),
    }
}

/// A text without characters that end a comment's line.
pub(super) fn comment(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_read_back() {
        for text in ["", "a", "a\"b\\c", "é\n\t\r\u{1}\u{7f}", "#{x}"] {
            let parsed: toml_edit::DocumentMut =
                format!("x = {}\n{} = 1\n", quoted(text), key(text)).parse().unwrap();
            assert_eq!(parsed["x"].as_str(), Some(text));
            assert_eq!(parsed.get(text).and_then(toml_edit::Item::as_integer), Some(1), "{text:?}");
        }
        assert_eq!((key("gpt-4_1"), key("gpt-4.1")), ("gpt-4_1".to_owned(), "\"gpt-4.1\"".to_owned()));
        assert_eq!((seconds(30.0), seconds(0.5)), ("\"30s\"".to_owned(), "\"500ms\"".to_owned()));
    }
}
