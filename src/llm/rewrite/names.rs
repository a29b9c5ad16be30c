//! Patterns for the names of headers.
//!
//! Every name of every request that is not known is checked. One bit for the first three letters excludes most names
//! without a comparison with any pattern.

use crate::llm::route::Glob;

/// Names in lower case, in which `*` matches any number of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderNames {
    patterns: Vec<(Beginning, Glob)>,
    beginnings: Beginnings,
}

impl HeaderNames {
    /// Takes patterns in any case.
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        let mut names = Self::default();
        for pattern in patterns {
            let pattern = pattern.to_ascii_lowercase();
            let beginning = Beginning::of_pattern(&pattern);
            names.beginnings.add(beginning);
            names.patterns.push((beginning, Glob::new(&pattern)));
        }
        names
    }

    /// Returns true if a name in lower case matches.
    pub(super) fn beginnings(&self) -> Beginnings {
        self.beginnings
    }

    /// Returns true if a name in lower case matches.
    #[inline]
    pub fn has(&self, name: &str) -> bool {
        let letters = letters(name.as_bytes());
        self.beginnings.may_have(letters) && self.has_pattern(letters, name)
    }

    fn has_pattern(&self, letters: u32, name: &str) -> bool {
        let may_match = |beginning: &Beginning| letters & beginning.mask == beginning.letters;
        self.patterns.iter().any(|(beginning, pattern)| may_match(beginning) && pattern.matches(name))
    }
}

/// Up to three letters that every name of a pattern begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Beginning {
    letters: u32,
    /// The letters of a name that are compared.
    mask: u32,
}

/// A mask of three letters.
const THREE: u32 = 0x00ff_ffff;

impl Beginning {
    fn of_pattern(pattern: &str) -> Self {
        let literal = pattern.split('*').next().unwrap_or_default().as_bytes();
        // A pattern without a star is a name as long as itself, so that its end is compared too.
        let is_whole = literal.len() == pattern.len();
        let mask = if is_whole { THREE } else { (1 << (8 * literal.len().min(3))) - 1 };
        Self { letters: letters(literal), mask }
    }
}

/// The first three letters of a name in the low bytes, 0 after the end of a shorter one. In lower
/// case, and with hyphens for underscores, as servers behind CGI read names.
#[inline]
fn letters(name: &[u8]) -> u32 {
    let letter = |byte: u8| u32::from(if byte == b'_' { b'-' } else { byte | 0x20 });
    match name {
        [one, two, three, ..] => letter(*one) | letter(*two) << 8 | letter(*three) << 16,
        _ => name.iter().rev().fold(0, |letters, byte| letters << 8 | letter(*byte)),
    }
}

/// A set of beginnings, with false positives where bits are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beginnings([u64; 4]);

impl Beginnings {
    /// Adds the beginning of a name in lower case.
    pub(super) fn add_name(&mut self, name: &str) {
        self.add(Beginning { letters: letters(name.as_bytes()), mask: THREE });
    }

    /// Returns true if a name, in any case, may begin so.
    #[inline]
    pub(super) fn may_have_name(self, name: &[u8]) -> bool {
        self.may_have(letters(name))
    }

    fn add(&mut self, beginning: Beginning) {
        if beginning.mask == THREE {
            let (word, bit) = Self::place(beginning.letters);
            self.0[word] |= bit;
        } else {
            self.0 = [u64::MAX; 4];
        }
    }

    #[inline]
    fn may_have(self, letters: u32) -> bool {
        let (word, bit) = Self::place(letters);
        self.0[word] & bit != 0
    }

    /// One of four words and the bit in it: the highest byte of a product (Fibonacci hashing).
    #[inline]
    fn place(letters: u32) -> (usize, u64) {
        let hash = letters.wrapping_mul(0x9e37_79b1) >> 24;
        (hash as usize >> 6, 1 << (hash & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_the_patterns_do_one_by_one() {
        let lists = [
            &[][..],
            &["cf-*", "CDN-Loop", "x-forwarded-*", "forwarded", "x-real-ip", "via"],
            &["*"],
            &["x*", "ab"],
            &["*-ip"],
            &["a", "x-*-id*"],
        ];
        let names = [
            "cf-ray",
            "cf-",
            "cf",
            "cdn-loop",
            "cdn-loops",
            "x-forwarded-for",
            "x-forwarded",
            "forwarded",
            "x-real-ip",
            "x-stainless-lang",
            "via",
            "vi",
            "v",
            "a",
            "ab",
            "abc",
            "x",
            "x-a-id",
            "x-a-ids",
            "client-ip",
            "host",
        ];
        for list in lists {
            let patterns = HeaderNames::new(list.iter().map(|&pattern| pattern.to_owned()));
            for name in names {
                let naive = list.iter().any(|pattern| Glob::new(&pattern.to_lowercase()).matches(name));
                assert_eq!(patterns.has(name), naive, "{list:?} {name}");
            }
        }
    }
}
