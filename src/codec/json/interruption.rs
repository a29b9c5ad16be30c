//! Searches for the end of plain text in a JSON string.

use memchr::memchr2;

/// The offset of the first quote or backslash, or, with `CONTROLS`, of the first control character,
/// which JSON does not allow in a string. `None` if all bytes are text.
#[inline]
pub(crate) fn interruption<const CONTROLS: bool>(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    // Keys, most values and the text between escapes are short: eight bytes at a time, without the
    // cost of setting up a search.
    while at < SHORT
        && let Some(eight) = bytes.get(at..at + 8)
    {
        let found = marks::<CONTROLS>(u64::from_le_bytes(eight.try_into().expect("eight bytes")));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = &bytes[at..];
    if rest.len() < 8 {
        let is_found = |&byte: &u8| matches!(byte, b'"' | b'\\') || (CONTROLS && byte < 0x20);
        return rest.iter().position(is_found).map(|found| at + found);
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

/// A one in every byte.
const SPREAD: u64 = 0x0101_0101_0101_0101;

/// Marks the wanted bytes of `eight` with their highest bit. Marks above the lowest one may be wrong.
#[inline]
fn marks<const CONTROLS: bool>(eight: u64) -> u64 {
    let backslash = (eight ^ (SPREAD * 0x5c)).wrapping_sub(SPREAD);
    // With its second bit flipped a quote is 0x20, the next above the control characters, which stay
    // among themselves.
    let quote = if CONTROLS {
        (eight ^ (SPREAD * 0x02)).wrapping_sub(SPREAD * 0x21)
    } else {
        (eight ^ (SPREAD * 0x22)).wrapping_sub(SPREAD)
    };
    (backslash | quote) & !eight & (SPREAD << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

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
