//! Predicts the place of an event's text: most events of a stream equal the one before, except for
//! the text.

use std::ops::Range;

use memchr::{memchr2, memmem};

use super::extracted::Extracted;
use super::output::Part;

/// The bytes before the only text of an event.
///
/// These bytes contain unescaped quotes and a colon, so they match only in front of another string under
/// the same key, never inside of a string. They occurred once in the event, so there is no other
/// such text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    sign: [u8; Anchor::LENGTH],
    /// The offset of the text in the event's data, at least [`Anchor::LENGTH`].
    at: u32,
    part: Part,
}

impl Anchor {
    /// Bytes before a text that identify it: a key or two, as in `elta":{"content":"`.
    pub(super) const LENGTH: usize = 16;

    /// Learns from a parsed event. `None` if it has no text, several texts, or an ambiguous one
    /// (some services repeat the whole text beside the delta).
    pub(super) fn learn(extracted: &Extracted, data: &[u8]) -> Option<Self> {
        let (part, at) =
            extracted.lone_text().filter(|(part, _)| !matches!(part, Part::Json | Part::Name))?;
        let sign: [u8; Anchor::LENGTH] = data.get(at.checked_sub(Self::LENGTH)?..at)?.try_into().ok()?;
        (memmem::find_iter(data, &sign).count() == 1).then_some(Self { sign, at: at.try_into().ok()?, part })
    }

    /// The text of a similar event; never an empty one, which may have another text beside it.
    #[inline]
    pub(super) fn find(&mut self, data: &[u8]) -> Option<(Part, Range<usize>)> {
        let mut at = self.at as usize;
        if data.get(at - Self::LENGTH..at) != Some(&self.sign[..]) {
            at = memmem::find(data, &self.sign)? + Self::LENGTH;
            self.at = at.try_into().ok()?;
        }
        let end = end(&data[at..])?;
        (end > 0).then(|| (self.part, at..at + end))
    }
}

/// The end of the string that begins here.
#[inline]
fn end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::Scan;
    use super::*;

    fn learn(event: &str) -> Option<Anchor> {
        let extracted = Scan::whole(event.as_bytes(), None, false).unwrap();
        Anchor::learn(&extracted, event.as_bytes())
    }

    fn find(anchor: &mut Anchor, event: &'static str) -> Option<&'static str> {
        anchor.find(event.as_bytes()).map(|(_, range)| &event[range])
    }

    #[test]
    fn anchor_finds_a_text_at_or_near_the_last_place() {
        let mut anchor = learn(r#"{"n":9,"choices":[{"delta":{"content":"Hello"}}]}"#).unwrap();
        for (event, text) in [
            (r#"{"n":9,"choices":[{"delta":{"content":" world"}}]}"#, Some(" world")),
            (r#"{"n":10,"choices":[{"delta":{"content":"said \"x\\\""}}]}"#, Some(r#"said \"x\\\""#)),
            (r#"{"n":10,"choices":[{"delta":{"content":"}}]}"#, None),
            (r#"{"n":10,"choices":[{"delta":{"content":""}}]}"#, None),
            (r#"{"n":10,"choices":[{"delta":{"role":"assistant","content":"x"}}]}"#, None),
            (r#"{"n":"elta\":{\"content\":\"x\"","choices":[]}"#, None),
            ("{}", None),
        ] {
            assert_eq!(find(&mut anchor, event), text, "{event}");
        }
    }

    #[test]
    fn anchor_ignores_events_with_several_texts_or_none() {
        for event in [
            r#"{"choices":[{"delta":{"content":"x","reasoning":"y"}}]}"#,
            r#"{"choices":[{"delta":{"content":"x"}},{"delta":{"content":"x"}}]}"#,
            r#"{"choices":[{"delta":{"role":"assistant"}}]}"#,
            r#"{"choices":[{"message":{"role":"assistant","content":"x y"},"delta":{"role":"assistant","content":"y"}}]}"#,
            "{}",
        ] {
            assert_eq!(learn(event), None, "{event}");
        }
    }
}
