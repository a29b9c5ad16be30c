//! Numbers and names for people.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use unicode_width::UnicodeWidthChar;

/// Digits in groups of three: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part in percent, with one decimal. 0 % is nothing exactly, and 100 % is all exactly.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = (u128::from(part) * 1000 + u128::from(whole) / 2) / u128::from(whole);
    let tenths = match part {
        0 => 0,
        part if part == whole => 1000,
        _ => tenths.clamp(1, 999),
    };
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// A name without characters that a terminal would interpret, and without invisible ones, some of
/// which reverse the rest of a line.
pub fn name(name: &str) -> String {
    name.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
}

fn is_hidden(c: char) -> bool {
    matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// The number of terminal columns of a text: two for each wide character, none for a combining
/// mark.
pub fn width_of(text: &str) -> usize {
    text.chars().map(width_of_char).sum()
}

fn width_of_char(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// A name in at most `width` columns of a terminal. The middle is cut, since model names begin with
/// their family and end with their date. Combining marks stay with their characters.
pub fn shortened(name: &str, width: usize) -> String {
    if width_of(name) <= width {
        return name.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept / 2, kept - kept / 2);
    let mut taken = 0;
    let end = name.char_indices().find(|(_, c)| {
        taken += width_of_char(*c);
        taken > head
    });
    let head = &name[..end.map_or(name.len(), |(end, _)| end)];
    let mut taken = 0;
    let last = name.char_indices().rev().take_while(|(_, c)| {
        taken += width_of_char(*c);
        taken <= tail
    });
    let begin = last.filter(|(_, c)| width_of_char(*c) > 0).last();
    let tail = &name[begin.map_or(name.len(), |(begin, _)| begin)..];
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn percent_is_0_or_100_only_for_none_or_all() {
        for (part, whole, text) in [
            (0, 7, "0.0%"),
            (1, 1_000_000, "0.1%"),
            (1, 3, "33.3%"),
            (2, 3, "66.7%"),
            (999_999, 1_000_000, "99.9%"),
            (7, 7, "100.0%"),
            (0, 0, "-"),
        ] {
            assert_eq!(percent(part, whole), text, "{part} of {whole}");
        }
    }

    #[test]
    fn name_cannot_control_the_terminal() {
        assert_eq!(name("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn name_cannot_turn_its_line_around() {
        for hidden in [
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert_eq!(name(&format!("a{hidden}b")), "a\u{fffd}b", "{hidden:?}");
        }
        for whole in ["Zoe\u{308} Ünal", "通义千问-max", "مدل", "🦀"] {
            assert_eq!(name(whole), whole);
        }
    }

    #[test]
    fn long_name_is_shortened_in_the_middle() {
        assert_eq!(shortened("gpt-4.1-mini", 12), "gpt-4.1-mini");
        assert_eq!(shortened("gpt-4.1-mini", 8), "gpt…mini");
        assert_eq!(shortened("gpt-4.1-mini", 1), "…");
    }

    #[test]
    fn widths_are_columns_of_a_terminal() {
        for (text, width) in
            [("gpt", 3), ("通义千问", 8), ("e\u{301}te\u{301}", 3), ("…", 1), ("\u{fffd}", 1)]
        {
            assert_eq!(width_of(text), width, "{text}");
        }
        assert_eq!(shortened("通义千问", 8), "通义千问");
        assert_eq!(shortened("通义千问", 7), "通…问");
        assert_eq!(shortened("通义千问", 6), "通…问");
        assert_eq!(shortened("e\u{301}e\u{301}e\u{301}e\u{301}", 3), "e\u{301}…e\u{301}");
        assert_eq!(shortened("abcde\u{301}", 2), "…e\u{301}");
    }
}
