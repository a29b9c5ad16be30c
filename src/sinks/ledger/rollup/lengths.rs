//! Classes of the input's length, for prices that hold above a threshold.

/// The bounds of the classes in tokens: those at which services change their prices, and those that
/// are likely to follow. A class has the inputs above its bound, up to the next one.
const BOUNDS: [u64; 18] = [
    8_000, 8_192, 16_000, 16_384, 32_000, 32_768, 64_000, 65_536, 100_000, 128_000, 131_072, 200_000,
    204_800, 256_000, 262_144, 272_000, 512_000, 1_000_000,
];

/// The class of an input; 0 up to the first bound.
pub(in crate::sinks::ledger) fn class_of(input: u64) -> u64 {
    BOUNDS.partition_point(|bound| *bound < input) as u64
}

/// The least input of a class, which exceeds the same thresholds as all of the class, if
/// [`are_bounds`].
pub(in crate::sinks::ledger) fn least_of(class: u64) -> u64 {
    let before = usize::try_from(class).ok().and_then(|class| class.checked_sub(1));
    before.map_or(0, |before| BOUNDS[before.min(BOUNDS.len() - 1)] + 1)
}

/// Returns true if no class has inputs on both sides of a threshold.
pub(in crate::sinks::ledger) fn are_bounds(thresholds: &[u64]) -> bool {
    thresholds.iter().all(|threshold| BOUNDS.contains(threshold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_input_of_a_class_exceeds_the_same_bounds_as_all() {
        assert!(BOUNDS.is_sorted());
        let inputs = BOUNDS.iter().flat_map(|bound| [bound - 1, *bound, bound + 1]);
        for input in inputs.chain([0, 1, u64::MAX]) {
            let least = least_of(class_of(input));
            assert!(least <= input);
            for bound in BOUNDS {
                assert_eq!(bound < input, bound < least, "{input} and {least} at {bound}");
            }
        }
        assert!(are_bounds(&[128_000, 272_000]) && !are_bounds(&[128_000, 128_001]) && !are_bounds(&[0]));
    }
}
