//! Numbers in as few bytes as they need: seven bits each, the lowest first.

/// Appends a number.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number of at most 64 bits. `None` if it is cut off or too large.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        *bytes = rest;
        return Some(u64::from(*first));
    }
    u64::try_from(take_long(bytes)?).ok()
}

/// Takes a number of at most 128 bits.
pub(super) fn take_long(bytes: &mut &[u8]) -> Option<u128> {
    let mut number = 0;
    for place in 0..=u128::BITS / 7 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u128::from(byte & 0x7f);
        let shifted = bits << (7 * place);
        if shifted >> (7 * place) != bits {
            return None;
        }
        number |= shifted;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_put_and_cut_ones_are_none() {
        for number in [0, 1, 127, 128, 300, u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            let mut rest = bytes.as_slice();
            assert_eq!((take_long(&mut rest), rest.len()), (Some(number), 0));
            assert_eq!(take(&mut bytes.as_slice()), u64::try_from(number).ok());
            for cut in 0..bytes.len() {
                assert_eq!(take_long(&mut &bytes[..cut]), None);
            }
        }
        assert_eq!(take_long(&mut &[0xff; 40][..]), None);
    }
}
