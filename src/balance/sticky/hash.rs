//! A hash that is the same in all processes and releases, so that replicas agree on members.
//!
//! Not for maps of names that clients choose: it has no secret.

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const START: u64 = 0x2545_f491_4f6c_dd1d;

/// Hashes a few values, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Hash64(u64);

impl Hash64 {
    pub(super) fn new() -> Self {
        Self(START)
    }

    /// Adds bytes, and their number, so that two texts differ from one that joins them.
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let state = words.iter().fold(self.0, |state, word| fold(state ^ u64::from_le_bytes(*word)));
        let state = fold(state ^ filled_up(rest, bytes.last_chunk()));
        Self(fold(state ^ bytes.len() as u64))
    }

    pub(super) fn word(self, word: u64) -> Self {
        Self(fold(self.0 ^ word))
    }

    pub(super) fn finish(self) -> u64 {
        mix(self.0)
    }
}

/// Fewer than eight bytes, filled up with zeros. `last`: the last eight bytes of the text, if it has as
/// many: they spare a copy.
fn filled_up(rest: &[u8], last: Option<&[u8; 8]>) -> u64 {
    match last {
        _ if rest.is_empty() => 0,
        Some(last) => u64::from_le_bytes(*last) >> (u64::BITS as usize - 8 * rest.len()),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

fn fold(word: u64) -> u64 {
    let product = u128::from(word ^ START) * u128::from(MULTIPLIER);
    product as u64 ^ (product >> 64) as u64
}

/// Spreads all bits over all others (the finalizer of MurmurHash3).
#[inline]
pub(super) fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ word >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ word >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(texts: &[&[u8]]) -> u64 {
        texts.iter().fold(Hash64::new(), |hash, text| hash.bytes(text)).finish()
    }

    /// Another value here moves every conversation of every fleet once.
    #[test]
    fn hash_of_a_text_never_changes() {
        assert_eq!(hash(&[b"conversation-1"]), 0x6761_2301_4430_8bbd);
        assert_eq!(Hash64::new().word(7).finish(), 0x5309_2cd0_8067_a4cb);
    }

    #[test]
    fn hash_of_each_length_is_that_of_words_filled_up_with_zeros() {
        let text = b"a text of thirty-one bytes, hm.";
        for length in 0..=text.len() {
            let text = &text[..length];
            let mut whole = [0; 40];
            whole[..length].copy_from_slice(text);
            let words = whole.as_chunks::<8>().0.iter().take(length / 8 + 1);
            let filled = words.fold(Hash64::new(), |hash, word| hash.word(u64::from_le_bytes(*word)));
            assert_eq!(hash(&[text]), filled.word(length as u64).finish(), "{length}");
        }
    }

    #[test]
    fn boundaries_of_texts_count() {
        let hashes = [
            hash(&[b"ab", b"c"]),
            hash(&[b"a", b"bc"]),
            hash(&[b"abc"]),
            hash(&[b"abc", b""]),
            hash(&[b"abc\0"]),
        ];
        let distinct: std::collections::HashSet<_> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), hashes.len());
    }

    #[test]
    fn each_bit_of_a_text_changes_half_of_the_hash() {
        let text = *b"a key of twenty-one b";
        let whole = hash(&[&text]);
        for bit in 0..text.len() * 8 {
            let mut other = text;
            other[bit / 8] ^= 1 << (bit % 8);
            let changed = (hash(&[&other]) ^ whole).count_ones();
            assert!((12..=52).contains(&changed), "bit {bit} changes {changed}");
        }
    }
}
