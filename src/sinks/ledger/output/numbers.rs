//! Numbers and names for people.

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

/// A part in percent, with one decimal. Only nothing is 0, and only all is 100.
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

/// A name that came from somewhere, without what a terminal would obey.
pub fn name(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A name in at most `width` characters: the middle gives way, since model names begin with their
/// family and end with their date.
pub fn shortened(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept / 2, kept - kept / 2);
    let head: String = name.chars().take(head).collect();
    let tail: String = name.chars().skip(length - tail).collect();
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
    fn long_name_is_shortened_in_the_middle() {
        assert_eq!(shortened("gpt-4.1-mini", 12), "gpt-4.1-mini");
        assert_eq!(shortened("gpt-4.1-mini", 8), "gpt…mini");
        assert_eq!(shortened("gpt-4.1-mini", 1), "…");
    }
}
