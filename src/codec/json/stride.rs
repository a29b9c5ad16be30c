//! The bytes that matter in 64 bytes of a string, as bits.
//!
//! A quote ends a string unless an odd number of backslashes precedes it. Arithmetic on the bits of
//! 64 bytes finds the escaped ones, so that text with escapes costs hardly more than text without.

use wide::u8x16;

use super::interruption::BLOCK;

/// The bytes of a stride.
pub(super) const STRIDE: usize = 64;

/// Bit `i` is set for byte `i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stride {
    pub(super) quotes: u64,
    pub(super) backslashes: u64,
    /// Control characters, with `CONTROLS`.
    pub(super) controls: u64,
}

impl Stride {
    #[inline(always)]
    pub(super) fn of<const CONTROLS: bool>(bytes: &[u8; STRIDE]) -> Self {
        let mut stride = Self::default();
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        for (at, block) in blocks.iter().enumerate() {
            let block = u8x16::new(*block);
            let bits = |found: u8x16| u64::from(found.to_bitmask()) << (at * BLOCK);
            stride.quotes |= bits(block.simd_eq(u8x16::splat(b'"')));
            stride.backslashes |= bits(block.simd_eq(u8x16::splat(b'\\')));
            if CONTROLS {
                stride.controls |= bits(block.min(u8x16::splat(0x1f)).simd_eq(block));
            }
        }
        stride
    }

    /// The opening and the closing brackets of both forms.
    #[inline(always)]
    pub(super) fn brackets(bytes: &[u8; STRIDE]) -> (u64, u64) {
        let (mut opening, mut closing) = (0, 0);
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        for (at, block) in blocks.iter().enumerate() {
            // `[` and `{` differ in this bit only, and so do `]` and `}`.
            let block = u8x16::new(*block) | u8x16::splat(0x20);
            let bits = |found: u8x16| u64::from(found.to_bitmask()) << (at * BLOCK);
            opening |= bits(block.simd_eq(u8x16::splat(b'{')));
            closing |= bits(block.simd_eq(u8x16::splat(b'}')));
        }
        (opening, closing)
    }

    /// The bytes behind a backslash that is not escaped itself. `first`: 1 if the first byte is one
    /// of them, else 0; set for the byte behind the stride.
    #[inline(always)]
    pub(super) fn escaped(self, first: &mut u64) -> u64 {
        let behind = self.backslashes << 1 | *first;
        if self.backslashes & behind != 0 {
            return self.escaped_in_runs(first);
        }
        *first = self.backslashes >> (STRIDE - 1);
        behind
    }

    /// The same where backslashes are escaped.
    #[inline(never)]
    fn escaped_in_runs(self, first: &mut u64) -> u64 {
        /// The bits of even places.
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let backslashes = self.backslashes & !*first;
        let behind = backslashes << 1 | *first;
        // The addition carries a bit behind the end of each run of backslashes that begins at an
        // odd place.
        let odd_starts = backslashes & !EVEN & !behind;
        let (carried, is_carried) = odd_starts.overflowing_add(backslashes);
        *first = u64::from(is_carried);
        (EVEN ^ carried << 1) & behind
    }
}

/// The bits below the lowest one of `bits`, or all of them.
#[inline(always)]
pub(super) fn below(bits: u64) -> u64 {
    (bits & bits.wrapping_neg()).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stride_agrees_with_a_naive_reader() {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..20_000 {
            // Runs of backslashes of all lengths.
            let share = round % 10;
            let mut pick = || match random.u32(0..10) {
                0 => b'"',
                1 => b'\x1f',
                2 => b' ',
                3 => b'\xff',
                at if at < share => b'\\',
                _ => b'x',
            };
            let text: [u8; 2 * STRIDE] = std::array::from_fn(|_| pick());
            let (mut first, mut is_escaped) = (0, false);
            for bytes in text.as_chunks::<STRIDE>().0 {
                let stride = Stride::of::<true>(bytes);
                let escaped = stride.escaped(&mut first);
                for (at, byte) in bytes.iter().enumerate() {
                    let has = |bits: u64| bits >> at & 1 == 1;
                    assert_eq!(has(stride.quotes), *byte == b'"');
                    assert_eq!(has(stride.backslashes), *byte == b'\\');
                    assert_eq!(has(stride.controls), *byte < 0x20);
                    assert_eq!(has(escaped), is_escaped, "{} at {at}", text.escape_ascii());
                    is_escaped = *byte == b'\\' && !is_escaped;
                }
                assert_eq!(first, u64::from(is_escaped));
                assert_eq!(Stride::of::<false>(bytes), Stride { controls: 0, ..stride });
            }
        }
    }

    #[test]
    fn stride_finds_brackets_and_no_other_byte() {
        for byte in 0..=u8::MAX {
            let mut bytes = [b'x'; STRIDE];
            bytes[usize::from(byte) % STRIDE] = byte;
            let bit = 1 << (usize::from(byte) % STRIDE);
            let expected = match byte {
                b'{' | b'[' => (bit, 0),
                b'}' | b']' => (0, bit),
                _ => (0, 0),
            };
            assert_eq!(Stride::brackets(&bytes), expected, "{byte}");
        }
    }

    #[test]
    fn below_covers_the_bits_before_the_first() {
        assert_eq!(below(0), u64::MAX);
        assert_eq!(below(1), 0);
        assert_eq!(below(0b1010_0000), 0b1_1111);
        assert_eq!(below(1 << 63), u64::MAX >> 1);
    }
}
