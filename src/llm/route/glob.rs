//! A pattern for model names.

use std::fmt;

/// Literal text in which `*` matches any number of characters. No other character is special, and
/// case matters.
///
/// Matching takes linear time: the pieces between stars are searched from left to right, and the
/// leftmost occurrence of each is as good as any later one, so that there is no backtracking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob {
    /// The literal beginning, up to the first star.
    head: String,
    /// The other pieces, of which the last one ends the text. `None`: there is no star.
    tail: Option<(Vec<String>, String)>,
}

impl Glob {
    /// Every text is a valid pattern.
    pub fn new(pattern: &str) -> Self {
        let Some((head, rest)) = pattern.split_once('*') else {
            return Self { head: pattern.to_owned(), tail: None };
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').filter(|piece| !piece.is_empty()).map(str::to_owned).collect();
        Self { head: head.to_owned(), tail: Some((middle, last.to_owned())) }
    }

    /// The text that the pattern matches, if it is a single one.
    pub fn literal(&self) -> Option<&str> {
        self.tail.is_none().then_some(&*self.head)
    }

    /// Returns true if the pattern matches all of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let Some((middle, last)) = &self.tail else {
            return text == self.head;
        };
        let Some(mut rest) = text.strip_prefix(self.head.as_str()) else {
            return false;
        };
        for piece in middle {
            let Some((_, behind)) = rest.split_once(piece.as_str()) else {
                return false;
            };
            rest = behind;
        }
        rest.ends_with(last.as_str())
    }

    /// Returns true if some text matches both patterns. Takes the product of their lengths.
    pub fn overlaps(&self, other: &Self) -> bool {
        let [one, other] = [self, other].map(|glob| glob.to_string().chars().collect::<Vec<_>>());
        // The pieces of `other` from each place on, beside those of `one` from the place behind.
        let mut behind: Vec<bool> =
            (0..=other.len()).map(|from| other[from..].iter().all(|letter| *letter == '*')).collect();
        for letter in one.iter().rev() {
            let mut here = vec![*letter == '*' && behind[other.len()]; other.len() + 1];
            for at in (0..other.len()).rev() {
                here[at] = match (*letter, other[at]) {
                    ('*', _) => behind[at] || here[at + 1],
                    (_, '*') => here[at + 1] || behind[at],
                    (one, other) => one == other && behind[at + 1],
                };
            }
            behind = here;
        }
        behind[0]
    }
}

impl fmt::Display for Glob {
    /// The pattern, with runs of stars as one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        if let Some((middle, last)) = &self.tail {
            for piece in middle {
                write!(f, "*{piece}")?;
            }
            write!(f, "*{last}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oracle: the definition, implemented in exponential time.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skipped| naive(rest, &text[skipped..])),
            Some((literal, rest)) => {
                text.split_first().is_some_and(|(byte, text)| byte == literal && naive(rest, text))
            }
        }
    }

    /// Every word over `letters` of up to `length` letters.
    fn words(letters: &[char], length: usize) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut begin = 0;
        for _ in 0..length {
            let end = words.len();
            for at in begin..end {
                words.extend(
                    letters.iter().map(|letter| format!("{}{letter}", words[at])).collect::<Vec<_>>(),
                );
            }
            begin = end;
        }
        words
    }

    #[test]
    fn every_short_pattern_agrees_with_the_definition() {
        let texts = words(&['a', 'b'], 5);
        for pattern in words(&['a', 'b', '*'], 5) {
            let glob = Glob::new(&pattern);
            for text in &texts {
                assert_eq!(
                    glob.matches(text),
                    naive(pattern.as_bytes(), text.as_bytes()),
                    "{pattern} {text}"
                );
            }
        }
    }

    #[test]
    fn patterns_overlap_if_a_text_matches_both() {
        let texts = words(&['a', 'b'], 6);
        let patterns = words(&['a', 'b', '*'], 3);
        for one in &patterns {
            for other in &patterns {
                let (glob, second) = (Glob::new(one), Glob::new(other));
                let naive = texts.iter().any(|text| glob.matches(text) && second.matches(text));
                assert_eq!(glob.overlaps(&second), naive, "{one} {other}");
            }
        }
    }

    #[test]
    fn only_the_star_is_special() {
        assert!(Glob::new("gpt-4.1?[a]").matches("gpt-4.1?[a]"));
        assert!(!Glob::new("gpt-4.1").matches("gpt-4x1"));
        assert!(!Glob::new("gpt?").matches("gpt4"));
        assert!(!Glob::new("GPT*").matches("gpt-4o"));
        assert!(Glob::new("*\u{e9}*").matches("caf\u{e9}s"));
    }

    #[test]
    fn head_and_end_do_not_share_a_character() {
        assert!(!Glob::new("aa*aa").matches("aaa"));
        assert!(Glob::new("aa*aa").matches("aaaa"));
    }

    #[test]
    fn a_hostile_name_takes_no_longer_than_its_length() {
        let pattern = "*a".repeat(2_000) + "*b";
        assert!(!Glob::new(&pattern).matches(&"a".repeat(1_000_000)));
    }

    #[test]
    fn glob_is_shown_as_written() {
        for pattern in ["", "*", "llama*", "*-mini", "a*b*c", "plain"] {
            assert_eq!(Glob::new(pattern).to_string(), pattern);
        }
        assert_eq!(Glob::new("a**b").to_string(), "a*b");
    }
}
