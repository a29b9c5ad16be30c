//! What a service says that a response cost, in US dollars.

/// The longest amount that is believed, in bytes.
const LIMIT: usize = 40;

/// The decimals of an amount that is computed here.
const DECIMALS: usize = 18;

/// xAI's ticks: ten thousand million of them are one dollar (docs.x.ai, `cost_in_usd_ticks`).
const TICK: u128 = 10_u128.pow(DECIMALS as u32 - 10);

/// An amount as the service wrote it, digit by digit: a JSON number that is not negative, or a
/// string of one.
pub(super) fn amount(value: &[u8]) -> Option<Box<str>> {
    let text = value.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(value);
    let is_number = text.first().is_some_and(u8::is_ascii_digit)
        && text.len() <= LIMIT
        && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let text = std::str::from_utf8(text).ok().filter(|_| is_number)?;
    let number: f64 = text.parse().ok()?;
    number.is_finite().then(|| text.into())
}

/// xAI's ticks as dollars.
pub(super) fn from_ticks(ticks: u64) -> Box<str> {
    written(u128::from(ticks) * TICK)
}

/// Both together, exactly. `None` where one of them has more digits than can be added.
pub(super) fn plus(one: &str, other: &str) -> Option<Box<str>> {
    Some(written(units(one)?.checked_add(units(other)?)?))
}

/// An amount in units of the last decimal.
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
    fn an_amount_stays_as_it_was_written() {
        for text in ["0", "0.0002444", "2.8e-08", "12.50", "1E+2"] {
            assert_eq!(amount(text.as_bytes()).as_deref(), Some(text));
            assert_eq!(amount(format!("\"{text}\"").as_bytes()).as_deref(), Some(text));
        }
        for none in ["null", "-1", "\"\"", "\"$1\"", "{}", "true", "1e999", "\"1.2.3\"", &"1".repeat(41)] {
            assert_eq!(amount(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn ticks_become_dollars_to_the_last_digit() {
        for (ticks, dollars) in
            [(0, "0"), (1, "0.0000000001"), (4_852_500, "0.00048525"), (30_000_000_000, "3")]
        {
            assert_eq!(&*from_ticks(ticks), dollars);
        }
    }

    #[test]
    fn amounts_are_added_exactly() {
        for (one, other, sum) in
            [("0.1", "0.2", Some("0.3")), ("2.8e-08", "1", Some("1.000000028")), ("1", "1e-19", None)]
        {
            assert_eq!(plus(one, other).as_deref(), sum, "{one} {other}");
        }
    }
}
