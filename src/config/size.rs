//! Numbers of bytes in the notation of the configuration: `32MiB`, `1GB`, or plain bytes.

/// Bytes in each unit: the binary ones of IEC 80000-13, the decimal ones of the SI.
const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

/// A number of bytes: a whole number and a unit, in any case, or none.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let (false, Some((_, bytes))) = (number.is_empty(), unit) else {
        return Err(format!(
            "{text:?} is not a number of bytes: write for example \"32MiB\", \"64KiB\", \"1GB\" or 1000000"
        ));
    };
    let total = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*bytes));
    total
        .and_then(|total| usize::try_from(total).ok())
        .ok_or_else(|| format!("{text:?} is more than this machine can count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_has_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1_000),
            ("12B", 12),
            ("3kB", 3_000),
            ("2MB", 2_000_000),
            ("1GB", 1_000_000_000),
            ("64KiB", 65_536),
            ("32MiB", 33_554_432),
            ("32mib", 33_554_432),
            ("1GiB", 1_073_741_824),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn size_refusal_says_what_to_write() {
        for text in ["", "MiB", "32M", "32 MiB", "-1", "1.5GiB", "32MiBs", "0x10"] {
            let error = size(text).expect_err(text);
            assert!(error.contains("32MiB"), "{text:?}: {error}");
        }
        for text in ["99999999999999999999", "18446744073709551615GiB"] {
            assert!(size(text).unwrap_err().contains("count"), "{text}");
        }
    }
}
