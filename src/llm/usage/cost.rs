//! The cost of a response as the service reports it, in US dollars.

/// The longest amount that is accepted, in bytes.
const LIMIT: usize = 40;

/// The decimals of a computed amount.
const DECIMALS: usize = 18;

/// One tick of xAI: ten thousand million are one dollar (docs.x.ai, `cost_in_usd_ticks`).
const TICK: u128 = 10_u128.pow(DECIMALS as u32 - 10);

/// An amount in the service's own digits: a non-negative JSON number, or a string of one.
pub(super) fn amount(value: &[u8]) -> Option<Box<str>> {
    let text = value.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(value);
    let is_number = text.first().is_some_and(u8::is_ascii_digit)
        && text.len() <= LIMIT
        && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let text = std::str::from_utf8(text).ok().filter(|_| is_number)?;
    let number: f64 = text.parse().ok()?;
    number.is_finite().then(|| text.into())
}

pub(super) fn from_ticks(ticks: u64) -> Box<str> {
    written(u128::from(ticks) * TICK)
}

/// The exact sum. `None` if an amount has too many digits.
pub(super) fn plus(one: &str, other: &str) -> Option<Box<str>> {
    Some(written(units(one)?.checked_add(units(other)?)?))
}

/// The amount in units of the last decimal.
fn units(text: &str) -> Option<u128> {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let exponent = exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok()?;
    let shift = DECIMALS as i32 - fraction.len() as i32 + exponent;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let power = 10_u128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 { digits.checked_mul(power) } else { digits.is_multiple_of(power).then(|| digits / power) }
}

fn written(units: u128) -> Box<str> {
    let one = 10_u128.pow(DECIMALS as u32);
    let text = format!("{}.{:0DECIMALS$}", units / one, units % one);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amount_keeps_its_digits() {
        for text in ["0", "0.0002444", "2.8e-08", "12.50", "1E+2"] {
            assert_eq!(amount(text.as_bytes()).as_deref(), Some(text));
            assert_eq!(amount(format!("\"{text}\"").as_bytes()).as_deref(), Some(text));
        }
        for none in ["null", "-1", "\"\"", "\"$1\"", "{}", "true", "1e999", "\"1.2.3\"", &"1".repeat(41)] {
            assert_eq!(amount(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn ticks_convert_to_dollars_exactly() {
        for (ticks, dollars) in
            [(0, "0"), (1, "0.0000000001"), (4_852_500, "0.00048525"), (30_000_000_000, "3")]
        {
            assert_eq!(&*from_ticks(ticks), dollars);
        }
    }

    #[test]
    fn amounts_add_exactly() {
        for (one, other, sum) in
            [("0.1", "0.2", Some("0.3")), ("2.8e-08", "1", Some("1.000000028")), ("1", "1e-19", None)]
        {
            assert_eq!(plus(one, other).as_deref(), sum, "{one} {other}");
        }
    }
}
