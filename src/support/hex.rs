//! Hexadecimal digits.

/// The value of a digit of either case.
pub fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

/// Reads exactly two digits per byte.
pub fn decode<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (digits.len() == 2 * N).then_some(bytes)
}

/// Appends two digits per byte, in lower case.
pub fn push(text: &mut String, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushed_bytes_are_decoded_again() {
        let (bytes, mut text): ([u8; 256], _) = (std::array::from_fn(|byte| byte as u8), String::new());
        push(&mut text, &bytes);
        assert_eq!(decode(text.as_bytes()), Some(bytes));
        assert_eq!(decode(text.to_uppercase().as_bytes()), Some(bytes));
    }

    #[test]
    fn other_bytes_and_lengths_are_not_decoded() {
        for text in ["", "0", "0g", "g0", "+1", "000"] {
            assert_eq!(decode::<1>(text.as_bytes()), None, "{text}");
        }
    }
}
