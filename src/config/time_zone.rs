//! Time zones by their names and offsets.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::{Offset, TimeZone};

/// The accepted forms, for messages.
const FORMS: &str =
    "write UTC, local, a place such as Europe/Berlin (IANA's database), or an offset such as +02:00";

/// Parses `UTC`, `local` (the system's zone), a name of IANA's database, or an offset from UTC.
///
/// # Errors
/// Fails with the mistake in the text, and the right form.
pub fn time_zone(text: &str) -> Result<TimeZone, String> {
    let text = text.trim();
    if text.starts_with(['+', '-']) {
        return offset(text)
            .map(TimeZone::fixed)
            .ok_or_else(|| format!("{text:?} is not an offset: {FORMS}"));
    }
    match text.to_ascii_lowercase().as_str() {
        "utc" | "z" => Ok(TimeZone::UTC),
        "local" => TimeZone::try_system().map_err(|error| format!("the system names no time zone ({error})")),
        _ => TimeZone::get(text).map_err(|_| format!("{text:?} is not a time zone: {FORMS}")),
    }
}

/// `+HH`, `+HHMM` or `+HH:MM`.
fn offset(text: &str) -> Option<Offset> {
    let (sign, digits) = text.split_at(1);
    let digits = digits.replacen(':', "", 1);
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "00"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let number = |text: &str| -> Option<i32> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|minutes| *minutes < 60)?);
    let seconds = hours * 3600 + minutes * 60;
    Offset::from_seconds(if sign == "-" { -seconds } else { seconds }).ok()
}

/// The zone's name, in a form that [`time_zone`] reads; `local` if the system's has none.
pub fn time_zone_name(zone: &TimeZone) -> String {
    if *zone == TimeZone::UTC {
        return "UTC".to_owned();
    }
    match (zone.iana_name(), zone.to_fixed_offset()) {
        (Some(name), _) => name.to_owned(),
        (None, Ok(_)) => {
            let at = Timestamp::UNIX_EPOCH.to_zoned(zone.clone());
            strtime::format("%:z", &at).unwrap_or_else(|_| "local".to_owned())
        }
        (None, Err(_)) => "local".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zone_is_a_place_an_offset_or_a_word() {
        for (text, name) in [
            ("UTC", "UTC"),
            (" utc ", "UTC"),
            ("Europe/Berlin", "Europe/Berlin"),
            ("europe/berlin", "Europe/Berlin"),
            ("+02:00", "+02:00"),
            ("-0330", "-03:30"),
            ("+05", "+05:00"),
        ] {
            assert_eq!(time_zone_name(&time_zone(text).unwrap()), name, "{text}");
        }
    }

    #[test]
    fn time_zone_refuses_other_text_with_the_forms() {
        for text in ["", "Berlin", "Europe/Nowhere", "+2", "+25:99", "+1:60", "+99:00", "+0a:00", "CEST"] {
            let error = time_zone(text).unwrap_err();
            assert!(error.contains("such as Europe/Berlin"), "{text}: {error}");
        }
    }
}
