//! The size of a request's input, by which its tokens are expected.
//!
//! No tokenizer runs before a request. Only text counts by its length. A string that is a file
//! counts as a fixed number of tokens: one that begins with `data:`, and the base64 fields
//! `file_data`, `input_audio.data` and Anthropic's `source.data`.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// The tokens of an image, a sound or a file.
const FILE_TOKENS: u64 = 1_500;

/// Fields that name input which the service has already. It is not in the body.
static STORED: LazyLock<[Finder<'_>; 2]> =
    LazyLock::new(|| ["\"previous_response_id\"", "\"conversation\""].map(Finder::new));

/// A part of each mark of a file: `"data`, and `file_data"`.
static DATA: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("data"));

/// The size of a request's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSize {
    /// The bytes of the body without files.
    pub text: u64,
    pub files: u64,
    /// The body names input that is stored at the service.
    pub has_stored: bool,
}

impl InputSize {
    /// Measures a body. One that is not JSON counts by its length.
    pub fn of(body: &[u8], has_stored: bool) -> Self {
        if !may_have_files(body) {
            return Self { text: body.len() as u64, files: 0, has_stored };
        }
        let (mut files, mut in_files) = (0, 0);
        for length in Strings::new(body).filter(Member::is_file).map(|member| member.value.len()) {
            files += 1;
            in_files += length as u64;
        }
        Self { text: body.len() as u64 - in_files, files, has_stored }
    }

    /// The expected tokens, with so many per byte of text.
    pub(super) fn tokens(&self, per_byte: f64) -> u64 {
        // Saturates at the largest number.
        let text = self.text as f64 * per_byte;
        let whole = text as u64;
        let text = whole.saturating_add(u64::from((whole as f64) < text));
        text.saturating_add(self.files.saturating_mul(FILE_TOKENS))
    }
}

/// Returns true if a message names input that is stored at the service, at any depth.
pub fn names_stored(message: &[u8]) -> bool {
    has(&*STORED, message)
}

/// Returns true if a string or a key of the body begins with `data`, or a key ends with `file_data`.
fn may_have_files(body: &[u8]) -> bool {
    // Most bodies have none.
    let Some(first) = DATA.find(body) else { return false };
    let mut found = DATA.find_iter(&body[first..]).map(|at| &body[..first + at]);
    found.any(|before| before.ends_with(b"\"") || before.ends_with(b"file_"))
}

fn has(marks: &[Finder<'_>], text: &[u8]) -> bool {
    marks.iter().any(|mark| mark.find(text).is_some())
}

/// A string in JSON, with the keys that lead to it.
struct Member<'a> {
    value: &'a [u8],
    /// The key of the string. Empty in an array.
    key: &'a [u8],
    /// The key of the object that contains it.
    parent: &'a [u8],
}

impl Member<'_> {
    fn is_file(&self) -> bool {
        match self.key {
            b"file_data" => true,
            b"data" if matches!(self.parent, b"input_audio" | b"source") => true,
            _ => self.value.starts_with(b"data:"),
        }
    }
}

/// The strings of a JSON text that are values. Invalid JSON gives some strings or none.
struct Strings<'a> {
    body: &'a [u8],
    at: usize,
    /// The key of each open object or array.
    open: Vec<&'a [u8]>,
    /// The key before the next value.
    key: &'a [u8],
}

/// The deepest nesting whose keys are known. Deeper strings have no keys.
const MOST_OPEN: usize = 64;

impl<'a> Strings<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0, open: Vec::new(), key: b"" }
    }

    /// The string that begins behind the quote at `begin`, and the place behind it.
    fn string(&self, begin: usize) -> Option<(&'a [u8], usize)> {
        let mut at = begin;
        loop {
            at += memchr::memchr2(b'"', b'\\', self.body.get(at..)?)?;
            if self.body[at] == b'"' {
                return Some((&self.body[begin..at], at + 1));
            }
            at += 2;
        }
    }

    fn is_key(&self) -> bool {
        let rest = &self.body[self.at..];
        rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        loop {
            let byte = *self.body.get(self.at)?;
            self.at += 1;
            match byte {
                b'{' | b'[' if self.open.len() < MOST_OPEN => {
                    self.open.push(self.key);
                    self.key = b"";
                }
                b'}' | b']' => {
                    self.open.pop();
                    self.key = b"";
                }
                b',' => self.key = b"",
                b'"' => {
                    let (value, behind) = self.string(self.at)?;
                    self.at = behind;
                    if self.is_key() {
                        self.key = value;
                    } else {
                        let parent = self.open.last().copied().unwrap_or_default();
                        return Some(Member { value, key: self.key, parent });
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(body: &str) -> (u64, u64) {
        let InputSize { text, files, .. } = InputSize::of(body.as_bytes(), false);
        (text, files)
    }

    #[test]
    fn files_are_counted_by_number_and_not_by_length() {
        let long = "A".repeat(10_000);
        for (body, files) in [
            (r#"{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,LONG"}}]}"#, 1),
            (r#"{"input_audio":{"format":"wav","data":"LONG"}}"#, 1),
            (r#"{"file":{"file_data":"LONG","filename":"a.pdf"}}"#, 1),
            (r#"{"source":{"type":"base64","data" : "LONG"},"other":["data:LONG","x\"data:"]}"#, 2),
        ] {
            let (text, found) = size(&body.replace("LONG", &long));
            assert_eq!(found, files, "{body}");
            assert!(text < body.len() as u64, "{body}: {text}");
        }
    }

    #[test]
    fn text_counts_by_its_length() {
        for body in [
            r#"{"content":"no file"}"#,
            r#"{"content":"it says \"data:x\" inside","data":"text","a":{"data":"text"}}"#,
            r#"{"data":{"source":"x"},"source":["data"]}"#,
            "not JSON, but \"data",
            "\"data\\",
            "",
        ] {
            assert_eq!(size(body), (body.len() as u64, 0), "{body}");
        }
    }

    #[test]
    fn deep_nesting_is_bounded() {
        let body = format!("{}\"data:x\"", "[".repeat(100_000));
        assert_eq!(size(&body).1, 1);
    }

    #[test]
    fn no_prefix_of_a_body_panics() {
        let body = br#"{"source":{"data":"a\\\"b"},"x":["data:1",{"file_data":"y"}]}"#;
        for end in 0..=body.len() {
            let size = InputSize::of(&body[..end], false);
            assert!(size.text <= end as u64);
        }
        assert_eq!(InputSize::of(body, false).files, 3);
    }

    #[test]
    fn input_that_is_not_in_the_body_is_noticed() {
        for (body, has_stored) in [
            (r#"{"previous_response_id":"resp_1","input":"x"}"#, true),
            (r#"{"conversation": "conv_1","source":{"data":"x"}}"#, true),
            (r#"{"input":"a conversation"}"#, false),
        ] {
            assert_eq!(names_stored(body.as_bytes()), has_stored, "{body}");
        }
    }

    #[test]
    fn tokens_are_those_of_the_text_and_of_the_files() {
        let size = |text, files| InputSize { text, files, has_stored: false };
        assert_eq!(size(10_000, 2).tokens(1.0 / 3.5), 2_858 + 3_000);
        assert_eq!(size(u64::MAX, u64::MAX).tokens(1.0), u64::MAX);
    }
}
