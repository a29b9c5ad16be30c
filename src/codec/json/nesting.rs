//! Finds the end of an array or object, 64 bytes at a time.
//!
//! The quotes of 64 bytes tell which of them lie in strings; only brackets outside count. They are
//! not paired. A backslash outside of a string is refused.

use memchr::memchr2;

use super::Error;
use super::stride::{STRIDE, Stride, below};

/// The length of the array or object that `text` begins with.
pub(super) fn length(text: &[u8]) -> Result<usize, Error> {
    let (mut nesting, mut rest) = (Nesting::default(), text);
    let mut padded = [b' '; STRIDE];
    loop {
        let (bytes, behind) = match rest.split_first_chunk() {
            Some(split) => split,
            None => {
                padded[..rest.len()].copy_from_slice(rest);
                (&padded, &b""[..])
            }
        };
        let from = text.len() - rest.len();
        match nesting.read(bytes) {
            Found::End(length) => return Ok(from + length),
            Found::StrayBackslash(at) => return Err(Error::Unexpected(from + at)),
            Found::Nothing => rest = behind,
            // Such text is often long, and this search is quicker.
            Found::PlainText => rest = &behind[memchr2(b'"', b'\\', behind).unwrap_or(behind.len())..],
        }
        if rest.is_empty() {
            return Err(Error::Truncated);
        }
    }
}

/// The finding in a stride.
enum Found {
    /// The closing bracket, before this offset.
    End(usize),
    StrayBackslash(usize),
    Nothing,
    /// The text of a string, without its end.
    PlainText,
}

/// The state of an array or object between strides.
#[derive(Default)]
struct Nesting {
    /// Open brackets.
    depth: usize,
    /// 1 if the next byte is escaped, else 0.
    first: u64,
    /// All bits are set if the next byte is in a string, else none.
    inside: u64,
}

impl Nesting {
    #[inline(always)]
    fn read(&mut self, bytes: &[u8; STRIDE]) -> Found {
        let stride = Stride::of::<false>(bytes);
        if self.inside != 0 && stride.quotes | stride.backslashes | self.first == 0 {
            return Found::PlainText;
        }
        let quotes = stride.quotes & !stride.escaped(&mut self.first);
        if quotes == 0 && self.inside != 0 {
            return Found::Nothing;
        }
        // From each opening quote on, up to the closing one.
        let strings = parity(quotes) ^ self.inside;
        self.inside = if strings >> (STRIDE - 1) == 1 { u64::MAX } else { 0 };
        let stray = stride.backslashes & !strings;
        let (opening, closing) = Stride::brackets(bytes);
        // The first of them is the opening one of the value.
        let mut brackets = (opening | closing) & !strings & below(stray);
        while brackets != 0 {
            let at = brackets.trailing_zeros() as usize;
            if opening >> at & 1 == 1 {
                self.depth += 1;
            } else if self.depth > 1 {
                self.depth -= 1;
            } else {
                return Found::End(at + 1);
            }
            brackets &= brackets - 1;
        }
        if stray == 0 { Found::Nothing } else { Found::StrayBackslash(stray.trailing_zeros() as usize) }
    }
}

/// Each bit is the parity of the bits up to it.
#[inline(always)]
fn parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte.
    fn naive(text: &[u8]) -> Result<usize, Error> {
        let (mut depth, mut is_inside, mut at) = (0, false, 0);
        while let Some(&byte) = text.get(at) {
            match (byte, is_inside) {
                (b'"', _) => is_inside = !is_inside,
                (b'\\', true) => at += 1,
                (b'\\', false) => return Err(Error::Unexpected(at)),
                (b'{' | b'[', false) => depth += 1,
                (b'}' | b']', false) if depth == 1 => return Ok(at + 1),
                (b'}' | b']', false) => depth -= 1,
                _ => {}
            }
            at += 1;
        }
        Err(Error::Truncated)
    }

    #[test]
    fn length_agrees_with_a_naive_reader() {
        let parts: [&[u8]; 16] = [
            b"{",
            b"[",
            b"}",
            b"]",
            b"\"",
            b"\\\"",
            b"\\\\",
            b"\\",
            b"{}",
            b"\"text\"",
            b"\"\\u00e9{\\\"\"",
            b",",
            b"\xff",
            b"0123456789",
            b"\"[[{\"",
            &[b'x'; 140],
        ];
        let mut random = fastrand::Rng::with_seed(8);
        let mut results = [0; 3];
        for round in 0..100_000 {
            let mut text = vec![if round % 2 == 0 { b'{' } else { b'[' }];
            for _ in 0..random.usize(0..40) {
                // Mostly strings and opening brackets, so that most are long.
                let few = [0, 1, 2, 8, 9, 10, 11, 13, 14, 15];
                let is_any = random.u8(0..24) == 0;
                let part =
                    if is_any { random.usize(0..parts.len()) } else { few[random.usize(0..few.len())] };
                text.extend_from_slice(parts[part]);
            }
            text.resize(text.len() + random.usize(0..100), b']');
            let found = length(&text);
            assert_eq!(found, naive(&text), "{}", text.escape_ascii());
            results[match found {
                Ok(_) => 0,
                Err(Error::Truncated) => 1,
                Err(Error::Unexpected(_)) => 2,
            }] += 1;
        }
        assert!(results.iter().all(|count| *count > 2_000), "{results:?}");
    }

    #[test]
    fn length_is_that_up_to_the_last_bracket_at_every_offset() {
        for before in 0..130 {
            for behind in [0, 1, 63, 64, 65] {
                let inside = format!("[\"{}\",{{\"a\":[]}}]", "}".repeat(before));
                let text = format!("{inside}{}", "]".repeat(behind));
                assert_eq!(length(text.as_bytes()), Ok(inside.len()), "{text}");
                for cut in 0..inside.len() {
                    assert_eq!(length(&text.as_bytes()[..cut]), Err(Error::Truncated), "{text}");
                }
            }
        }
    }
}
