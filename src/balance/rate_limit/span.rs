//! Lengths of time in the notation of services.

use std::time::Duration;

/// The units, the longer names first.
const UNITS: [(&str, f64); 9] = [
    ("milliseconds", 1e-3),
    ("seconds", 1.0),
    ("minutes", 60.0),
    ("hours", 3600.0),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

/// The words before a time in a message.
const BEFORE: [&str; 3] = ["retry after ", "try again in ", "retry in "];

/// Reads `1s`, `6m0s`, `17ms`, `1h2m3.5s` or bare seconds. `None`: anything else, and negative
/// values.
pub(in crate::balance) fn parse_span(text: &str) -> Option<Duration> {
    let (span, rest) = read(text.trim())?;
    rest.is_empty().then_some(span)
}

/// The time that a message names: "Please retry after 26 seconds.", "Please try again in 6m0s."
pub(super) fn in_text(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    BEFORE.iter().find_map(|before| {
        let (_, rest) = message.split_once(before)?;
        // A full stop is not a fraction.
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != ' ').unwrap_or(rest.len());
        read(&rest[..end]).map(|(span, _)| span)
    })
}

/// A length of time, and the text behind it.
fn read(text: &str) -> Option<(Duration, &str)> {
    let (mut total, mut rest) = (0.0, text);
    let mut is_first = true;
    while let Some((number, behind)) = read_number(rest) {
        let unit = behind.trim_start();
        let found = UNITS.iter().find_map(|(name, seconds)| {
            let singular = name.strip_suffix('s').filter(|name| name.len() > 3);
            let after = unit.strip_prefix(name).or_else(|| unit.strip_prefix(singular?))?;
            (!after.starts_with(|c: char| c.is_ascii_alphabetic())).then_some((*seconds, after))
        });
        match found {
            Some((seconds, after)) => (total, rest) = (total + number * seconds, after),
            // Bare seconds.
            None if is_first => (total, rest) = (number, behind),
            None => break,
        }
        let is_bare = found.is_none();
        is_first = false;
        if is_bare {
            break;
        }
    }
    if is_first {
        return None;
    }
    Some((Duration::try_from_secs_f64(total).ok()?, rest))
}

/// Digits, possibly with a fraction.
fn read_number(text: &str) -> Option<(f64, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let fraction = text[whole..].strip_prefix('.').map_or(0, digits);
    let end = if fraction > 0 { whole + 1 + fraction } else { whole };
    if whole == 0 {
        return None;
    }
    text[..end].parse().ok().map(|number| (number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<u128> {
        parse_span(text).map(|span| span.as_millis())
    }

    #[test]
    fn spans_of_all_services_are_read() {
        for (text, expected) in [
            ("1s", 1000),
            ("6m0s", 360_000),
            ("17ms", 17),
            ("1h2m3.5s", 3_723_500),
            ("52s", 52_000),
            ("2d", 172_800_000),
            ("30", 30_000),
            ("0.25", 250),
            ("7.66s", 7660),
            (" 5 ", 5000),
            ("0", 0),
        ] {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_spans() {
        for text in ["", "s", "-1s", "-5", "1x", "1s2", "NaN", "inf", "1e9", ".5s", "1..5s", "1s-", "one"] {
            assert_eq!(millis(text), None, "{text}");
        }
        assert_eq!(millis(&"9".repeat(400)), None);
    }

    #[test]
    fn times_in_messages_are_read() {
        for (text, expected) in [
            ("Please retry after 26 seconds.", Some(26_000)),
            ("exceeded token rate limit. Please retry after 1 second. Please go here", Some(1000)),
            ("Rate limit is exceeded. Try again in 5 seconds.", Some(5000)),
            ("Limit 3, Used 3. Please try again in 20s. Visit", Some(20_000)),
            ("Please try again in 6m0s.", Some(360_000)),
            ("Please try again in 1.242s. Visit", Some(1242)),
            ("Please try again in 120ms.", Some(120)),
            ("Please retry in 38.2s, or pay", Some(38_200)),
            ("retry after 2 minutes", Some(120_000)),
            ("retry after 30", Some(30_000)),
            ("Please retry after a while", None),
            ("", None),
        ] {
            assert_eq!(in_text(text).map(|span| span.as_millis()), expected, "{text}");
        }
    }
}
