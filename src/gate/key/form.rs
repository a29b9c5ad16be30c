//! The form of the keys that `streamgauge keys` makes: `sg-`, 34 characters of random bits, and 6
//! of a checksum. The checksum tells a mistyped key from an unknown one without a look at any list,
//! so that it reveals nothing about the keys that exist.

use flate2::Crc;

use crate::support::secret::Secret;

/// The random bytes of a key.
pub const RANDOM_BYTES: usize = 25;

const PREFIX: &[u8] = b"sg-";

/// The digits of [`RANDOM_BYTES`]: `62^34 > 2^200`.
const RANDOM_DIGITS: usize = 34;

/// The digits of a CRC-32: `62^6 > 2^32`.
const CHECKSUM_DIGITS: usize = 6;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The key of these random bytes.
pub fn new_key(random: [u8; RANDOM_BYTES]) -> Secret {
    let mut key = PREFIX.to_vec();
    push_base62(&mut key, &mut { random }, RANDOM_DIGITS);
    let checksum = checksum(&key);
    push_base62(&mut key, &mut checksum.to_be_bytes(), CHECKSUM_DIGITS);
    Secret::new(String::from_utf8(key).expect("the prefix and the digits are ASCII"))
}

/// Returns true if a text has the form of a key, and another checksum.
pub(in crate::gate) fn is_mistyped(text: &[u8]) -> bool {
    let has_form = text.len() == PREFIX.len() + RANDOM_DIGITS + CHECKSUM_DIGITS
        && text.starts_with(PREFIX)
        && text[PREFIX.len()..].iter().all(u8::is_ascii_alphanumeric);
    if !has_form {
        return false;
    }
    let (key, given) = text.split_at(PREFIX.len() + RANDOM_DIGITS);
    let mut expected = Vec::with_capacity(CHECKSUM_DIGITS);
    push_base62(&mut expected, &mut checksum(key).to_be_bytes(), CHECKSUM_DIGITS);
    given != expected
}

fn checksum(key: &[u8]) -> u32 {
    let mut checksum = Crc::new();
    checksum.update(key);
    checksum.sum()
}

/// Appends a number, whose bytes begin with the highest, in this number of digits.
fn push_base62(text: &mut Vec<u8>, number: &mut [u8], digits: usize) {
    let begin = text.len();
    text.resize(begin + digits, DIGITS[0]);
    for digit in text[begin..].iter_mut().rev() {
        // Long division by 62, which leaves the quotient in `number`.
        let mut rest = 0;
        for byte in number.iter_mut() {
            let dividend = rest << 8 | u32::from(*byte);
            *byte = (dividend / 62) as u8;
            rest = dividend % 62;
        }
        *digit = DIGITS[rest as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_forty_characters_behind_its_prefix() {
        for random in [[0; RANDOM_BYTES], [255; RANDOM_BYTES], std::array::from_fn(|at| at as u8 * 9)] {
            let key = new_key(random);
            let text = key.expose();
            assert_eq!(text.len(), 43, "{text}");
            assert!(!is_mistyped(text.as_bytes()), "{text}");
        }
        // Calculated with Python: 2^200 - 1 in base 62, and its `zlib.crc32`.
        assert_eq!(new_key([255; RANDOM_BYTES]).expose(), "sg-BP4biDE7quFXfAgmULag6MxClGiCLn9m4V4egOfS");
    }

    #[test]
    fn key_with_one_wrong_character_or_two_swapped_is_mistyped() {
        let key = new_key(std::array::from_fn(|at| at as u8 * 7 + 1));
        let key = key.expose().as_bytes();
        for at in PREFIX.len()..key.len() {
            for other in [b'0', b'O', b'l', b'1', b'z'] {
                let mut wrong = key.to_vec();
                wrong[at] = other;
                assert_eq!(is_mistyped(&wrong), other != key[at], "{at}");
            }
            let mut swapped = key.to_vec();
            swapped.swap(at - 1, at);
            assert_eq!(is_mistyped(&swapped), at > PREFIX.len() && key[at - 1] != key[at], "{at}");
        }
    }

    #[test]
    fn text_of_another_form_is_not_mistyped() {
        let key = new_key([3; RANDOM_BYTES]);
        let key = key.expose();
        for text in ["", "sg-", "sg-search-0123456789", &key[1..], &key[..42], &format!("{key}0")] {
            assert!(!is_mistyped(text.as_bytes()), "{text}");
        }
        assert!(!is_mistyped(format!("{}-", &key[..42]).as_bytes()), "a character that no key has");
    }
}
