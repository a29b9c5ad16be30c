//! Patterns for the names of headers.
//!
//! Every name of every request is held against them, so most names are told apart by two of their
//! letters before any pattern is looked at.

use crate::route::Glob;

/// Names in lower case, in which `*` stands for any run of characters, also none.
#[derive(Clone, Debug, Default)]
pub struct HeaderNames {
    patterns: Vec<Glob>,
    first: Letters,
    third: Letters,
}

/// What a name may have at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Letters(u128);

impl HeaderNames {
    /// The patterns in any case.
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        let mut names = Self::default();
        for pattern in patterns {
            let pattern = pattern.to_ascii_lowercase();
            let literal = pattern.split('*').next().unwrap_or_default().as_bytes();
            // A pattern without a star is a name as long as itself.
            let is_whole = literal.len() == pattern.len();
            names.first.add(literal.first().copied(), is_whole);
            names.third.add(literal.get(2).copied(), is_whole);
            names.patterns.push(Glob::new(&pattern));
        }
        names
    }

    /// Whether the name, in lower case, is among them.
    pub fn has(&self, name: &str) -> bool {
        let letters = name.as_bytes();
        self.first.has(letters.first().copied())
            && self.third.has(letters.get(2).copied())
            && self.patterns.iter().any(|pattern| pattern.matches(name))
    }
}

impl Letters {
    /// The letter, which is none where the pattern's literal text is over: any, or where it
    /// `is_whole`, the end of a name.
    fn add(&mut self, letter: Option<u8>, is_whole: bool) {
        self.0 |= match letter {
            Some(letter) => bit(letter),
            None if is_whole => bit(END),
            None => u128::MAX,
        };
    }

    fn has(self, letter: Option<u8>) -> bool {
        self.0 & bit(letter.unwrap_or(END)) != 0
    }
}

/// Stands for the end of a name. No name has this byte.
const END: u8 = 0;

/// Names are ASCII.
fn bit(letter: u8) -> u128 {
    1 << (letter & 0x7f)
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
