//! A string that a regular expression matches.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

/// The largest number of repetitions of an unbounded repetition.
const MAX_REPEATS: u32 = 4_096;

/// The greatest depth of a pattern.
const MAX_DEPTH: u32 = 64;

/// The longest string that is tried.
const MAX_BYTES: usize = 16 * 1024;

/// A match of `pattern` with at least `least` bytes.
///
/// # Errors
/// Fails if it finds none, with a message for the user. Look-around and back references are not
/// supported.
pub(super) fn matching(pattern: &str, least: usize) -> Result<String, String> {
    let mut parser = ParserBuilder::new().nest_limit(MAX_DEPTH).unicode(false).utf8(false).build();
    let hir = parser.parse(pattern).map_err(|_| format!("the pattern `{pattern}` is not understood"))?;
    // Unbounded repetitions are repeated until the match is long enough.
    let extra = std::iter::successors(Some(0_u32), |extra| Some(extra * 2 + 1))
        .take_while(|extra| *extra <= MAX_REPEATS);
    for extra in extra {
        let mut found = Vec::new();
        write(&hir, extra, &mut found).ok_or_else(|| format!("the pattern `{pattern}` is too long"))?;
        if found.len() >= least {
            return String::from_utf8(found).map_err(|_| format!("the pattern `{pattern}` matches no text"));
        }
    }
    Err(format!("the pattern `{pattern}` has no match of {least} characters"))
}

/// `None` if it is too long, or if nothing matches.
fn write(hir: &Hir, extra: u32, out: &mut Vec<u8>) -> Option<()> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(class) => out.push(byte_of(class)?),
        HirKind::Repetition(repetition) => {
            let times = repetition.min.saturating_add(extra).min(repetition.max.unwrap_or(u32::MAX));
            for _ in 0..times {
                write(&repetition.sub, 0, out)?;
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, extra, out)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, extra, out))?,
        HirKind::Alternation(parts) => write(parts.first()?, extra, out)?,
    }
    (out.len() <= MAX_BYTES).then_some(())
}

/// A letter or a digit of the class, else any printable character.
fn byte_of(class: &Class) -> Option<u8> {
    let Class::Bytes(class) = class else { return None };
    let holds = |byte: &u8| class.iter().any(|range| (range.start()..=range.end()).contains(byte));
    (b'a'..=b'z').chain(b'0'..=b'9').chain(b'A'..=b'Z').chain(b' '..=b'~').chain(0..=b'\x1f').find(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_is_found() {
        for (pattern, least, expected) in [
            ("^[A-Z]{2}-\\d{4}$", 0, "AA-0000"),
            ("^(red|green)$", 0, "red"),
            ("^@[a-zA-Z0-9_]+$", 0, "@a"),
            ("^@[a-zA-Z0-9_]+$", 5, "@aaaa"),
            ("a{2,3}b?", 0, "aa"),
            ("^[^a-z0-9]$", 0, "A"),
            (".", 0, "a"),
            ("", 0, ""),
        ] {
            assert_eq!(matching(pattern, least).as_deref(), Ok(expected), "{pattern}");
        }
    }

    #[test]
    fn unsupported_pattern_is_refused() {
        for (pattern, least) in
            [("(?=a)b", 0), ("[", 0), ("^abc$", 4), ("a{100000}", 0), ("(a{1000}){1000}", 0)]
        {
            assert!(matching(pattern, least).is_err(), "{pattern}");
        }
    }
}
