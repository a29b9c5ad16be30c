//! Searches for the end of plain text in a JSON string.

use memchr::memchr2;
use wide::u8x16;

/// The offset of the first quote or backslash, or, with `CONTROLS`, of the first control character,
/// which JSON does not allow in a string. `None` if all bytes are text.
#[inline]
pub(crate) fn interruption<const CONTROLS: bool>(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    // Keys, most values and the text between escapes are short: a block at a time, without the cost
    // of setting up a search.
    while at < SHORT
        && let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk)
    {
        let marks = marks::<CONTROLS>(block);
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize);
        }
        at += BLOCK;
    }
    let rest = &bytes[at..];
    if rest.len() < BLOCK {
        let is_mark = |&byte: &u8| matches!(byte, b'"' | b'\\') || (CONTROLS && byte < 0x20);
        return rest.iter().position(is_mark).map(|found| at + found);
    }
    let end = memchr2(b'"', b'\\', rest);
    let stride = &rest[..end.unwrap_or(rest.len())];
    // A fold instead of a search: without an early exit it becomes vector code.
    if CONTROLS && stride.iter().fold(false, |found, &b| found | (b < 0x20)) {
        return stride.iter().position(|&b| b < 0x20).map(|i| at + i);
    }
    end.map(|end| at + end)
}

/// The length from which on the cost of setting up a search is worth it.
const SHORT: usize = 64;

/// The bytes of a block.
pub(super) const BLOCK: usize = 16;

/// The wanted bytes of a block: bit `i` is set for byte `i`.
#[inline]
pub(super) fn marks<const CONTROLS: bool>(block: &[u8; BLOCK]) -> u32 {
    let block = u8x16::new(*block);
    let is = |byte| block.simd_eq(u8x16::splat(byte));
    let found = is(b'"') | is(b'\\');
    let found = if CONTROLS { found | block.min(u8x16::splat(0x1f)).simd_eq(block) } else { found };
    found.to_bitmask()
}

/// The number of digits that a block begins with.
#[inline]
pub(super) fn digits(block: &[u8; BLOCK]) -> usize {
    let values = u8x16::new(*block) - u8x16::splat(b'0');
    let found = values.min(u8x16::splat(9)).simd_eq(values).to_bitmask();
    (!found).trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_up_to_any_other_byte() {
        for length in 0..=BLOCK {
            for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
                let mut block = *b"0123456789012345";
                block[length..].fill(byte);
                assert_eq!(digits(&block), length);
                // The following bytes do not matter.
                block[(length + 1).min(BLOCK)..].fill(b'9');
                assert_eq!(digits(&block), length, "{byte} at {length}");
            }
        }
    }

    #[test]
    fn the_first_interruption_is_found_wherever_it_stands() {
        for length in 0..200 {
            for (byte, is_control) in [(b'"', false), (b'\\', false), (b'\n', true), (0, true), (0x1f, true)]
            {
                for at in 0..length {
                    let mut text = vec![b'\xc3'; length];
                    text[at] = byte;
                    // The following bytes do not matter.
                    text[at + 1..].fill(b'"');
                    assert_eq!(interruption::<true>(&text), Some(at));
                    let quote = Some(at + usize::from(is_control)).filter(|quote| *quote < length);
                    assert_eq!(interruption::<false>(&text), quote, "{byte} at {at} of {length}");
                }
            }
            assert_eq!(interruption::<true>(&vec![0x20; length]), None);
            assert_eq!(interruption::<false>(&vec![0x7f; length]), None);
        }
    }
}
